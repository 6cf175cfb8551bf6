//! Shards a second that a coordinator moves with workers that compute nothing: everything but the numerics.
//!
//! Real processes but for the workers, which are sessions of this program: it starts the coordinator beside it, submits one sweep
//! of training runs with a shard for each, and answers every assignment at once. Prints one line of JSON; `cargo xtask bench
//! coordinator` calls it. Deliberately absent: thresholds.

use nadgrid_core::ids::Digest;
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message as Request;
use nadgrid_proto::v1::session_response::Message as Response;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Sessions of one connection: a coordinator takes 256 streams of each.
const SESSIONS_PER_CONNECTION: usize = 64;
/// Directions of the sweep; its shards are these times seeds.
const DIRECTIONS: u64 = 1000;

fn argument(place: usize, usual: u64) -> u64 {
    std::env::args().nth(place).map_or(usual, |text| text.parse().expect("a number"))
}

fn main() {
    let (shards, workers, slots) = (argument(1, 100_000), argument(2, 16), argument(3, 8));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut coordinator = start(&folder.path().join("data"));
    let pid = coordinator.0.id();
    let url = address(&mut coordinator.0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(measure(&url, shards, workers, slots, pid));
    println!("{measured}");
}

/// Ends the coordinator with this program.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(data: &PathBuf) -> Coordinator {
    let own = std::env::current_exe().expect("it knows where it is");
    let program = own.ancestors().nth(2).expect("target/<profile>/examples").join("nadgrid-coordinator");
    let mut command = Command::new(program);
    command.args(["--listen", "127.0.0.1:0", "--most-shard-blocks", "1", "--data"]).arg(data);
    let journal = std::env::var("NADGRID_BENCH_JOURNAL").ok();
    command.args(journal.iter().flat_map(|url| ["--journal", url]));
    command.env("NADGRID_LOG", "warn").stdout(Stdio::piped());
    Coordinator(command.spawn().expect("the coordinator is built beside this program"))
}

fn address(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it speaks");
    line.trim().trim_start_matches("listening on ").to_owned()
}

async fn measure(url: &str, shards: u64, workers: u64, slots: u64, pid: u32) -> serde_json::Value {
    let seeds = shards.div_ceil(DIRECTIONS);
    let spec = format!(
        "name = 'rate'\narchitectures = ['logreg']\n[directional]\nblock_size = 1\nseeds = {seeds}\n\
         directions = {{ kind = 'pixels', indices = [{{ start = 0, end = {DIRECTIONS} }}] }}"
    );
    let channel = connect(url).await;
    let mut sweeps = SweepServiceClient::new(channel);
    let submitted = Instant::now();
    let request = v1::SubmitRequest { spec, idempotency_key: "rate".into(), ..v1::SubmitRequest::default() };
    let sweep = sweeps.submit(request).await.expect("it is accepted").into_inner().sweep.expect("a sweep").id;
    let (started, mut first) = mpsc::channel(1);
    let mut sessions = Vec::new();
    let mut channel = connect(url).await;
    for worker in 0..workers as usize {
        if worker % SESSIONS_PER_CONNECTION == SESSIONS_PER_CONNECTION - 1 {
            channel = connect(url).await;
        }
        let session = work(channel.clone(), format!("w{worker}"), slots as u32, started.clone());
        sessions.push(tokio::spawn(session));
    }
    first.recv().await.expect("a shard is leased");
    let start_seconds = submitted.elapsed().as_secs_f64();
    let (start_memory, start_cpu, began) = (memory(pid, "VmRSS"), cpu_seconds(pid), Instant::now());
    let members = DIRECTIONS * seeds;
    let mut watch = sweeps.watch(v1::WatchRequest { sweep_id: sweep }).await.expect("it can be watched").into_inner();
    loop {
        let sweep = watch.message().await.expect("it goes on").expect("until its end");
        // The table of all runs is not what is measured.
        if sweep.jobs[0].members_done == members {
            break;
        }
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(pid) - start_cpu);
    sessions.iter().for_each(tokio::task::JoinHandle::abort);
    serde_json::json!({
        "shards": members,
        "workers": workers,
        "slots": slots,
        "seconds": seconds,
        "shards_per_second": members as f64 / seconds,
        "coordinator_cpu_microseconds_per_shard": cpu * 1e6 / members as f64,
        "start_seconds": start_seconds,
        "start_memory_mib": start_memory >> 20,
        "peak_memory_mib": memory(pid, "VmHWM") >> 20,
    })
}

async fn connect(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).expect("a URL").connect().await.expect("it listens")
}

/// A session that answers each assignment at once.
async fn work(channel: Channel, id: String, slots: u32, started: mpsc::Sender<()>) {
    let class = v1::NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 0,
    };
    let hello = v1::Hello {
        worker_id: id.clone(),
        name: id,
        protocol_version: PROTOCOL_VERSION,
        version: "rate".into(),
        numerics_class: Some(class.clone()),
        slots,
        held: Vec::new(),
        precisions: vec!["fp32".into()],
    };
    let (requests, outbox) = mpsc::channel(4 * slots as usize + 4);
    let request = |message| v1::SessionRequest { message: Some(message) };
    requests.send(request(Request::Hello(hello))).await.expect("there is room");
    let mut client = WorkerServiceClient::new(channel);
    let mut responses = client.session(ReceiverStream::new(outbox)).await.expect("a session").into_inner();
    let data = to_bytes(&[Outcome { test_accuracy: 100.0, train_accuracy: 100.0, ..Outcome::default() }], 0);
    let digest = Digest::of(&data).to_string();
    let mut heartbeat = tokio::time::interval(Duration::from_secs(3));
    loop {
        let message = tokio::select! {
            response = responses.message() => match response {
                Ok(Some(response)) => response.message,
                _ => return,
            },
            _ = heartbeat.tick() => {
                drop(requests.send(request(Request::Heartbeat(v1::Heartbeat {}))).await);
                continue;
            }
        };
        if let Some(Response::Assignment(assignment)) = message {
            let _ = started.try_send(());
            let result = v1::ShardResult {
                shard: assignment.shard,
                numerics_class: Some(class.clone()),
                data: data.clone(),
                digest: digest.clone(),
                seconds: 1e-3,
                ..v1::ShardResult::default()
            };
            drop(requests.send(request(Request::Result(result))).await);
        }
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is alive");
    let after = stat.rsplit_once(')').expect("a name in brackets").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number of ticks");
    // Linux counts in hundredths of a second whatever the kernel's own tick is.
    (ticks(11) + ticks(12)) / 100.0
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux says");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number of kB") * 1024
}
