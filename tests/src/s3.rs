//! A server that speaks S3, of a test's own: moto, a Python package, kept in the cache folder by `cargo xtask test`.

use crate::Process;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The bucket that is there from the beginning.
pub const BUCKET: &str = "nadgrid-tests";
/// Names the folder of moto, for those that keep it elsewhere.
const FOLDER: &str = "MOTO_PACKAGES";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with one bucket. What it holds is gone when it is dropped.
pub struct S3 {
    port: u16,
    _server: Process,
}

impl S3 {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// When moto is not there or does not come up.
    pub fn start() -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let mut python = Command::new("python3");
        python.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]).env("PYTHONPATH", packages());
        // Objects beyond this are files: what a benchmark stores is more than memory.
        python.env("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", (1 << 20).to_string());
        python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Process(python.spawn().expect("python3 starts"));
        let s3 = Self { port, _server: server };
        let started = Instant::now();
        while !s3.make_bucket() {
            assert!(started.elapsed() < PATIENCE, "moto does not answer: run `cargo xtask test`, which installs it");
            std::thread::sleep(Duration::from_millis(100));
        }
        s3
    }

    /// A store in its bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The environment that leads to it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let variables = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "tests"),
            ("AWS_SECRET_ACCESS_KEY", "tests"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// Its host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The environment that leads to it by another address.
    pub fn variables_by(&self, url: &str) -> Vec<(String, String)> {
        let by = |(name, value): (String, String)| {
            if name == "AWS_ENDPOINT" { (name, url.to_owned()) } else { (name, value) }
        };
        self.variables().into_iter().map(by).collect()
    }

    /// Replaces an object behind everybody's back.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn overwrite(&self, key: &str, bytes: &[u8]) {
        assert_eq!(self.put(&format!("/{BUCKET}/{key}"), bytes), Some(200), "{key}");
    }

    fn make_bucket(&self) -> bool {
        self.put(&format!("/{BUCKET}"), &[]) == Some(200)
    }

    /// moto checks no signature, and takes a request without one for a stranger's.
    fn put(&self, path: &str, bytes: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let signature =
            "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {signature}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(bytes).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }
}

/// The folder of moto.
///
/// # Panics
/// When there is none.
fn packages() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable(FOLDER) {
        return folder;
    }
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let cache = variable("NADGRID_CACHE").or_else(|| Some(caches?.join("nadgrid")));
    let inside = cache.into_iter().flat_map(|cache| std::fs::read_dir(cache).into_iter().flatten().flatten());
    let moto = |name: &str| name.starts_with("moto-");
    let found = inside.filter(|entry| entry.file_name().to_str().is_some_and(moto)).map(|entry| entry.path()).max();
    found.unwrap_or_else(|| panic!("moto, the S3 server of the tests, is not installed: run `cargo xtask test`"))
}
