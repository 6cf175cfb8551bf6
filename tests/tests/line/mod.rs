//! A slow line: what goes through it takes its time, in each direction, whatever the number of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Bytes that are carried at a time.
const PIECE: usize = 1024;
/// What the line's own ends hold, as far as the system lets them: the rest waits where it came from.
const BUFFER: u32 = 16 << 10;

/// One direction: when it is free for the next piece.
#[derive(Clone)]
struct LineDirection {
    bytes_per_second: f64,
    free_at: Arc<Mutex<Instant>>,
}

impl LineDirection {
    fn new(bytes_per_second: f64) -> Self {
        Self { bytes_per_second, free_at: Arc::new(Mutex::new(Instant::now())) }
    }

    async fn carry(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut piece = [0; PIECE];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let through = {
                let mut free_at = self.free_at.lock().await;
                let takes = Duration::from_secs_f64(read as f64 / self.bytes_per_second);
                *free_at = (*free_at).max(Instant::now()) + takes;
                *free_at
            };
            sleep_until(through).await;
            if to.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    }
}

fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    socket
}

/// A line to this address; gives the address of its other end. It is there as long as the test's runtime.
pub(crate) fn slow(to: &str, bytes_per_second: f64) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let listener = socket();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(64).unwrap();
    let here = listener.local_addr().unwrap();
    let (out, back) = (LineDirection::new(bytes_per_second), LineDirection::new(bytes_per_second));
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = socket().connect(to).await else { continue };
            join(near, far, out.clone(), back.clone());
        }
    });
    format!("http://{here}")
}

fn join(near: TcpStream, far: TcpStream, out: LineDirection, back: LineDirection) {
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::spawn(out.carry(near_read, far_write));
    tokio::spawn(back.carry(far_read, near_write));
}
