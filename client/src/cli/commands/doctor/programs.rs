//! The programs beside this one: whether they start, their versions, libtorch, and whether the worker computes.

use super::Finding;
use crate::cli::local::{COORDINATOR, WORKER, find, not_inherited};
use nadgrid_client::VERSION;
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// For a program to tell its version.
const TELL: Duration = Duration::from_secs(20);
/// For a worker to compute two small networks; the first use of a GPU takes some seconds.
const COMPUTE: Duration = Duration::from_secs(120);
/// The folder where the NVIDIA driver lists its devices.
const GPUS: &str = "/proc/driver/nvidia/gpus";
/// The library that a worker is linked against, and the one that it opens when it shall compute on a GPU.
const CPU_LIBRARY: &str = "libtorch_cpu.so";
const GPU_LIBRARY: &str = "libtorch_cuda.so";

/// Looks at all of them.
pub(super) async fn findings() -> Vec<Finding> {
    let mut findings = vec![Finding::ok("nadgrid", format!("{VERSION}{}", at(env::current_exe().ok().as_deref())))];
    findings.push(match find(COORDINATOR) {
        Ok(path) => version(COORDINATOR, &path, &run(&path, &["--version"], &[], TELL).await),
        Err(failure) => missing(COORDINATOR, &failure.to_string()),
    });
    let path = match find(WORKER) {
        Ok(path) => path,
        Err(failure) => {
            findings.push(missing(WORKER, &failure.to_string()));
            return findings;
        }
    };
    let libraries = run(&path, &[], &[("LD_TRACE_LOADED_OBJECTS", "1")], TELL).await.unwrap_or_default();
    let runs = run(&path, &["--version"], &[], TELL).await;
    let linked = match &runs {
        // So says the loader when a program cannot start for the lack of it.
        Err(said) if said.contains(CPU_LIBRARY) => Linked::Missing,
        _ => linked(&libraries, CPU_LIBRARY),
    };
    if runs.is_ok() || linked != Linked::Missing {
        findings.push(version(WORKER, &path, &runs));
    }
    findings.extend(libtorch(&linked));
    findings.push(gpus(&models(Path::new(GPUS)), folder_of_cuda(&linked)));
    if runs.is_ok() {
        let arguments =
            ["bench", "jacobian", "--architecture", "logreg", "--networks", "2", "--block-size", "2", "--json"];
        findings.push(computes(&run(&path, &arguments, &[], COMPUTE).await));
    }
    findings
}

fn at(path: Option<&Path>) -> String {
    path.map_or(String::new(), |path| format!(", {}", path.display()))
}

fn missing(name: &'static str, said: &str) -> Finding {
    let (message, next) = said.split_once("; ").unwrap_or((said, "`cargo build --release` builds it"));
    Finding::problem(name, message, next)
}

/// Returns what a program prints on stdout, or the last line that it says when it fails.
async fn run(path: &Path, arguments: &[&str], variables: &[(&str, &str)], within: Duration) -> Result<String, String> {
    let mut command = Command::new(path);
    command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true).stdin(std::process::Stdio::null());
    not_inherited().iter().for_each(|variable| {
        command.env_remove(variable);
    });
    let output = match tokio::time::timeout(within, command.output()).await {
        Ok(output) => output.map_err(|e| e.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", within.as_secs())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    Err(last.unwrap_or_else(|| format!("it exited with {}", output.status)))
}

fn version(name: &'static str, path: &Path, said: &Result<String, String>) -> Finding {
    let said = match said {
        Ok(said) => said.trim(),
        Err(why) => return Finding::problem(name, format!("{} does not run: {why}", path.display()), "rebuild it"),
    };
    let told = said.rsplit(' ').next().unwrap_or(said);
    if told == VERSION {
        return Finding::ok(name, format!("{told}{}", at(Some(path))));
    }
    let message = format!("{told}{}; nadgrid is {VERSION}", at(Some(path)));
    Finding::warning(name, message, "use all three programs from the same build")
}

/// Whether the loader finds a library.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Linked {
    At(PathBuf),
    Missing,
    /// The program does not ask for it, or the loader does not say.
    Unknown,
}

/// Returns what the loader says when it is asked to list a program's libraries, as `ldd` does.
fn linked(libraries: &str, name: &str) -> Linked {
    let line = libraries.lines().find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix("=> "));
    match line {
        Some(place) if place.starts_with("not found") => Linked::Missing,
        Some(place) => Linked::At(place.split(" (").next().unwrap_or(place).into()),
        None => Linked::Unknown,
    }
}

fn libtorch(linked: &Linked) -> Option<Finding> {
    match linked {
        Linked::At(path) => Some(Finding::ok("libtorch", path.display().to_string())),
        Linked::Missing => Some(Finding::problem(
            "libtorch",
            format!("the worker needs {CPU_LIBRARY}, which the loader does not find"),
            "`cargo xtask setup` fetches it; or let LD_LIBRARY_PATH name its folder, for example torch/lib of a Python that has torch",
        )),
        Linked::Unknown => None,
    }
}

/// The models of the GPUs that the driver drives.
fn models(folder: &Path) -> Vec<String> {
    let gpus = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let model =
        |text: String| text.lines().find_map(|line| line.strip_prefix("Model:").map(|model| model.trim().to_owned()));
    gpus.filter_map(|gpu| std::fs::read_to_string(gpu.path().join("information")).ok().and_then(model)).collect()
}

