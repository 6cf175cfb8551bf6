//! A sweep's progress: a live view on a terminal, else a line now and then, or one JSON line per change.
//!
//! ```text
//! totals   all jobs together, and the words for numbers    view   rows for a terminal of a given size
//! live     rows that are drawn again in place              notices   when a notice is due for a line
//! ```
//! View and lines go to stderr, JSON to stdout. Absent: estimates, which are the coordinator's.

mod live;
mod notices;
pub(crate) mod totals;
pub(crate) mod view;

use super::Failure;
use super::output::{note, print_json_line};
use super::styled::plain;
use futures::StreamExt;
use live::Live;
use nadgrid_client::v1::{Job, JobState, Sweep, Worker};
use nadgrid_client::{Client, Patience, SweepView, WatchEvent, has_ended, members_word};
use nadgrid_core::text::{duration, percent, thousands};
use notices::NoticeLines;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use totals::position;
use view::{ProgressView, name, words};

/// Between two lines of one job, where there is no live view.
const LINE_SECONDS: f64 = 10.0;
/// Between two frames, when nothing has changed but the time.
const FRAME: Duration = Duration::from_secs(1);
/// Between two looks at the workers.
const WORKERS: Duration = Duration::from_secs(2);

/// Shows one sweep.
pub(crate) struct Progress {
    screen: Screen,
    sweep: Option<Sweep>,
    lines: Vec<Option<ProgressLine>>,
    workers: Option<Vec<Worker>>,
    notices: NoticeLines,
    began: Instant,
    away: Option<String>,
}

/// The way in which progress is shown. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(crate) enum Screen {
    Live(Arc<Mutex<Live>>),
    Lines,
    Json,
}

/// A line of JSON: a sweep as it stands.
#[derive(Serialize)]
struct SweepLine {
    event: &'static str,
    #[serde(flatten)]
    view: SweepView,
}

/// The last line that was written for a job: its time, and the state and position that it reported.
#[derive(Clone, Copy)]
struct ProgressLine {
    seconds: f64,
    state: JobState,
    position: u64,
}

impl Screen {
    /// JSON lines, or whatever suits stderr.
    pub(crate) fn new(json: bool) -> Self {
        let draws = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match (json, draws) {
            (true, _) => Self::Json,
            (false, true) => Self::Live(Arc::new(Mutex::new(Live::new()))),
            (false, false) => Self::Lines,
        }
    }

    /// Says something without disturbing the view.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Live(live) => lock(live).say(text),
            Self::Lines | Self::Json => note(text),
        }
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Shows progress on this terminal.
    pub(crate) fn new(screen: Screen) -> Self {
        Self {
            screen,
            sweep: None,
            lines: Vec::new(),
            workers: None,
            notices: NoticeLines::default(),
            began: Instant::now(),
            away: None,
        }
    }

    /// Shows the sweep as it stands.
    fn update(&mut self, sweep: Sweep) -> Result<(), Failure> {
        if self.away.take().is_some() && !matches!(self.screen, Screen::Live(_)) {
            self.screen.say("the coordinator is back");
        }
        let seconds = self.began.elapsed().as_secs_f64();
        match &self.screen {
            // It is the same when the coordinator is back.
            Screen::Json if self.sweep.as_ref() == Some(&sweep) => {}
            Screen::Json => print_json_line(&SweepLine { event: "sweep", view: SweepView::from(&sweep) })?,
            Screen::Lines => self.lines(seconds, &sweep),
            Screen::Live(_) => {}
        }
        self.sweep = Some(sweep);
        self.draw();
        Ok(())
    }

    /// Draws the view, where there is one.
    fn draw(&self) {
        let (Screen::Live(live), Some(sweep)) = (&self.screen, &self.sweep) else { return };
        let (columns, lines) = Live::size();
        let workers = self.workers.as_deref();
        let away = self.away.as_deref();
        let view = ProgressView { sweep, workers, away, seconds: running_seconds(sweep, SystemTime::now()) };
        // A row that fills the last column leaves terminals in doubt about where the cursor is.
        lock(live).draw(view.rows(columns.saturating_sub(1).max(1), lines));
    }

    fn lines(&mut self, seconds: f64, sweep: &Sweep) {
        self.lines.resize(sweep.jobs.len().max(self.lines.len()), None);
        for (job, last) in sweep.jobs.iter().zip(&mut self.lines) {
            let now = ProgressLine { seconds, state: job.state(), position: position(job) };
            if last.is_none_or(|last| last.is_old(now)) {
                *last = Some(now);
                note(&line(job, &words(job, sweep.workers, members_word(&job.experiment))));
            }
        }
        self.notices.due(seconds, &sweep.notices).into_iter().for_each(|notice| note(&plain(notice)));
    }

    /// Stores the latest list of workers.
    fn workers(&mut self, workers: Vec<Worker>) {
        self.workers = Some(workers);
        self.draw();
    }

    /// Says once that nobody answers, however often that is tried.
    fn away(&mut self, reason: String, limit: Duration) {
        let limit = duration(limit.as_secs_f64());
        let told = format!("{reason}); trying again for up to {limit}");
        if self.away.replace(reason).is_none() && !matches!(self.screen, Screen::Live(_)) {
            self.screen.say(&format!("the coordinator is away ({told}"));
        }
        self.draw();
    }

    /// Whether workers are of interest: lines do not tell of them, and scripts ask for them themselves.
    fn wants_workers(&self) -> bool {
        matches!(self.screen, Screen::Live(_))
    }
}

