//! A sweep's numbers, all jobs together, and the words for them. Absent: estimates; how much is done and how long it will
//! take is what the coordinator says.

use nadgrid_client::members_word;
use nadgrid_client::v1::{Job, Sweep};

/// All jobs of a sweep together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SweepTotals {
    /// Networks and runs in all.
    pub(crate) members: u64,
    /// Members computed, committed or not.
    pub(crate) computed: u64,
    /// Members a second on the slots that have shards now; nothing where none has.
    pub(crate) members_per_second: Option<f64>,
}

impl SweepTotals {
    pub(crate) fn of(sweep: &Sweep) -> Self {
        let rate: f64 = sweep.jobs.iter().map(|job| job.members_per_second).sum();
        Self {
            members: sweep.jobs.iter().map(|job| job.members).sum(),
            computed: sweep.jobs.iter().map(position).sum(),
            members_per_second: Some(rate).filter(|&rate| rate > 0.0),
        }
    }
}

/// A share that is done, in two parts: what is settled, and what is computed of shards that are still in somebody's hands.
pub(crate) fn parts(progress: f64, members: u64, in_flight: u64) -> (f64, f64) {
    let under_way = (in_flight as f64 / members.max(1) as f64).min(progress);
    (progress - under_way, under_way)
}

/// The parts of a sweep's share: each job's is as large as its members.
pub(crate) fn parts_of(sweep: &Sweep) -> (f64, f64) {
    let in_flight = sweep.jobs.iter().map(|job| job.members_in_flight).sum();
    parts(sweep.progress, SweepTotals::of(sweep).members, in_flight)
}

/// Members computed, committed or not. A shard that is computed twice does not make more than all.
pub(crate) fn position(job: &Job) -> u64 {
    (job.members_done + job.members_in_flight).min(job.members)
}

/// Returns the word for the members of all these jobs.
pub(crate) fn word(jobs: &[Job]) -> &'static str {
    let mut words = jobs.iter().map(|job| members_word(&job.experiment));
    let first = words.next().unwrap_or("members");
    if words.all(|word| word == first) { first } else { "members" }
}

/// A rate per second in the unit that suits it: a training run may take an hour. `64.0 networks/s`, without members `64.0/s`.
pub(crate) fn pace(rate: f64, members: &str) -> String {
    let units = [(1.0, "s"), (60.0, "min")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| rate * scale >= 1.0).unwrap_or((3600.0, "h"));
    let space = if members.is_empty() { "" } else { " " };
    format!("{:.1}{space}{members}/{unit}", rate * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(experiment: &str) -> Job {
        Job { experiment: experiment.into(), members: 100, members_done: 40, ..Default::default() }
    }

    #[test]
    fn rates_are_in_the_unit_that_suits_them() {
        assert_eq!(pace(1024.0, "networks"), "1024.0 networks/s");
        assert_eq!(pace(0.5, "runs"), "30.0 runs/min");
        assert_eq!(pace(0.01, ""), "36.0/h");
        let of = |names: &[&str]| word(&names.iter().map(|name| job(name)).collect::<Vec<_>>());
        assert_eq!(
            (of(&["nads"]), of(&["nads", "flipping"]), of(&["margins", "flipping"])),
            ("networks", "members", "runs")
        );
    }

    #[test]
    fn jobs_add_up_and_the_share_is_the_coordinators() {
        let under_way = Job { members_in_flight: 20, members_per_second: 4.0, ..job("nads") };
        let sweep = Sweep { jobs: vec![job("nads"), under_way], progress: 0.25, ..Default::default() };
        let totals = SweepTotals::of(&sweep);
        assert_eq!((totals.members, totals.computed, totals.members_per_second), (200, 100, Some(4.0)));
        let (done, under_way) = parts_of(&sweep);
        assert!((done + under_way - 0.25).abs() < 1e-12 && (under_way - 0.1).abs() < 1e-12, "{done} {under_way}");
        assert_eq!(parts(0.05, 100, 20), (0.0, 0.05), "what is under way is no more than what is done");
    }
}
