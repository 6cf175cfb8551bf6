//! A cluster of the built programs on loopback, for tests that look at the whole.
//!
//! Real processes, real gRPC, a temporary folder; everything is killed when the cluster is dropped. Deliberately
//! absent: anything that reaches into a program instead of talking to it.

pub mod postgres;
pub mod s3;
pub mod store_proxy;
pub mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The specs of the repository.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// Published results; `tests/data/README.md` says whose.
pub fn published(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/published").join(name)
}

/// A built program, beside the test that asks.
///
/// # Panics
/// When it is not there: `cargo test` does not build other packages' programs.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows where it is");
    let path = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins` or `cargo xtask test`",
        path.display()
    );
    path
}

/// A command of a built program in a clean `NADGRID_` environment.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("NADGRID_")) {
        command.env_remove(variable);
    }
    command
}

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// Sends a signal by its name, for example `TERM`.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.reap();
    }

    fn reap(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }

    /// Its exit code, once it has ended.
    ///
    /// # Panics
    /// When it has not ended after `patience`.
    pub fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                return status.code();
            }
            assert!(started.elapsed() < patience, "the process goes on after {patience:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The most memory it has had resident, in bytes.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it is alive");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    /// The processor time that it has had, its own and the kernel's for it, in seconds.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it is alive");
        let after = stat.rsplit_once(')').expect("a name in brackets").1;
        let ticks = after.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks"));
        // Linux counts in hundredths of a second whatever the kernel's own tick is.
        ticks.sum::<f64>() / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
    }
}

/// A coordinator with its workers.
pub struct Cluster {
    folder: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    coordinator: Option<Process>,
    /// Where the coordinator listens.
    pub url: String,
    /// Its workers.
    pub workers: Vec<Process>,
}

impl Cluster {
    /// A coordinator with these further arguments, and no workers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with::<&str>(arguments, &[])
    }

    /// The same, where the coordinator also has these environment variables.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with<T: AsRef<str>>(arguments: &[&str], variables: &[(T, T)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let variables =
            variables.iter().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())).collect();
        let (url, workers) = (String::new(), Vec::new());
        let mut cluster = Self { folder, arguments, variables, coordinator: None, url, workers };
        cluster.start_coordinator("127.0.0.1:0");
        cluster
    }

    /// As [`Cluster::start`], on an address of this machine.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_at(listen: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let (variables, url, workers) = (Vec::new(), String::new(), Vec::new());
        let mut cluster = Self { folder, arguments, variables, coordinator: None, url, workers };
        cluster.start_coordinator(listen);
        cluster
    }

    fn start_coordinator(&mut self, listen: &str) {
        let mut command = command("nadgrid-coordinator");
        command.envs(self.variables.iter().cloned());
        command.arg("--data").arg(self.folder.path().join("data")).arg("--listen").arg(listen).args(&self.arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(self.log("coordinator")).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        self.coordinator = Some(Process(child));
        self.url = url.unwrap_or_else(|| panic!("the coordinator did not start: {}", self.logs()));
    }

    /// The coordinator's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self, name: &str) -> std::fs::File {
        let path = self.folder.path().join(format!("{name}.log"));
        std::fs::File::options().create(true).append(true).open(path).expect("a log")
    }

    /// What all programs have logged.
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "log"));
        logs.map(|path| format!("== {}\n{}", path.display(), std::fs::read_to_string(&path).unwrap_or_default()))
            .collect()
    }

    /// Starts a worker with these further arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_worker(&mut self, arguments: &[&str]) {
        self.add_worker_by(command("nadgrid-worker"), arguments);
    }

    /// Starts a worker by a command that ends with the worker's program.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_worker_by(&mut self, mut command: Command, arguments: &[&str]) {
        command.args(["--coordinator", &self.url, "--device", "cpu"]).args(arguments);
        let log = self.log(&format!("worker-{}", self.workers.len()));
        self.workers.push(Process(command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts")));
    }

    /// Kills the coordinator as a crash would, and starts it again on the same port and data.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn crash_coordinator(&mut self) {
        self.kill_coordinator();
        self.revive_coordinator();
    }

    /// Kills the coordinator as a crash would.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.take().into_iter().for_each(Process::kill);
    }

    /// Starts a killed coordinator again, on the same port and data.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn revive_coordinator(&mut self) {
        let listen = self.address().to_owned();
        self.start_coordinator(&listen);
    }

    /// The coordinator's process.
    ///
    /// # Panics
    /// Never: there always is one.
    pub fn coordinator(&mut self) -> &mut Process {
        self.coordinator.as_mut().expect("started")
    }

    /// Runs `nadgrid` on this cluster to its end.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn nadgrid(&self, arguments: &[&str]) -> Output {
        let mut command = command("nadgrid");
        command.args(["--coordinator", &self.url]).args(arguments).output().expect("nadgrid runs")
    }

    /// Runs `nadgrid`, which must succeed; returns what it prints.
    ///
    /// # Panics
    /// When it fails, with all logs.
    pub fn nadgrid_ok(&self, arguments: &[&str]) -> String {
        let output = self.nadgrid(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "nadgrid {arguments:?} failed: {err}\n{}", self.logs());
        out.trim().to_owned()
    }

    /// Submits an example with changed keys; returns the sweep's id.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit(&self, spec: &str, overrides: &[&str]) -> String {
        let path = example(spec);
        let mut arguments = vec!["submit", path.to_str().expect("UTF-8")];
        arguments.extend(overrides.iter().flat_map(|o| ["--set", o]));
        self.nadgrid_ok(&arguments)
    }

    /// A sweep as `nadgrid status --json` shows it.
    ///
    /// # Panics
    /// When there is no such sweep.
    pub fn status(&self, id: &str) -> serde_json::Value {
        serde_json::from_str(&self.nadgrid_ok(&["status", id, "--json"])).expect("JSON")
    }

    /// Waits until `reached` holds of a sweep's status.
    ///
    /// # Panics
    /// When it does not within two minutes.
    pub fn wait(&self, id: &str, reached: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let started = Instant::now();
        loop {
            let status = self.status(id);
            if reached(&status) {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "still {status:#}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a sweep's end; returns its digest.
    ///
    /// # Panics
    /// When it does not complete.
    pub fn digest(&self, id: &str) -> String {
        let status = self.wait(id, |s| !["queued", "running"].contains(&s["state"].as_str().unwrap_or_default()));
        assert_eq!(status["state"], "complete", "{status:#}\n{}", self.logs());
        status["digest"].as_str().expect("a digest").to_owned()
    }

    /// The coordinator's host and port.
    ///
    /// # Panics
    /// Never: a URL has both.
    pub fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    /// A metric of the coordinator: the sum of its series whose labels hold `labels`.
    ///
    /// # Panics
    /// When the coordinator does not answer.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let mut stream = TcpStream::connect(self.address()).expect("the coordinator is there");
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in text");
        let of_name = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(labels);
        answer.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the logs of all programs hold `words`.
    ///
    /// # Panics
    /// When they do not within a minute.
    pub fn wait_for_log(&self, words: &str) {
        let started = Instant::now();
        while !self.logs().contains(words) {
            assert!(started.elapsed() < Duration::from_secs(60), "nobody said {words:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Networks and runs that are committed, of all jobs of a sweep's status.
pub fn members_done(status: &serde_json::Value) -> u64 {
    status["jobs"].as_array().into_iter().flatten().filter_map(|job| job["members_done"].as_u64()).sum()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
