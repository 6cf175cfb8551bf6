//! Cards that fail on demand, each in a worker of a real cluster, and what a sweep makes of them.
//!
//! Whatever fails, it is the card's fault: no block may be given up for it, and once there is a worker with a sound
//! card the sweep is completed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::gpu_dry_run::cluster::{DryRunCluster, DryRunPrograms, DryRunWorker, WorkerFailure, until};
use crate::gpu_dry_run::work::at_once;

/// The time for which a worker goes on failing: four attempts of a shard, after which it would be given up, take less.
const FAILING: Duration = Duration::from_secs(6);
/// The number of clusters that run side by side; they wait most of the time.
const AT_ONCE: usize = 4;

const LENETS: &str = "name = 'fault'\narchitectures = ['lenet']\n[nads]\nnetworks = 64\nblock_size = 32\n";
const RESNETS: &str = "name = 'fault'\narchitectures = ['resnet18']\n[nads]\nnetworks = 4\nblock_size = 2\n";
const RUNS: &str = "name = 'fault'\narchitectures = ['lenet']\n[directional]\ntrain_samples = 1280\ntest_samples = 256\n\
                    directions = { kind = 'random', count = 4 }\nblock_size = 2\ntraining = { epochs = 2 }\n";

/// A card that fails, and how its worker is to take it.
struct CardFault {
    name: &'static str,
    spec: &'static str,
    device: &'static str,
    /// The variables that make the null GPU fail.
    variables: &'static [(&'static str, &'static str)],
    expected: ExpectedFailure,
}

enum ExpectedFailure {
    /// The worker reports shards as failed for one of these reasons, with words that have this in them, and goes on.
    Shards { kinds: &'static [&'static str], words: &'static str },
    /// The worker ends with exit code 5 after the shard, saying so.
    Lost,
    /// The worker does not start: exit code 1, and an error line that has all of this in it.
    NoStart { words: &'static [&'static str] },
    /// The worker warns, with words that have this in them, and computes on the CPU.
    OnCpu { words: &'static str },
}

const MEMORY: ExpectedFailure = ExpectedFailure::Shards { kinds: &["transient", "unfit"], words: "memory" };
const LOST: &[(&str, &str)] = &[("NULL_GPU_LOST_AT", "20")];

const FAULTS: [CardFault; 14] = [
    CardFault {
        name: "no memory",
        spec: RESNETS,
        device: "cuda",
        variables: &[("NULL_GPU_MIB", "100")],
        expected: MEMORY,
    },
    CardFault {
        name: "no memory for runs",
        spec: RUNS,
        device: "cuda",
        variables: &[("NULL_GPU_MIB", "139000"), ("NULL_GPU_TAKEN_MIB", "138999")],
        expected: MEMORY,
    },
    CardFault {
        // libtorch swallows what the first engine lacks and takes the second, which gives other bits.
        name: "workspace denied",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_ENGINES", "2"), ("NULL_GPU_WORKSPACE_MIB", "200000")],
        expected: MEMORY,
    },
    CardFault {
        name: "no engine left",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_WORKSPACE_MIB", "200000")],
        expected: MEMORY,
    },
    CardFault {
        name: "lost in gradients",
        spec: LENETS,
        device: "cuda",
        variables: LOST,
        expected: ExpectedFailure::Lost,
    },
    CardFault {
        name: "lost in training",
        spec: RUNS,
        device: "cuda",
        variables: LOST,
        expected: ExpectedFailure::Lost,
    },
    CardFault {
        name: "driver too old",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_DRIVER", "12040")],
        expected: ExpectedFailure::NoStart { words: &["driver", "12.4", "13.0"] },
    },
    CardFault {
        name: "no driver",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_DRIVER", "0")],
        expected: ExpectedFailure::NoStart { words: &["driver"] },
    },
    CardFault {
        name: "no card",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_DEVICES", "0")],
        expected: ExpectedFailure::NoStart { words: &["GPU"] },
    },
    CardFault {
        name: "all cards hidden",
        spec: LENETS,
        device: "cuda",
        variables: &[("CUDA_VISIBLE_DEVICES", "")],
        expected: ExpectedFailure::NoStart { words: &["CUDA_VISIBLE_DEVICES"] },
    },
    CardFault {
        name: "a card that is not there",
        spec: LENETS,
        device: "cuda",
        variables: &[("CUDA_VISIBLE_DEVICES", "7")],
        expected: ExpectedFailure::NoStart { words: &["CUDA_VISIBLE_DEVICES"] },
    },
    CardFault {
        name: "no kernels for the card",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_CAPABILITY", "35")],
        expected: ExpectedFailure::NoStart { words: &["compute capability", "3.5"] },
    },
    CardFault {
        name: "cuDNN too old",
        spec: LENETS,
        device: "cuda",
        variables: &[("NULL_GPU_CUDNN", "90100")],
        expected: ExpectedFailure::NoStart { words: &["cuDNN 9.1.0"] },
    },
    CardFault {
        name: "auto, driver too old",
        spec: LENETS,
        device: "auto",
        variables: &[("NULL_GPU_DRIVER", "12040")],
        expected: ExpectedFailure::OnCpu { words: "driver" },
    },
];

