//! The machine: processor, memory, disks, open files.

use super::Finding;
use crate::cli::commands::plan::cores;
use crate::cli::tables::count;
use nadgrid_core::text::bytes;
use rustix::process::{Resource, getrlimit};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// A coordinator and a worker with a small sweep have some 250 MiB resident.
const LEAST_MEMORY: u64 = 256 * MIB;
const GOOD_MEMORY: u64 = 2 * GIB;
/// One partial has 4 MiB at D = 1,024, and a job keeps one per shard until its end.
const LEAST_DISK: u64 = 256 * MIB;
const GOOD_DISK: u64 = 5 * GIB;
/// A coordinator holds one per worker, and some for its store.
const GOOD_FILES: u64 = 1024;

/// Looks at all of it.
pub(super) fn findings() -> Vec<Finding> {
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let used =
        fs::read_to_string("/sys/fs/cgroup/memory.current").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let own = limit.map(|limit: u64| limit.saturating_sub(used.unwrap_or(0)));
    let memory = memory.into_iter().chain(own).min();
    let files = getrlimit(Resource::Nofile);
    let data = env::var_os("NADGRID_DATA").map_or_else(|| PathBuf::from("nadgrid-data"), PathBuf::from);
    let places = [("current folder", PathBuf::from(".")), ("data folder", data), ("temporary folder", env::temp_dir())];
    let mut findings = vec![processor(cores(), &features())];
    findings.extend(memory.map(of_memory));
    findings.extend(places.iter().map(|(name, path)| disk(name, path)));
    findings.push(open_files(files.maximum));
    findings
}

/// The instruction sets that our kernels use, the widest last.
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(std::is_x86_feature_detected!("fma").then_some("fma"));
        found.extend(std::is_x86_feature_detected!("avx2").then_some("avx2"));
        found.extend(std::is_x86_feature_detected!("avx512f").then_some("avx512"));
    }
    #[cfg(target_arch = "aarch64")]
    found.push("neon");
    found
}

fn processor(cores: u32, features: &[&str]) -> Finding {
    let told = format!("{} for {}", count(cores.into(), "core"), env::consts::ARCH);
    if features.contains(&"neon") || (features.contains(&"avx2") && features.contains(&"fma")) {
        return Finding::ok("processor", format!("{told}, {}", features.join(", ")));
    }
    let step = "sweeps run several times slower than with AVX2; use a machine that has it, or pass it on to the virtual machine";
    Finding::warning("processor", format!("{told}, without avx2 and fma"), step)
}

/// Bytes that programs can have, by `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

fn of_memory(free: u64) -> Finding {
    let told = format!("{} free", bytes(free));
    let step = "close other programs, or start workers with fewer --slots";
    match free {
        GOOD_MEMORY.. => Finding::ok("memory", told),
        LEAST_MEMORY.. => Finding::warning("memory", told, step),
        _ => Finding::problem("memory", told, step),
    }
}

fn disk(name: &'static str, path: &Path) -> Finding {
    let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A folder that is not there yet will be on the disk of the one that holds it.
    let there = shown.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let shown = shown.display();
    match rustix::fs::statvfs(there) {
        Err(e) => Finding::problem(name, format!("{shown}: {e}"), "use another folder"),
        Ok(disk) => {
            let is_writable = rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_ok();
            of_disk(name, &shown.to_string(), disk.f_bavail.saturating_mul(disk.f_frsize), is_writable)
        }
    }
}

fn of_disk(name: &'static str, shown: &str, free: u64, is_writable: bool) -> Finding {
    let told = format!("{shown}: {} free", bytes(free));
    if !is_writable {
        return Finding::warning(name, format!("{told}, not writable"), "choose another with --out, --data or TMPDIR");
    }
    let step = "free some space, or choose a folder on another disk with --out, --data or TMPDIR";
    match free {
        GOOD_DISK.. => Finding::ok(name, told),
        LEAST_DISK.. => Finding::warning(name, told, step),
        _ => Finding::problem(name, told, step),
    }
}

fn open_files(most: Option<u64>) -> Finding {
    match most {
        Some(most) if most < GOOD_FILES => Finding::warning(
            "open files",
            format!("at most {most}: a coordinator needs one for each worker and client"),
            format!("raise the hard limit to {GOOD_FILES} or more, for example in /etc/security/limits.conf"),
        ),
        Some(most) => Finding::ok("open files", format!("at most {most}")),
        None => Finding::ok("open files", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FindingLevel;
    use super::*;

    #[test]
    fn little_is_a_warning_and_next_to_nothing_a_problem() {
        let levels = |of: fn(u64) -> Finding, amounts: [u64; 3]| amounts.map(|amount| of(amount).level);
        let expected = [FindingLevel::Ok, FindingLevel::Warning, FindingLevel::Problem];
        assert_eq!(levels(of_memory, [4 * GIB, GIB, 100 * MIB]), expected);
        assert_eq!(levels(|free| of_disk("x", "/", free, true), [9 * GIB, GIB, 100 * MIB]), expected);
        assert_eq!(of_disk("x", "/", 9 * GIB, false).level, FindingLevel::Warning);
        assert_eq!(open_files(Some(256)).level, FindingLevel::Warning);
        assert_eq!((open_files(Some(4096)).level, open_files(None).level), (FindingLevel::Ok, FindingLevel::Ok));
        assert_eq!(processor(2, &["fma", "avx2"]).level, FindingLevel::Ok);
        assert_eq!(processor(2, &["fma"]).level, FindingLevel::Warning);
    }

    #[test]
    fn a_machine_tells_of_itself() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 * MIB));
        let checks: Vec<&str> = findings().iter().map(|finding| finding.check).collect();
        for check in ["processor", "memory", "current folder", "data folder", "temporary folder", "open files"] {
            assert!(checks.contains(&check), "{check} is not in {checks:?}");
        }
        // A folder that is not there is looked at where it would be.
        assert!(disk("x", Path::new("/no/such/folder")).message.starts_with("/no/such/folder: "));
    }
}
