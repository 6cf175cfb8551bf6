//! Accepts connections, as many as are allowed at once, in total and per peer. Each handshake has a task of its own.
//!
//! A connection that stays anonymous for some seconds is closed, and so is one whose peer reads nothing of what is written
//! to it. The connection checks the time itself, so that nothing of it is left when it ends. If a peer does not read what
//! it asked for, the sender of the response ends the connection ([`Peer::cut`], [`Peer::stuck`]): HTTP/2 would wait for ever.

use super::registry::{ConnectionEntry, ConnectionPermit, ConnectionRegistry, Entered};
use super::{RejectionLog, ServerTls};
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

/// The most connections whose handshake is done and that the server has not taken yet.
const MAX_READY: usize = 64;
/// The time for which a client whose handshake failed may continue to write, and the bytes that it may write.
const PARTING: Duration = Duration::from_secs(2);
const PARTING_BYTES: u64 = 64 << 10;
/// The wait after a failed accept, for example because there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    entry: Arc<ConnectionEntry>,
    rejections: Arc<RejectionLog>,
}

impl Peer {
    /// Ends the connection at once, with all its streams.
    pub(crate) fn cut(&self) {
        self.entry.cut.cancel();
    }

    /// Ends the connection because its peer does not read what is sent, and logs that.
    pub(crate) fn stuck(&self) {
        self.rejections.log(
            self.address,
            "silence",
            "the peer does not read what it asked for; its connection is closed",
        );
        self.cut();
    }

    /// Lets the connection stay: the peer has shown a valid token, or there is no access control.
    pub(super) fn prove(&self) {
        self.entry.prove();
    }

    /// Returns what counts as one peer: the address, or its network for IPv6.
    pub(super) fn network(&self) -> IpAddr {
        self.entry.network
    }
}

/// An accepted connection and its permit.
pub(crate) struct Connection {
    stream: Transport,
    peer: Peer,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The time until which it may stay anonymous; `None` once it is not.
    anonymous: Option<Pin<Box<Sleep>>>,
    /// The time until which the peer must read something; `None` while it reads.
    stalled: Option<Pin<Box<Sleep>>>,
    silence: Duration,
    _permit: ConnectionPermit,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts connections.
struct Acceptor {
    tls: Option<Arc<ServerTls>>,
    limits: Limits,
    rejections: Arc<RejectionLog>,
    connections: Arc<ConnectionRegistry>,
}

/// Returns connections whose handshakes are done, as they come, until `stop`.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: &Limits,
    rejections: Arc<RejectionLog>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let acceptor = Acceptor { tls, limits: limits.clone(), rejections, connections: ConnectionRegistry::new(limits) };
    let (sender, receiver) = mpsc::channel(MAX_READY);
    tokio::spawn(Arc::new(acceptor).accept_all(listener, sender, stop));
    ReceiverStream::new(receiver)
}

impl Acceptor {
    async fn accept_all(
        self: Arc<Self>,
        listener: TcpListener,
        ready: mpsc::Sender<io::Result<Connection>>,
        stop: CancellationToken,
    ) {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, from)) => self.clone().take(stream, from, &ready, &stop),
                Err(problem) => {
                    self.rejections.log(IpAddr::from([0; 4]), "accept", &problem);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Continues with one connection on a task of its own. Without a permit it is closed by being dropped.
    fn take(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        ready: &mpsc::Sender<io::Result<Connection>>,
        stop: &CancellationToken,
    ) {
        let address = from.ip().to_canonical();
        let Some(permit) = self.register(address) else { return };
        let ready = ready.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let connecting = self.connect(stream, address, permit, ready);
            stop.run_until_cancelled(connecting).await;
        });
    }

    fn register(&self, address: IpAddr) -> Option<ConnectionPermit> {
        match self.connections.enter(address, Instant::now()) {
            Ok(Entered { permit, instead_of }) => {
                if let Some((ended, full)) = instead_of {
                    self.rejections.log(ended, full.limit(), full.message(&self.limits));
                }
                Some(permit)
            }
            Err(full) => {
                self.rejections.log(address, full.limit(), full.message(&self.limits));
                None
            }
        }
    }

    async fn connect(
        &self,
        stream: TcpStream,
        address: IpAddr,
        permit: ConnectionPermit,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let within = Duration::from_secs_f64(self.limits.first_request_seconds);
        let peer = Peer { address, entry: permit.0.clone(), rejections: self.rejections.clone() };
        drop(stream.set_nodelay(true));
        let stream = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let handshake = peer.entry.cut.run_until_cancelled(timeout(within, tls.accept(stream)));
                match handshake.await {
                    Some(Ok(Ok(stream))) => Transport::Tls(Box::new(stream)),
                    Some(Ok(Err((problem, stream)))) => {
                        self.rejections.log(address, cause(&problem), problem);
                        return part(stream).await;
                    }
                    Some(Err(_)) => return debug!(%address, "the TLS handshake took too long"),
                    None => return debug!(%address, "the connection gave way to another"),
                }
            }
        };
        let connection = Connection {
            stream,
            ended: Box::pin(peer.entry.cut.clone().cancelled_owned()),
            peer,
            anonymous: Some(Box::pin(sleep(within))),
            stalled: None,
            silence: Duration::from_secs_f64(self.limits.silence_seconds),
            _permit: permit,
        };
        // The task ends here: tasks that waited for their connections would outlive those that end soon.
        drop(ready.send(Ok(connection)).await);
    }
}

/// Lets a client read why its handshake failed: closing while it still writes would discard the alert.
async fn part(mut stream: TcpStream) {
    drop(stream.shutdown().await);
    let mut unread = stream.take(PARTING_BYTES);
    drop(timeout(PARTING, tokio::io::copy(&mut unread, &mut tokio::io::sink())).await);
}

/// The cause of a failed handshake, for the log.
fn cause(problem: &io::Error) -> &'static str {
    use tokio_rustls::rustls::{CertificateError as Certificate, Error};
    match problem.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => "TLS: no client certificate",
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer)) => {
            "TLS: client certificate of an unknown authority"
        }
        Some(Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. })) => {
            "TLS: expired client certificate"
        }
        Some(Error::InvalidCertificate(_)) => "TLS: invalid client certificate",
        Some(Error::AlertReceived(_)) => "TLS: the client rejected the server",
        Some(Error::InvalidMessage(_)) => "TLS: the client does not speak TLS",
        _ => "TLS: the handshake was aborted",
    }
}

fn aborted(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, what)
}

impl Connection {
    /// Fails if the connection was ended, or was anonymous for too long.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.ended.as_mut().poll(context).is_ready() {
            return Err(aborted("the connection was ended"));
        }
        if self.peer.entry.is_proven() {
            self.anonymous = None;
        }
        if let Some(anonymous) = &mut self.anonymous
            && anonymous.as_mut().poll(context).is_ready()
        {
            debug!(peer = %self.peer.address, "the peer has shown no token in time: its connection is closed");
            self.peer.cut();
            return Err(aborted("no token was shown in time"));
        }
        Ok(())
    }

    /// Passes the outcome of a write on; fails if the peer has read nothing for too long.
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
        Poll::Ready(Err(aborted("the peer does not read")))
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
        self.check(cx)?;
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let written = match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.written(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
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
        self.check(cx)?;
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