/// The outcome of a fault.
#[derive(Debug, Serialize)]
pub(super) struct FaultVerdict {
    fault: &'static str,
    /// The worker's, if it ended by itself.
    exit_code: Option<i32>,
    /// Kinds of the failures that it reported, each once.
    kinds: Vec<String>,
    /// Its words for the first of them, for why it ended, or its warning.
    words: String,
    /// The sweep's state and the blocks given up while the card failed.
    sweep: String,
    quarantined: u64,
    /// The sweep's state after a sound worker has joined.
    in_the_end: String,
    /// The findings that should not be so.
    pub(super) objections: Vec<String>,
}

/// Lets every card fail whose name has `filter` in it.
pub(super) fn run(programs: &DryRunPrograms, filter: &str) -> Result<Vec<FaultVerdict>> {
    let faults: Vec<&CardFault> = FAULTS.iter().filter(|fault| fault.name.contains(filter)).collect();
    let judged =
        at_once(AT_ONCE, &faults, |fault| fault.judge(programs).with_context(|| format!("in {:?}", fault.name)));
    judged.into_iter().collect()
}

impl CardFault {
    fn judge(&self, programs: &DryRunPrograms) -> Result<FaultVerdict> {
        let cluster = DryRunCluster::start(programs, self.name)?;
        let sweep = cluster.submit(self.spec)?;
        let mut worker = cluster.worker(self.device, self.variables)?;
        self.let_fail(&cluster, &sweep, &mut worker)?;
        let exit_code = worker.ended()?;
        let then = cluster.status(&sweep)?;
        let failures = worker.failures();
        let mut verdict = FaultVerdict {
            fault: self.name,
            exit_code,
            kinds: kinds(&failures),
            words: words(&worker, &failures),
            sweep: then.state.clone(),
            quarantined: then.quarantined(),
            in_the_end: then.state.clone(),
            objections: Vec::new(),
        };
        verdict.objections = self.objections(&verdict, &worker);
        if exit_code.is_none() {
            worker.end()?;
        }
        if then.is_open() {
            let mut sound = cluster.worker("cuda", &[])?;
            let ended = until("a sweep to end", || {
                let now = cluster.status(&sweep)?;
                let is_over = !now.is_open() || sound.ended()?.is_some();
                Ok(is_over.then_some(now))
            })?;
            verdict.in_the_end = ended.state.clone();
            verdict.quarantined = ended.quarantined();
            if sound.ended()?.is_none() {
                sound.end()?;
            }
        }
        if verdict.in_the_end != "complete" {
            verdict.objections.push(format!("the sweep ends as {}", verdict.in_the_end));
        }
        if verdict.quarantined > 0 {
            verdict.objections.push(format!("{} blocks and members are given up", verdict.quarantined));
        }
        Ok(verdict)
    }

