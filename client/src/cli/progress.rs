//! A sweep's progress: live bars on a terminal, else a line now and then, or one JSON line per change.
//!
//! Bars and lines go to stderr, JSON to stdout.

use super::Failure;
use super::output::{note, print_json_line};
use super::rate::Rate;
use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nadgrid_client::v1::{Job, JobState, Sweep};
use nadgrid_client::{Client, Patience, SweepView, WatchEvent, members_word};
use nadgrid_core::text::{duration, thousands};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// What a job's members are called stands in the message.
const BAR: &str = "{prefix} [{bar:28.cyan/blue}] {human_pos}/{human_len} {msg}";
/// Between two lines of one job, where there are no bars.
const LINE_SECONDS: f64 = 10.0;

/// Shows one sweep.
pub(crate) struct Progress {
    screen: Screen,
    jobs: Vec<JobProgress>,
    began: Instant,
    away: bool,
}

/// Where progress is shown. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(crate) enum Screen {
    Bars(MultiProgress),
    Lines,
    Json,
}

#[derive(Default)]
struct JobProgress {
    rate: Rate,
    bar: Option<ProgressBar>,
    last_line: Option<Line>,
}

/// When a job's last line was written, and what it told of.
#[derive(Clone, Copy)]
struct Line {
    seconds: f64,
    state: JobState,
    position: u64,
}

impl Screen {
    /// JSON lines, or whatever suits stderr.
    pub(crate) fn new(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            (false, false) => Self::Lines,
        }
    }

    /// Says something without disturbing the bars.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bars(all) => {
                let _ = all.println(text);
            }
            Self::Lines | Self::Json => note(text),
        }
    }
}

impl Progress {
    /// Progress on this screen.
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen, jobs: Vec::new(), began: Instant::now(), away: false }
    }

    /// Shows the sweep as it stands.
    pub(crate) fn update(&mut self, sweep: &Sweep) -> Result<(), Failure> {
        if std::mem::take(&mut self.away) {
            self.screen.say("the coordinator is back");
        }
        if let Screen::Json = self.screen {
            return print_json_line(&SweepView::from(sweep));
        }
        let seconds = self.began.elapsed().as_secs_f64();
        self.jobs.resize_with(sweep.jobs.len().max(self.jobs.len()), JobProgress::default);
        let width = sweep.jobs.iter().map(|job| name(job).chars().count()).max().unwrap_or(0);
        for (job, shown) in sweep.jobs.iter().zip(&mut self.jobs) {
            shown.rate.observe(seconds, position(job));
            let words = words(job, sweep.workers, shown.rate.per_second());
            match &self.screen {
                Screen::Bars(all) => shown.draw(all, job, width, words),
                Screen::Lines => shown.line(seconds, job, &words),
                Screen::Json => {}
            }
        }
        Ok(())
    }

    /// Says once that nobody answers, however often that is tried.
    fn away(&mut self, reason: &str, limit: Duration) {
        if !std::mem::replace(&mut self.away, true) {
            let limit = duration(limit.as_secs_f64());
            self.screen.say(&format!("the coordinator is away ({reason}); trying again for up to {limit}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // What stands on the screen stays, also when the work was interrupted.
        for bar in self.jobs.iter().filter_map(|job| job.bar.as_ref()) {
            bar.abandon();
        }
    }
}

impl JobProgress {
    fn draw(&mut self, all: &MultiProgress, job: &Job, width: usize, words: String) {
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = all.add(ProgressBar::new(job.members).with_style(style.progress_chars("=> ")));
            bar.set_prefix(format!("{:<width$}", name(job)));
            bar
        });
        bar.set_position(position(job));
        bar.set_message(format!("{}  {words}", members_word(&job.experiment)));
        if job.state() == JobState::Complete {
            bar.abandon();
        }
    }

    /// A line at the start, when the job's state has changed, with the first progress, and now and then.
    fn line(&mut self, seconds: f64, job: &Job, words: &str) {
        let now = Line { seconds, state: job.state(), position: position(job) };
        if self.last_line.is_none_or(|last| last.is_old(now)) {
            self.last_line = Some(now);
            note(&line(job, words));
        }
    }
}

impl Line {
    fn is_old(self, now: Self) -> bool {
        let waited = now.seconds - self.seconds >= LINE_SECONDS && self.position != now.position;
        waited || self.state != now.state || (self.position == 0 && now.position > 0)
    }
}

