//! What stands between workers and a store, and does what a test wants: lets requests through, refuses them, cuts them, slows them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that are carried at once.
const PIECE: usize = 16 << 10;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// It is let through.
    Open,
    /// It is read, and answered with this status and these words.
    Refuse(u16, &'static str),
    /// Its connection ends in the middle of the body, or before the answer.
    Cut,
    /// It is let through, with a pause after each piece of its body.
    Slow(Duration),
}

/// A proxy on a port of this machine, as long as the test's process lives.
pub struct StoreProxy {
    port: u16,
    state: Arc<ProxyState>,
}

struct ProxyState {
    store: String,
    /// What becomes of the next requests, one each.
    next: Mutex<VecDeque<ProxyMode>>,
    /// What becomes of those after them.
    always: Mutex<ProxyMode>,
    requests: AtomicUsize,
}

impl StoreProxy {
    /// Before the store at this address, `HOST:PORT`; open.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn before(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (next, always) = (Mutex::default(), Mutex::new(ProxyMode::Open));
        let state = Arc::new(ProxyState { store: store.to_owned(), next, always, requests: AtomicUsize::new(0) });
        let served = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let served = served.clone();
                // A connection that breaks is what was asked for, or the other side's affair.
                std::thread::spawn(move || drop(served.serve(near)));
            }
        });
        Self { port, state }
    }

    /// The URL at which it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What becomes of all requests from now on.
    pub fn set(&self, mode: ProxyMode) {
        *self.state.always.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// What becomes of the next requests, one each, before that.
    pub fn queue(&self, modes: &[ProxyMode]) {
        self.state.next.lock().unwrap_or_else(PoisonError::into_inner).extend(modes);
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl ProxyState {
    fn mode(&self) -> ProxyMode {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.unwrap_or_else(|| *self.always.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One request a connection.
    fn serve(&self, mut near: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut piece = vec![0; PIECE];
        let end = loop {
            let read = near.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&piece[..read]);
            if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let begun = request.split_off(end);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
        });
        let rest = length.unwrap_or(0).saturating_sub(begun.len());
        match self.mode() {
            ProxyMode::Open => self.forward(near, &head, &begun, rest, Duration::ZERO),
            ProxyMode::Slow(pause) => self.forward(near, &head, &begun, rest, pause),
            ProxyMode::Cut => Ok(()),
            ProxyMode::Refuse(status, words) => {
                carry(&mut near, &mut std::io::sink(), rest, Duration::ZERO)?;
                let length = words.len();
                let answer =
                    format!("HTTP/1.1 {status} No\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}");
                near.write_all(answer.as_bytes())
            }
        }
    }

    fn forward(
        &self,
        mut near: TcpStream,
        head: &str,
        begun: &[u8],
        rest: usize,
        pause: Duration,
    ) -> std::io::Result<()> {
        let mut far = TcpStream::connect(&self.store)?;
        let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head = kept.map(|line| format!("{line}\r\n")).collect::<String>();
        far.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        far.write_all(begun)?;
        carry(&mut near, &mut far, rest, pause)?;
        std::io::copy(&mut far, &mut near).map(drop)
    }
}

fn carry(from: &mut impl Read, to: &mut impl Write, bytes: usize, pause: Duration) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(PIECE);
        let read = from.read(&mut piece[..most])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&piece[..read])?;
        std::thread::sleep(pause);
        left -= read;
    }
    Ok(())
}
