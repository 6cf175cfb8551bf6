//! What a coordinator carries when many workers hand in partials of real size: everything of the data plane but the numerics.
//!
//! The coordinator is a real process, and so is the S3 server where one is asked for. The workers are sessions of this program:
//! each has a connection for its session and one for its uploads, as `nadgrid-worker` has, waits for its grants, and offers a
//! partial that nobody computed. Prints one line of JSON; `cargo xtask bench cluster` calls it. Deliberately absent: thresholds.

mod partial;
mod session;
mod upload;

use nadgrid_proto::v1;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_tests::Cluster;
use nadgrid_tests::s3::S3;
use partial::MadeUpPartial;
use session::{LoadSession, Tally};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};
use tonic::transport::Channel;

/// Networks of a block, and so of a partial.
const BLOCK: u64 = 4;
/// Sessions that connect at once; a listener's backlog is 1,024.
const CONNECTING: usize = 64;
/// How often the end is asked for.
const ASK: Duration = Duration::from_millis(20);

/// What is asked for on the command line, in this order.
struct LoadOptions {
    partials: u64,
    workers: usize,
    slots: u32,
    /// Input pixels D.
    dimension: usize,
    s3: bool,
}

impl LoadOptions {
    fn of_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [partials, workers, slots, dimension, store] = &arguments[..] else {
            panic!("usage: cluster_load PARTIALS WORKERS SLOTS DIMENSION local|s3")
        };
        let number = |text: &String| text.parse::<u64>().expect("a number");
        let s3 = match store.as_str() {
            "s3" => true,
            "local" => false,
            other => panic!("store = {other}: local or s3"),
        };
        Self {
            partials: number(partials),
            workers: number(workers) as usize,
            slots: number(slots) as u32,
            dimension: number(dimension) as usize,
            s3,
        }
    }

    /// A spec with a shard for each partial.
    fn spec(&self) -> String {
        let input = match self.dimension {
            1024 => "{ channels = 1, height = 32, width = 32 }",
            3072 => "{ channels = 3, height = 32, width = 32 }",
            other => panic!("dimension = {other}: 1024 or 3072"),
        };
        let networks = self.partials * BLOCK;
        format!(
            "name = 'cluster'\narchitectures = ['logreg']\ninput = {input}\n[nads]\nnetworks = {networks}\nblock_size = {BLOCK}"
        )
    }
}

fn main() {
    let options = LoadOptions::of_arguments();
    let s3 = options.s3.then(S3::start);
    let url = s3.as_ref().map(|s3| s3.url("load"));
    let mut variables = s3.as_ref().map_or_else(Vec::new, S3::variables);
    let log = std::env::var("NADGRID_BENCH_LOG").unwrap_or_else(|_| "warn".to_owned());
    variables.push(("NADGRID_LOG".to_owned(), log));
    let further = std::env::var("NADGRID_BENCH_COORDINATOR").unwrap_or_default();
    let mut arguments = vec!["--most-shard-blocks", "1"];
    arguments.extend(url.iter().flat_map(|url| ["--artifacts", url]));
    arguments.extend(further.split_whitespace());
    let mut cluster = Cluster::start_with(&arguments, &variables);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measured = LocalSet::new().block_on(&runtime, measure(&options, &mut cluster));
    let logs = cluster.logs();
    logs.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).take(20).for_each(|l| eprintln!("{l}"));
    println!("{measured}");
}

async fn measure(options: &LoadOptions, cluster: &mut Cluster) -> serde_json::Value {
    let tally = Rc::new(Tally::new(options.partials));
    let partial = Rc::new(MadeUpPartial::new(options.dimension, BLOCK));
    let connecting = Instant::now();
    let _sessions = connect(options, &cluster.url, &partial, &tally).await;
    let connect_seconds = connecting.elapsed().as_secs_f64();
    let connected_memory = cluster.coordinator().peak_memory();

    let channel = Channel::from_shared(cluster.url.clone()).expect("a URL").connect().await.expect("it listens");
    let mut sweeps = SweepServiceClient::new(channel);
    let began_cpu = cluster.coordinator().cpu_seconds();
    let began = Instant::now();
    let request =
        v1::SubmitRequest { spec: options.spec(), idempotency_key: "load".into(), ..v1::SubmitRequest::default() };
    let sweep = sweeps.submit(request).await.expect("it is accepted").into_inner().sweep.expect("a sweep").id;
    tally.all_handed_in().await;
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, memory) = (cluster.coordinator().cpu_seconds() - began_cpu, cluster.coordinator().peak_memory());

    let ended = Instant::now();
    let state = loop {
        let got = sweeps.get(v1::GetRequest { sweep_id: sweep.clone() }).await.expect("it answers").into_inner();
        if let Some(state) = ended_as(&got) {
            break state;
        }
        tokio::time::sleep(ASK).await;
    };
    let result_seconds = ended.elapsed().as_secs_f64();
    let megabytes = (options.partials * partial.size()) as f64 / 1e6;
    serde_json::json!({
        "partials": options.partials,
        "workers": options.workers,
        "slots": options.slots,
        "dimension": options.dimension,
        "state": state,
        "seconds": seconds,
        "partials_per_second": options.partials as f64 / seconds,
        "megabytes_per_second": megabytes / seconds,
        "coordinator_cpu_ms_per_megabyte": cpu * 1e3 / megabytes,
        "connect_seconds": connect_seconds,
        "connected_memory_mib": connected_memory >> 20,
        "upload_memory_mib": memory >> 20,
        "peak_memory_mib": cluster.coordinator().peak_memory() >> 20,
        "result_seconds": result_seconds,
        "result_cpu_seconds": cluster.coordinator().cpu_seconds() - began_cpu - cpu,
        "tried_again": tally.tried_again(),
        "not_committed": tally.not_committed(),
    })
}

/// The state that a sweep has ended in.
fn ended_as(sweep: &v1::Sweep) -> Option<&'static str> {
    let state = sweep.state();
    let ended = !matches!(state, v1::SweepState::Queued | v1::SweepState::Running | v1::SweepState::Unspecified);
    ended.then(|| state.as_str_name())
}

/// All sessions, once every one of them has been welcomed. They end when the set is dropped.
async fn connect(options: &LoadOptions, url: &str, partial: &Rc<MadeUpPartial>, tally: &Rc<Tally>) -> JoinSet<()> {
    let (mut connecting, mut sessions) = (JoinSet::new(), JoinSet::new());
    let mut next = 0;
    while sessions.len() < options.workers {
        while next < options.workers && connecting.len() < CONNECTING {
            connecting.spawn_local(LoadSession::connect(url.to_owned(), format!("w{next}"), options.slots));
            next += 1;
        }
        let session = connecting.join_next().await.expect("some connect").expect("it connects");
        sessions.spawn_local(session.work(partial.clone(), tally.clone()));
    }
    sessions
}
