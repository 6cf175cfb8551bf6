//! How far a sweep is and how long it will take: every client shows the numbers of the coordinator, and these are true.

use nadgrid_tests::{Cluster, command, members_done};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Blocks that take a slot seconds: between them nothing happens, and all clients can be asked at one moment.
const LONG_BLOCKS: [&str; 2] = ["nads.networks=65536", "nads.block_size=1024"];
/// Heartbeats are a fifth of it, and they make time pass.
const LONG_LEASES: [&str; 4] = ["--most-shard-blocks", "1", "--lease-ttl", "60"];

/// `nadgrid watch --json` and its last line.
struct WatchProcess {
    child: Child,
    last: Arc<Mutex<Value>>,
}

impl WatchProcess {
    fn start(cluster: &Cluster, id: &str) -> Self {
        let mut command = command("nadgrid");
        command.args(["--coordinator", &cluster.url, "watch", id, "--json"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = Arc::new(Mutex::new(Value::Null));
        let seen = last.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *seen.lock().unwrap() = serde_json::from_str(&line).unwrap();
            }
        });
        Self { child, last }
    }

    fn last(&self) -> Value {
        self.last.lock().unwrap().clone()
    }
}

impl Drop for WatchProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The answer to a GET of the page's interface or of the metrics.
fn get(cluster: &Cluster, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", cluster.address());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// A sweep's entry in a list of sweeps.
fn entry(sweeps: &Value, id: &str) -> Value {
    let found = sweeps.as_array().into_iter().flatten().find(|sweep| sweep["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {sweeps:#}")).clone()
}

/// The value of a sweep's gauge.
fn gauge(metrics: &str, name: &str, id: &str) -> f64 {
    let start = format!("{name}{{");
    let line = metrics.lines().find(|line| line.starts_with(&start) && line.contains(&format!("sweep=\"{id}\"")));
    line.unwrap_or_else(|| panic!("no {name} of {id}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Progress and time left.
fn numbers(sweep: &Value) -> [f64; 2] {
    ["progress", "seconds_left"].map(|key| sweep[key].as_f64().unwrap_or(f64::NAN))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_client_shows_the_same_progress_and_time_left() {
    let mut cluster = Cluster::start(&LONG_LEASES);
    let id = cluster.submit("lenet.toml", &LONG_BLOCKS);
    let watching = WatchProcess::start(&cluster, &id);
    cluster.add_worker(&["--slots", "1"]);
    cluster.wait(&id, |status| members_done(status) > 0);
    let started = Instant::now();
    loop {
        // What is the same before and after has not changed between.
        let before = numbers(&cluster.status(&id));
        let list = numbers(&entry(&json(&cluster.nadgrid_ok(&["list", "--json"])), &id));
        let top = numbers(&entry(&json(&cluster.nadgrid_ok(&["top", "--json"]))["sweeps"], &id));
        let page = numbers(&json(&get(&cluster, &format!("/api/sweeps/{id}"))));
        let page_list = numbers(&entry(&json(&get(&cluster, "/api/sweeps"))["sweeps"], &id));
        let metrics = get(&cluster, "/metrics");
        let metrics =
            ["nadgrid_sweep_progress_ratio", "nadgrid_sweep_seconds_left"].map(|name| gauge(&metrics, name, &id));
        let watch = watching.last();
        let after = numbers(&cluster.status(&id));
        if before == after {
            assert!(before[0] > 0.0 && before[0] < 1.0 && before[1] > 0.0, "{before:?}");
            assert_eq!([list, top, page, page_list, metrics], [before; 5]);
            // Who follows hears of what has passed within seconds.
            if numbers(&watch) == before {
                break;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no moment at which all agree: {watch:#}\n{before:?}");
    }
    let shown = cluster.nadgrid_ok(&["list"]);
    assert!(shown.lines().next().is_some_and(|head| head.contains("progress") && head.contains("left")), "{shown}");
    cluster.nadgrid_ok(&["pause", &id]);
    let paused = cluster.status(&id);
    assert!(
        paused["seconds_left"].is_null() && paused["notices"][0].as_str().unwrap().contains("paused"),
        "{paused:#}"
    );
    assert!(cluster.nadgrid_ok(&["status", &id]).contains("notice       the sweep is paused"));
    cluster.nadgrid_ok(&["cancel", &id]);
}