/// Follows a sweep until it has ended, and gives its end.
pub(crate) async fn follow(
    client: &Client,
    id: &str,
    patience: Patience,
    progress: &mut Progress,
) -> Result<Sweep, Failure> {
    let mut events = client.watch(id, patience);
    let mut last = None;
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Sweep(sweep) => {
                progress.update(&sweep)?;
                last = Some(*sweep);
            }
            WatchEvent::Away { reason, .. } => progress.away(&reason, patience.limit),
        }
    }
    last.ok_or_else(|| Failure::other(format!("the coordinator told nothing of sweep {id}")))
}

/// For example `nads/lenet`.
fn name(job: &Job) -> String {
    format!("{}/{}", job.experiment, job.architecture)
}

/// Members computed, committed or not.
fn position(job: &Job) -> u64 {
    (job.members_done + job.members_in_flight).min(job.members)
}

fn line(job: &Job, words: &str) -> String {
    let (at, of, members) = (position(job), job.members, members_word(&job.experiment));
    let percent = 100.0 * at as f64 / of.max(1) as f64;
    format!("{}: {} of {} {members} ({percent:.0} %), {words}", name(job), thousands(at), thousands(of))
}

/// How it goes: the rate and the time left, or what it waits for.
fn words(job: &Job, workers: u32, rate: Option<f64>) -> String {
    let again = match job.retries {
        0 => String::new(),
        1 => ", 1 shard given out again".into(),
        n => format!(", {n} shards given out again"),
    };
    let how = match (job.state(), rate) {
        (JobState::Complete, _) => "complete".into(),
        (JobState::Reducing, _) => "reducing".into(),
        (JobState::Waiting, _) => "waiting for its NADs".into(),
        (JobState::Incomplete, _) => "incomplete: some shards failed for good".into(),
        (_, _) if workers == 0 => "waiting for a worker".into(),
        (_, Some(rate)) => {
            let left = (job.members - position(job)) as f64 / rate;
            format!("{}, {} left", pace(rate, members_word(&job.experiment)), duration(left))
        }
        (_, None) if position(job) == 0 => "waiting for its first shard".into(),
        (_, None) => "computing".into(),
    };
    how + &again
}

/// A rate per second in the unit that suits it: a training run may take an hour.
fn pace(rate: f64, members: &str) -> String {
    let units = [(1.0, "s"), (60.0, "min")];
    let (scale, unit) = units.into_iter().find(|(scale, _)| rate * scale >= 1.0).unwrap_or((3600.0, "h"));
    format!("{:.1} {members}/{unit}", rate * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: JobState, done: u64, in_flight: u64) -> Job {
        Job {
            experiment: "nads".into(),
            architecture: "lenet".into(),
            state: state.into(),
            members: 2048,
            members_done: done,
            members_in_flight: in_flight,
            ..Default::default()
        }
    }

    #[test]
    fn words_tell_the_rate_or_what_is_waited_for() {
        let computing = job(JobState::Computing, 512, 512);
        assert_eq!(words(&computing, 1, Some(64.0)), "64.0 networks/s, 16 s left");
        assert_eq!(words(&computing, 0, Some(64.0)), "waiting for a worker");
        assert_eq!(words(&job(JobState::Computing, 0, 0), 1, None), "waiting for its first shard");
        assert_eq!(words(&job(JobState::Reducing, 2048, 0), 0, None), "reducing");
        assert_eq!(words(&job(JobState::Waiting, 0, 0), 0, None), "waiting for its NADs");
        let runs = Job { experiment: "flipping".into(), ..job(JobState::Computing, 48, 0) };
        assert_eq!(words(&runs, 1, Some(0.5)), "30.0 runs/min, 1 h 6 min left");
        assert_eq!(pace(0.01, "runs"), "36.0 runs/h");
        let again = Job { retries: 2, ..computing };
        assert_eq!(words(&again, 1, Some(1024.0)), "1024.0 networks/s, 1.0 s left, 2 shards given out again");
    }

    #[test]
    fn a_line_names_the_job_and_its_share() {
        let said = line(&job(JobState::Computing, 512, 512), "x");
        assert_eq!(said, "nads/lenet: 1,024 of 2,048 networks (50 %), x");
        // A shard that is computed twice does not make more than all.
        assert_eq!(position(&job(JobState::Computing, 2048, 64)), 2048);
    }

    #[test]
    fn lines_come_with_news_and_not_too_often() {
        let at = |seconds, position, state| Line { seconds, state, position };
        let last = at(0.0, 0, JobState::Computing);
        assert!(!last.is_old(at(60.0, 0, JobState::Computing)));
        assert!(last.is_old(at(1.0, 32, JobState::Computing)));
        let last = at(1.0, 32, JobState::Computing);
        assert!(!last.is_old(at(2.0, 64, JobState::Computing)));
        assert!(last.is_old(at(2.0, 64, JobState::Reducing)) && last.is_old(at(12.0, 64, JobState::Computing)));
    }
}
