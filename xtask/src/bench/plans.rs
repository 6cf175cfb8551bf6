//! `cargo xtask bench plans`: what a plan says beside what the sweep then takes, for specs of every kind.
//!
//! Each spec gets a cluster of its own, which first computes a trial about a hundredth its size: fewer members, points, epochs or
//! samples. Then the whole is planned, and computed. Images and NADs are made here: what is measured is time. Deliberately absent:
//! thresholds.

mod cluster;
mod files;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::bench::plans::cluster::TrialCluster;
use crate::process::build_release;
use crate::setup;

#[derive(Args)]
pub(crate) struct Plans {
    /// Only the specs whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Use the programs that are built already
    #[arg(long)]
    no_build: bool,
}

/// A spec with a blank for what is small in the trial.
struct PlanCase {
    name: &'static str,
    spec: &'static str,
    trial: &'static [(&'static str, &'static str)],
    whole: &'static [(&'static str, &'static str)],
}

const CASES: &[PlanCase] = &[
    PlanCase {
        name: "nads lenet",
        spec: "architectures = ['lenet']\n[nads]\nnetworks = N",
        trial: &[("N", "128")],
        whole: &[("N", "12800")],
    },
    PlanCase {
        name: "nads lenet, 64 points",
        spec: "architectures = ['lenet']\n[nads]\nnetworks = N\npoints = P\nblock_size = 4",
        trial: &[("N", "64"), ("P", "2")],
        whole: &[("N", "200"), ("P", "64")],
    },
    PlanCase {
        name: "nads logreg",
        spec: "architectures = ['logreg']\n[nads]\nnetworks = N",
        trial: &[("N", "512")],
        whole: &[("N", "51200")],
    },
    PlanCase {
        name: "nads deep_linear, 16 x 16",
        spec: "architectures = ['deep_linear']\ninput = { height = 16, width = 16 }\n[nads]\nnetworks = N\npoints = P",
        trial: &[("N", "64"), ("P", "1")],
        whole: &[("N", "640"), ("P", "10")],
    },
    PlanCase {
        // Not a hundredth: a network takes 8 s, and there are no covariances of one.
        name: "nads resnet18",
        spec: "architectures = ['resnet18']\n[nads]\nnetworks = N\nblock_size = 1",
        trial: &[("N", "2")],
        whole: &[("N", "10")],
    },
    PlanCase {
        name: "nads lenet, autograd",
        spec: "architectures = ['lenet']\n[nads]\nestimator = 'autograd'\nnetworks = N\npoints = P",
        trial: &[("N", "256"), ("P", "1")],
        whole: &[("N", "1600"), ("P", "16")],
    },
    PlanCase {
        name: "directional lenet",
        spec: "architectures = ['lenet']\n[directional]\ndirections = { kind = 'random', count = R }\nblock_size = 1\n\
               train_samples = S\ntest_samples = S\ntraining = { epochs = E }",
        trial: &[("R", "2"), ("S", "2000"), ("E", "1")],
        whole: &[("R", "6"), ("S", "6000"), ("E", "12")],
    },
    PlanCase {
        name: "directional logreg",
        spec: "architectures = ['logreg']\n[directional]\ndirections = { kind = 'random', count = R }\nblock_size = 1\n\
               train_samples = S\ntest_samples = S\ntraining = { epochs = E }",
        trial: &[("R", "2"), ("S", "2000"), ("E", "2")],
        whole: &[("R", "24"), ("S", "8000"), ("E", "40")],
    },
    PlanCase {
        name: "poisoning lenet",
        spec: "architectures = ['lenet']\nprecision = 'fp32'\ninput = { channels = 3 }\ncifar10 = { path = 'images' }\n\
               [poisoning]\nbasis = { path = 'nads.npy' }\nindices = [{ start = 0, end = R }]\nclean = false\n\
               training = { epochs = E }",
        trial: &[("R", "2"), ("E", "1")],
        whole: &[("R", "8"), ("E", "25")],
    },
    PlanCase {
        // DeepFool takes three times as many steps on a network that is hardly trained, so the trial trains as long.
        name: "margins lenet",
        spec: "architectures = ['lenet']\ninput = { channels = 3 }\ncifar10 = { path = 'images' }\n\
               [margins]\nbasis = { path = 'nads.npy' }\nsubspace = 32\nstride = T\nimages = I\nseeds = 2\n\
               training = { epochs = 10 }",
        trial: &[("T", "256"), ("I", "10")],
        whole: &[("T", "32"), ("I", "60")],
    },
];

/// Plans and computes each case, and prints a table.
pub(crate) fn run(root: &Path, options: &Plans) -> Result<ExitCode> {
    if !options.no_build {
        setup::run(root, false)?;
        if let Some(failed) = build_release(root)? {
            return Ok(failed);
        }
    }
    let folder = root.join("out/plans");
    files::write(&folder)?;
    println!("{:<28} {:>10} {:>12} {:>10} {:>8}  rests on", "sweep", "trial s", "planned s", "took s", "ratio");
    for case in CASES.iter().filter(|case| case.name.contains(&options.only)) {
        let cluster = TrialCluster::start(&folder)?;
        let trial = compute(&cluster, &folder, case, case.trial)?;
        let spec = files::spec(&folder, case.spec, case.whole)?;
        let planned = cluster.plan(&spec)?;
        let took = compute(&cluster, &folder, case, case.whole)?;
        let ratio = planned.seconds / took;
        println!(
            "{:<28} {trial:>10.1} {:>12.1} {took:>10.1} {ratio:>8.2}  {}",
            case.name,
            planned.seconds,
            planned.bases()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds that a case takes with these values.
fn compute(cluster: &TrialCluster, folder: &Path, case: &PlanCase, values: &[(&str, &str)]) -> Result<f64> {
    let spec = files::spec(folder, case.spec, values)?;
    let began = Instant::now();
    cluster.compute(&spec)?;
    Ok(began.elapsed().as_secs_f64())
}