    /// Waits until the worker has ended, the sweep has, or the worker has failed for long enough.
    fn let_fail(&self, cluster: &DryRunCluster<'_>, sweep: &str, worker: &mut DryRunWorker) -> Result<()> {
        until("a card to fail", || {
            let is_over =
                worker.ended()?.is_some() || !worker.failures().is_empty() || !cluster.status(sweep)?.is_open();
            Ok(is_over.then_some(()))
        })?;
        let deadline = Instant::now() + FAILING;
        while worker.ended()?.is_none() && cluster.status(sweep)?.is_open() && Instant::now() < deadline {
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn objections(&self, verdict: &FaultVerdict, worker: &DryRunWorker) -> Vec<String> {
        let mut objections = Vec::new();
        let mut object = |is_wrong: bool, what: String| objections.extend(is_wrong.then_some(what));
        let FaultVerdict { exit_code, kinds, words, sweep, .. } = verdict;
        let lacks = |part: &str| !words.contains(part);
        match &self.expected {
            ExpectedFailure::Shards { kinds: allowed, words: part } => {
                object(exit_code.is_some(), format!("the worker ended with {exit_code:?}"));
                object(kinds.is_empty(), "no shard failed".to_owned());
                let wrong = kinds.iter().find(|kind| !allowed.contains(&kind.as_str()));
                object(wrong.is_some(), format!("a shard failed as {wrong:?}, not {}", allowed.join(" or ")));
                object(sweep == "complete", "the failing card completed the sweep".to_owned());
                object(lacks(part), format!("the words lack {part:?}"));
            }
            ExpectedFailure::Lost => {
                object(*exit_code != Some(5), format!("the exit code is {exit_code:?}, not 5"));
                object(kinds.iter().any(|kind| kind != "unfit"), format!("a shard failed as {kinds:?}, not as unfit"));
                object(lacks("the device is lost"), "the words lack \"the device is lost\"".to_owned());
            }
            ExpectedFailure::NoStart { words: parts } => {
                object(*exit_code != Some(1), format!("the exit code is {exit_code:?}, not 1"));
                for part in *parts {
                    object(lacks(part), format!("the words lack {part:?}"));
                }
                object(words.contains('\n'), "the words are several lines".to_owned());
            }
            ExpectedFailure::OnCpu { words: part } => {
                object(exit_code.is_some(), format!("the worker ended with {exit_code:?}"));
                let warned = worker.warnings().iter().any(|warning| warning.contains(part));
                object(!warned, format!("no warning has {part:?}"));
            }
        }
        objections
    }
}

fn kinds(failures: &[WorkerFailure]) -> Vec<String> {
    let mut kinds: Vec<String> = failures.iter().map(|failure| failure.kind.clone()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Returns the reason why the worker ended, else its first failure, else its first warning.
fn words(worker: &DryRunWorker, failures: &[WorkerFailure]) -> String {
    let log = worker.log();
    let ended = log.lines().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned);
    let failed = failures.first().map(|failure| failure.message.clone());
    ended.or(failed).or(worker.warnings().first().cloned()).unwrap_or_default()
}

/// A table, and below it what should not be so.
pub(super) fn print(verdicts: &[FaultVerdict]) {
    println!(
        "{:<25} {:>5} {:<10} {:<9} {:>11} {:<11} words",
        "a card fails", "exit", "kind", "sweep", "given up", "in the end"
    );
    for of in verdicts {
        println!(
            "{:<25} {:>5} {:<10} {:<9} {:>11} {:<11} {}",
            of.fault,
            of.exit_code.map_or("-".to_owned(), |code| code.to_string()),
            of.kinds.join(","),
            of.sweep,
            of.quarantined,
            of.in_the_end,
            of.words.chars().take(100).collect::<String>(),
        );
    }
    for of in verdicts {
        for objection in &of.objections {
            println!("WRONG {}: {objection}", of.fault);
        }
    }
}
