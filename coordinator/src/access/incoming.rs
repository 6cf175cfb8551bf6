//! Connections: as many as are allowed at once, altogether and per peer; each does its handshake on a task of its own.
//!
//! A connection that stays anonymous for some seconds is closed, and so is one that takes nothing of what is written to it: it
//! looks at the time itself, so that nothing is left of it when it is over. One that does not take what it asked for is cut by
//! whoever waits for it ([`Peer::cut`], [`Peer::stuck`]): HTTP/2 itself would wait for ever.

use super::connections::{Connections, Entered, Place, Seat};
use super::{Acceptor, Refusals};
use crate::limits::Limits;
use futures::Stream;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout};
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
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    seat: Arc<Seat>,
    refusals: Arc<Refusals>,
}

impl Peer {
    /// Ends the connection at once, with all its streams.
    pub(crate) fn cut(&self) {
        self.seat.cut.cancel();
    }

    /// The peer does not take what is sent: ends the connection, and logs it.
    pub(crate) fn stuck(&self) {
        self.refusals.log(self.address, "silence", "it does not take what it asked for: its connection is cut");
        self.cut();
    }

    /// The peer has shown a valid token, or asked something that it may ask where there are none: the connection may stay.
    pub(super) fn prove(&self) {
        self.seat.prove();
    }

    /// What is counted as one peer: the address, of IPv6 its network.
    pub(super) fn network(&self) -> IpAddr {
        self.seat.network
    }
}

/// An accepted connection, with its place among the others.
pub(crate) struct Connection {
    stream: Transport,
    peer: Peer,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until when it may stay anonymous; none once it is not.
    anonymous: Option<Pin<Box<Sleep>>>,
    /// Until when the peer must take something, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    silence: Duration,
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
    connections: Arc<Connections>,
}

/// Connections as they come, handshakes done, until `stop`.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: &Limits,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let gatehouse = Gatehouse { tls, limits: limits.clone(), refusals, connections: Connections::new(limits) };
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
                    sleep(PAUSE).await;
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
        let (place, refused) = match self.connections.enter(address, Instant::now()) {
            Ok(Entered { place, instead_of }) => (Some(place), instead_of),
            Err(full) => (None, Some((address, full))),
        };
        if let Some((whose, full)) = refused {
            self.refusals.log(whose, full.limit(), full.message(&self.limits));
        }
        place
    }

    async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
        place: Place,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let within = Duration::from_secs_f64(self.limits.first_request_seconds);
        let peer = Peer { address, seat: place.0.clone(), refusals: self.refusals.clone() };
        drop(stream.set_nodelay(true));
        let stream = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let handshake = peer.seat.cut.run_until_cancelled(timeout(within, tls.accept(stream)));
                match handshake.await {
                    Some(Ok(Ok(stream))) => Transport::Tls(Box::new(stream)),
                    Some(Ok(Err((problem, stream)))) => {
                        self.refusals.log(address, cause(&problem), problem);
                        return part(stream).await;
                    }
                    Some(Err(_)) => return debug!(%address, "no TLS handshake in time"),
                    None => return debug!(%address, "the connection gives way to another"),
                }
            }
        };
        let connection = Connection {
            stream,
            ended: Box::pin(peer.seat.cut.clone().cancelled_owned()),
            peer,
            anonymous: Some(Box::pin(sleep(within))),
            stalled: None,
            silence: Duration::from_secs_f64(self.limits.silence_seconds),
            _place: place,
        };
        // Nothing of it stays here: a task that waited on would outlive many connections that were soon over.
        drop(ready.send(Ok(connection)).await);
    }
}

/// Lets a client read why its handshake failed. To close while it still writes would discard what it was told.
async fn part(mut stream: TcpStream) {
    drop(stream.shutdown().await);
    let mut unread = stream.take(PARTING_BYTES);
    drop(timeout(PARTING, tokio::io::copy(&mut unread, &mut tokio::io::sink())).await);
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

fn aborted(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, what)
}

impl Connection {
    /// Fails when the connection was cut, or was anonymous for too long.
    fn is_over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Err(aborted("the connection was cut"));
        }
        if self.peer.seat.is_proven() {
            self.anonymous = None;
        }
        if let Some(anonymous) = &mut self.anonymous
            && anonymous.as_mut().poll(context).is_ready()
        {
            debug!(peer = %self.peer.address, "it has shown no token in time: the connection is closed");
            self.peer.cut();
            return Err(aborted("the connection has shown no token in time"));
        }
        Ok(())
    }

    /// What came of writing; fails when the peer has taken nothing for too long.
    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let silence = self.silence;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(silence)));
        if stalled.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.peer.stuck();
        Poll::Ready(Err(aborted("the peer takes nothing")))
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
        self.is_over(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_over(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.written(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_over(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