/// Returns the place where the loader would find libtorch's part for GPUs.
fn folder_of_cuda(linked: &Linked) -> Option<PathBuf> {
    let beside = match linked {
        Linked::At(path) => path.parent().map(Path::to_owned),
        Linked::Missing | Linked::Unknown => None,
    };
    let named = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders = beside.into_iter().chain(env::split_paths(&named));
    folders.find(|folder| folder.join(GPU_LIBRARY).is_file())
}

fn gpus(models: &[String], cuda: Option<PathBuf>) -> Finding {
    match (models, cuda) {
        ([], _) => Finding::ok("devices", "no NVIDIA GPU: workers compute on the CPU"),
        (models, Some(folder)) => {
            Finding::ok("devices", format!("{}; {GPU_LIBRARY} in {}", models.join(", "), folder.display()))
        }
        (models, None) => Finding::warning(
            "devices",
            format!("{}, but {GPU_LIBRARY} is not found: workers compute on the CPU", models.join(", ")),
            "set LD_LIBRARY_PATH to torch/lib of a Python with torch==2.11.0",
        ),
    }
}

/// The part of the output of `nadgrid-worker bench --json` that is used here.
#[derive(Deserialize)]
struct MeasuredRate {
    networks: u64,
    seconds: f64,
    slots: u32,
    evaluation: String,
    instruction_set: String,
}

fn computes(said: &Result<String, String>) -> Finding {
    let problem = |why: &str| {
        let step = "NADGRID_LOG=debug nadgrid-worker bench jacobian --architecture logreg --networks 2 says more";
        Finding::problem("computation", format!("the worker cannot compute: {why}"), step)
    };
    let measured: MeasuredRate = match said.as_ref().map(|said| serde_json::from_str(said)) {
        Ok(Ok(measured)) => measured,
        Ok(Err(e)) => return problem(&format!("its answer cannot be parsed ({e})")),
        Err(why) => return problem(why),
    };
    let MeasuredRate { networks, seconds, slots, evaluation, instruction_set } = measured;
    let slots = crate::cli::tables::count(slots.into(), "slot");
    Finding::ok(
        "computation",
        format!("{networks} networks in {seconds:.2} s on {slots}, {evaluation}, {instruction_set}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::FindingLevel;
    use super::*;

    #[test]
    fn the_loader_says_where_a_library_is() {
        let said = "\tlibc10.so => /t/lib/libc10.so (0x1)\n\tlibtorch_cpu.so => /t/lib/libtorch_cpu.so (0x00007f)\n";
        assert_eq!(linked(said, CPU_LIBRARY), Linked::At("/t/lib/libtorch_cpu.so".into()));
        assert_eq!(linked("\tlibtorch_cpu.so => not found\n", CPU_LIBRARY), Linked::Missing);
        assert_eq!(linked("\tlinux-vdso.so.1 (0x1)\n", CPU_LIBRARY), Linked::Unknown);
        let missing = libtorch(&Linked::Missing).unwrap();
        assert_eq!(missing.level, FindingLevel::Problem);
        assert!(missing.next_step.unwrap().contains("LD_LIBRARY_PATH"));
    }

    #[test]
    fn other_versions_are_told() {
        let level = |said: Result<&str, &str>| {
            version(WORKER, Path::new("/w"), &said.map(str::to_owned).map_err(str::to_owned)).level
        };
        assert_eq!(level(Ok(&format!("nadgrid-worker {VERSION}\n"))), FindingLevel::Ok);
        assert_eq!(level(Ok("nadgrid-worker 0.0.0\n")), FindingLevel::Warning);
        assert_eq!(level(Err("exec format error")), FindingLevel::Problem);
    }

    #[test]
    fn a_gpu_that_is_of_no_use_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = folder.path().join("0000:01:00.0");
        std::fs::create_dir(&gpu).unwrap();
        std::fs::write(gpu.join("information"), "Model: \t\t NVIDIA H100\nIRQ: 1\n").unwrap();
        let found = models(folder.path());
        assert_eq!(found, ["NVIDIA H100"]);
        assert_eq!(gpus(&found, None).level, FindingLevel::Warning);
        assert_eq!(gpus(&found, Some("/t".into())).level, FindingLevel::Ok);
        assert_eq!(gpus(&models(Path::new("/no/such")), None).level, FindingLevel::Ok);
    }

    #[test]
    fn a_worker_that_cannot_compute_is_a_problem() {
        let said = r#"{"networks":2,"seconds":0.01,"slots":2,"evaluation":"patch","precision":"fp32","instruction_set":"avx512"}"#;
        let finding = computes(&Ok(said.into()));
        assert_eq!(
            (finding.level, finding.message.as_str()),
            (FindingLevel::Ok, "2 networks in 0.01 s on 2 slots, patch, avx512")
        );
        assert_eq!(computes(&Ok("?".into())).level, FindingLevel::Problem);
        assert!(computes(&Err("CUDA error".into())).message.contains("CUDA error"));
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why() {
        let shell = Path::new("/bin/sh");
        let said = run(shell, &["-c", "echo a; echo b >&2"], &[], TELL).await;
        assert_eq!(said.as_deref(), Ok("a\n"));
        let said = run(shell, &["-c", "echo first >&2; echo last >&2; exit 3"], &[], TELL).await;
        assert_eq!(said, Err("last".into()));
        assert!(run(Path::new("/no/such"), &[], &[], TELL).await.is_err());
        assert!(
            run(shell, &["-c", "exec sleep 60"], &[], Duration::from_millis(50))
                .await
                .unwrap_err()
                .contains("no answer")
        );
    }
}