/// From a sweep's start to its end or to now, by the coordinator's clock and this one's.
pub(crate) fn running_seconds(sweep: &Sweep, now: SystemTime) -> Option<f64> {
    let moment = |at: &prost_types::Timestamp| at.seconds as f64 + f64::from(at.nanos) * 1e-9;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let end = sweep.ended_at.as_ref().filter(|_| has_ended(sweep)).map_or(now, moment);
    sweep.started_at.as_ref().map(|start| (end - moment(start)).max(0.0))
}

impl ProgressLine {
    /// A line comes at the start, when the job's state has changed, with the first progress, and now and then.
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
    let mut frames = tokio::time::interval(FRAME);
    let mut resized = signal(SignalKind::window_change()).map_err(Failure::other)?;
    let mut workers = workers(client).boxed();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => match event? {
                    WatchEvent::Sweep(sweep) => progress.update(*sweep)?,
                    WatchEvent::Away { reason, .. } => progress.away(reason, patience.limit),
                },
                None => break,
            },
            Some(seen) = workers.next(), if progress.wants_workers() => progress.workers(seen),
            _ = frames.tick() => progress.draw(),
            _ = resized.recv() => progress.draw(),
        }
    }
    progress.sweep.take().ok_or_else(|| Failure::other(format!("the coordinator reported nothing about sweep {id}")))
}

/// The workers now and again; nothing from a coordinator that is away or does not tell.
fn workers(client: &Client) -> impl futures::Stream<Item = Vec<Worker>> + Send + use<> {
    let looks = futures::stream::unfold((client.clone(), false), |(client, again)| async move {
        if again {
            tokio::time::sleep(WORKERS).await;
        }
        let seen = client.workers().await.ok();
        Some((seen, (client, true)))
    });
    looks.filter_map(std::future::ready)
}

fn line(job: &Job, words: &str) -> String {
    let at = position(job);
    let of = job.members;
    let members = members_word(&job.experiment);
    let share = percent(job.progress);
    let again = match job.retries {
        0 => String::new(),
        1 => ", 1 shard given out again".into(),
        n => format!(", {n} shards given out again"),
    };
    format!("{}: {} of {} {members} ({share}), {words}{again}", name(job), thousands(at), thousands(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_client::v1::SweepState;

    fn job(state: JobState, done: u64, in_flight: u64) -> Job {
        Job {
            experiment: "nads".into(),
            architecture: "lenet".into(),
            state: state.into(),
            members: 2048,
            members_done: done,
            members_in_flight: in_flight,
            progress: 0.49,
            ..Default::default()
        }
    }

    #[test]
    fn a_line_names_the_job_and_its_share() {
        let said = line(&job(JobState::Computing, 512, 512), "x");
        assert_eq!(said, "nads/lenet: 1,024 of 2,048 networks (49 %), x");
        let again = Job { retries: 2, ..job(JobState::Computing, 512, 512) };
        assert!(line(&again, "x").ends_with("x, 2 shards given out again"));
        assert_eq!(position(&job(JobState::Computing, 2048, 64)), 2048);
    }

    #[test]
    fn lines_come_with_news_and_not_too_often() {
        let at = |seconds, position, state| ProgressLine { seconds, state, position };
        let last = at(0.0, 0, JobState::Computing);
        assert!(!last.is_old(at(60.0, 0, JobState::Computing)));
        assert!(last.is_old(at(1.0, 32, JobState::Computing)));
        let last = at(1.0, 32, JobState::Computing);
        assert!(!last.is_old(at(2.0, 64, JobState::Computing)));
        assert!(last.is_old(at(2.0, 64, JobState::Reducing)) && last.is_old(at(12.0, 64, JobState::Computing)));
    }

    /// Keys are added, never renamed: a line is the sweep as `status --json` has it, and more.
    #[test]
    fn a_line_of_json_is_the_sweeps_view_and_more() {
        let jobs = vec![job(JobState::Computing, 512, 512)];
        let sweep = Sweep { id: "s".into(), jobs, progress: 0.25, seconds_left: Some(10.0), ..Default::default() };
        let view = SweepView::from(&sweep);
        let plain = serde_json::to_value(&view).unwrap();
        let line = serde_json::to_value(SweepLine { event: "sweep", view }).unwrap();
        for (key, value) in plain.as_object().unwrap() {
            assert_eq!(&line[key], value, "{key}");
        }
        assert_eq!(line["event"], "sweep");
        assert_eq!((&line["progress"], &line["seconds_left"]), (&0.25.into(), &10.0.into()));
    }

    #[test]
    fn a_sweep_runs_from_its_start_to_its_end_or_to_now() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let open = Sweep { started_at: at(40), state: SweepState::Running.into(), ..Default::default() };
        assert_eq!(running_seconds(&open, now), Some(60.0));
        let ended = Sweep { ended_at: at(50), state: SweepState::Complete.into(), ..open };
        assert_eq!(running_seconds(&ended, now), Some(10.0));
        assert_eq!(running_seconds(&Sweep::default(), now), None);
    }
}
