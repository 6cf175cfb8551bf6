//! A PostgreSQL of a test's own, from Debian's package, in a temporary folder and on a free port.
//!
//! It does not run as root: root starts it as the package's user. Deliberately absent: any other server that may run here.

use crate::text;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Its only user, who has a password so that tests see where one would show.
const USER: &str = "nadgrid";
/// The password.
pub const PASSWORD: &str = "correct-horse";
const PATIENCE: Duration = Duration::from_secs(60);

/// How to end the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// In order, without waiting for clients.
    Fast,
    /// As a crash would: it recovers when it starts again.
    Immediate,
}

/// A server. It ends, and its data with it, when it is dropped.
pub struct Postgres {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a database cluster and starts a server on it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not come up.
    pub fn start() -> Self {
        // Nothing here outlives the machine, and flushing is most of what a test would wait for.
        Self::start_with(&["-c", "fsync=off"])
    }

    /// The same, with these options of the server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not come up.
    pub fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("written");
        if let Some((user, group)) = other_user() {
            for path in [folder.path(), &password] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may");
            }
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { folder, port, options, server: None };
        let mut initdb = server.program("initdb");
        initdb.arg("-D").arg(server.data()).arg("--pwfile").arg(password);
        initdb.args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]);
        let made = initdb.output().expect("initdb runs");
        assert!(made.status.success(), "initdb failed: {}", text(&made.stderr));
        server.start_again();
        server
    }

    /// The URL of its first database, password included.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// The same over the server's Unix socket.
    pub fn socket_url(&self) -> String {
        format!("{}?host={}", self.url(), self.folder.path().display())
    }

    /// Ends the server and keeps its data.
    ///
    /// # Panics
    /// When it cannot be told, or goes on for a minute.
    pub fn stop(&mut self, how: Stop) {
        let Some(mut server) = self.server.take() else { return };
        let signal = if how == Stop::Fast { "-INT" } else { "-QUIT" };
        let told = Command::new("kill").arg(signal).arg(server.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        let started = Instant::now();
        while server.try_wait().expect("it can be waited for").is_none() {
            assert!(started.elapsed() < PATIENCE, "PostgreSQL goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the server on the data it had; returns when it answers.
    ///
    /// # Panics
    /// When it does not come up within a minute.
    pub fn start_again(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path()).args(&self.options);
        server.args(["-c", "listen_addresses=127.0.0.1", "-p", &self.port.to_string()]);
        server.stdout(Stdio::null()).stderr(log.expect("a log"));
        self.server = Some(server.spawn().expect("postgres starts"));
        let started = Instant::now();
        while !self.answers() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "PostgreSQL does not answer: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops and starts it.
    ///
    /// # Panics
    /// As [`Postgres::stop`] and [`Postgres::start_again`].
    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Sends the server and all its processes a signal by its name, for example `STOP`: they are one process group.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("it runs").id();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
        let all = children.split_whitespace().map(str::to_owned).chain([server.to_string()]);
        // A child may have ended meanwhile.
        drop(Command::new("kill").arg(format!("-{name}")).args(all).stderr(Stdio::null()).status());
    }

    /// Runs SQL, as its user; returns what it prints, unaligned.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, sql: &str) -> String {
        let psql =
            self.program("psql").args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url()]).output();
        let psql = psql.expect("psql runs");
        assert!(psql.status.success(), "{sql}: {}", text(&psql.stderr));
        text(&psql.stdout).trim().to_owned()
    }

    fn answers(&self) -> bool {
        let port = self.port.to_string();
        let mut ask = self.program("pg_isready");
        ask.args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|status| status.success())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PG")) {
            command.env_remove(variable);
        }
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // A stopped process answers to nothing else. The others of its family notice that it is gone.
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// Where Debian puts the programs of the newest release.
///
/// # Panics
/// When they are not there.
fn programs() -> PathBuf {
    let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let release = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let found = releases.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").is_file());
    let newest = found.max_by_key(|path| release(path)).map(|path| path.join("bin"));
    newest.unwrap_or_else(|| {
        panic!("PostgreSQL is not installed: `cargo xtask test` installs it or says how (Debian's package postgresql)")
    })
}

/// For root, the user and group of the package, else those of nobody.
fn other_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("id runs");
        text(&output.stdout).trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let of = |user| Some((id(&["-u", user])?, id(&["-g", user])?));
    Some(of("postgres").or_else(|| of("nobody")).expect("a user other than root"))
}
