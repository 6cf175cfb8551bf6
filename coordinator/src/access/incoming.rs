//! Connections: as many as are allowed at once, altogether and per peer; each does its handshake on a task of its own.
//!
//! A connection that has asked nothing acceptable after some seconds is closed, so that silence holds no place. One that
//! does not take what it asked for is cut by whoever waits for it ([`Peer::cut`]): HTTP/2 itself would wait for ever.

use super::{Acceptor, Refusals};
use crate::limits::Limits;
use futures::Stream;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::debug;

/// Connections whose handshake is done and that the server has not taken yet.
const READY: usize = 64;
/// How long a client whose handshake failed may go on writing, and how many bytes.
const PARTING: Duration = Duration::from_secs(2);
const PARTING_BYTES: u64 = 64 << 10;
/// The wait after an accept that failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    cut: CancellationToken,
    proven: Arc<AtomicBool>,
}

impl Peer {
    fn new(address: IpAddr) -> Self {
        Self { address, cut: CancellationToken::new(), proven: Arc::default() }
    }

    /// Ends the connection at once, with all its streams.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// The peer has asked something that it may ask: the connection may stay.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }
}

/// An accepted connection, with its place among the others.
pub(crate) struct Connection {
    stream: Transport,
    peer: Peer,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What everything about connections shares.
struct Gatehouse {
    tls: Option<Arc<Acceptor>>,
    limits: Limits,
    refusals: Arc<Refusals>,
    places: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place among all connections and among the peer's; free again when dropped.
struct Place {
    _of_all: OwnedSemaphorePermit,
    address: IpAddr,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let left = peers.get(&self.address).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            peers.remove(&self.address)
        } else {
            peers.insert(self.address, left)
        };
    }
}

/// Connections as they come, handshakes done, until `stop`.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: &Limits,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let gatehouse = Gatehouse { tls, limits: limits.clone(), refusals, places, peers: Arc::default() };
    let (sender, receiver) = mpsc::channel(READY);
    tokio::spawn(Arc::new(gatehouse).keep(listener, sender, stop));
    ReceiverStream::new(receiver)
}

impl Gatehouse {
    async fn keep(
        self: Arc<Self>,
        listener: TcpListener,
        ready: mpsc::Sender<io::Result<Connection>>,
        stop: CancellationToken,
    ) {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, from)) => self.clone().take(stream, from, &ready, &stop),
                Err(problem) => {
                    self.refusals.log(IpAddr::from([0; 4]), "accept", &problem);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Goes on with one connection on a task of its own; without a place it is closed by being dropped.
    fn take(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        ready: &mpsc::Sender<io::Result<Connection>>,
        stop: &CancellationToken,
    ) {
        let address = from.ip().to_canonical();
        let Some(place) = self.place(address) else { return };
        let (ready, stop) = (ready.clone(), stop.clone());
        tokio::spawn(async move {
            let connecting = self.connect(stream, address, place, ready);
            stop.run_until_cancelled(connecting).await;
        });
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        let Ok(of_all) = self.places.clone().try_acquire_owned() else {
            let what = format!("all {} connections are taken", self.limits.connections);
            self.refusals.log(address, "connections", what);
            return None;
        };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(address).or_default();
        if *count >= self.limits.connections_per_peer {
            let what = format!("it has {count} connections, the most that one peer may have");
            self.refusals.log(address, "connections_per_peer", what);
            return None;
        }
        *count += 1;
        Some(Place { _of_all: of_all, address, peers: self.peers.clone() })
    }

    async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
        place: Place,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let within = Duration::from_secs_f64(self.limits.first_request_seconds);
        drop(stream.set_nodelay(true));
        let stream = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => match tokio::time::timeout(within, tls.accept(stream)).await {
                Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
                Ok(Err((problem, stream))) => {
                    self.refusals.log(address, cause(&problem), problem);
                    return part(stream).await;
                }
                Err(_) => return debug!(%address, "no TLS handshake in time"),
            },
        };
        let peer = Peer::new(address);
        let ended = Box::pin(peer.cut.clone().cancelled_owned());
        let connection = Connection { stream, peer: peer.clone(), ended, _place: place };
        if ready.send(Ok(connection)).await.is_err() {
            return;
        }
        // A cut connection is no longer waited for.
        let silent = peer.cut.run_until_cancelled(tokio::time::sleep(within)).await.is_some();
        if silent && !peer.proven.load(Ordering::Relaxed) {
            debug!(%address, "no acceptable request in time: the connection is closed");
            peer.cut();
        }
    }
}

/// Lets a client read why its handshake failed. To close while it still writes would discard what it was told.
async fn part(mut stream: TcpStream) {
    drop(stream.shutdown().await);
    let mut unread = stream.take(PARTING_BYTES);
    drop(tokio::time::timeout(PARTING, tokio::io::copy(&mut unread, &mut tokio::io::sink())).await);
}

/// What the log calls a handshake that failed.
fn cause(problem: &io::Error) -> &'static str {
    use tokio_rustls::rustls::{CertificateError as Certificate, Error};
    match problem.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => "TLS: no client certificate",
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer)) => "TLS: a client certificate of another authority",
        Some(Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. })) => {
            "TLS: an expired client certificate"
        }
        Some(Error::InvalidCertificate(_)) => "TLS: an invalid client certificate",
        Some(Error::AlertReceived(_)) => "TLS: the client does not accept us",
        Some(Error::InvalidMessage(_)) => "TLS: the client speaks something else",
        _ => "TLS: the handshake broke off",
    }
}

impl Connection {
    fn is_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_cut(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_cut(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_cut(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_cut(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_cut(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
