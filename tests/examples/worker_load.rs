//! How long a sweep of LeNets takes on real workers, all on this machine: what many of them cost that few do not.
//!
//! Prints one line of JSON; `cargo xtask bench workers` calls it. Deliberately absent: thresholds.

use nadgrid_tests::{Cluster, Process};
use std::time::{Duration, Instant};

/// How often the end is asked for.
const ASK: Duration = Duration::from_millis(50);

fn argument(place: usize) -> u64 {
    let usage = "usage: worker_load NETWORKS WORKERS SLOTS";
    std::env::args().nth(place).expect(usage).parse().expect("a number")
}

fn main() {
    let (networks, workers, slots) = (argument(1), argument(2), argument(3));
    let mut cluster = Cluster::start(&[]);
    let slots = slots.to_string();
    (0..workers).for_each(|_| cluster.add_worker(&["--slots", &slots]));
    while (cluster.logs().matches("worker joined").count() as u64) < workers {
        std::thread::sleep(ASK);
    }
    let began = Instant::now();
    let id = cluster.submit("lenet.toml", &[&format!("nads.networks={networks}")]);
    let status = loop {
        let status = cluster.status(&id);
        if !["queued", "running"].contains(&status["state"].as_str().unwrap_or_default()) {
            break status;
        }
        std::thread::sleep(ASK);
    };
    let seconds = began.elapsed().as_secs_f64();
    let memory = |processes: &[Process]| processes.iter().map(Process::peak_memory).max().unwrap_or_default() >> 20;
    let measured = serde_json::json!({
        "networks": networks,
        "workers": workers,
        "state": status["state"],
        "digest": status["digest"],
        "retries": status["jobs"][0]["retries"],
        "seconds": seconds,
        "worker_memory_mib": memory(&cluster.workers),
        "coordinator_memory_mib": cluster.coordinator().peak_memory() >> 20,
        "coordinator_cpu_seconds": cluster.coordinator().cpu_seconds(),
        "workers_cpu_seconds": cluster.workers.iter().map(Process::cpu_seconds).sum::<f64>(),
    });
    println!("{measured}");
}
