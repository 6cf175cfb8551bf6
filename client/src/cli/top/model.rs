//! The state of `top`: what it knows, and what its user has chosen.
//!
//! ```text
//! Looking ──?──▶ Help ──any key──▶ Looking
//!    └──p, r, c──▶ Confirm ──y, Enter──▶ Command::Act
//!                     └──── any other key ──▶ Looking
//! ```
//! A selection is kept by id, so it stays on its sweep when others come. Absent: the terminal, the coordinator and their clocks.

use crate::cli::styled::TextStyle;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use nadgrid_client::v1::{Sweep, Worker};
use nadgrid_client::{Error, has_ended, sweep_state};

/// A cluster at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct ClusterSnapshot {
    pub(super) sweeps: Vec<Sweep>,
    pub(super) workers: Vec<Worker>,
}

/// An action on a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SweepAction {
    Pause,
    Resume,
    Cancel,
}

impl SweepAction {
    /// As a verb.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

/// The command of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScreenCommand {
    Nothing,
    Quit,
    Interrupt,
    /// To do something to the sweep with this id.
    Act(SweepAction, String),
}

/// The meaning of the keys now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScreenMode {
    Looking,
    Help,
    /// Whether to do it to the sweep of this id and name.
    Confirm(SweepAction, String, String),
}

/// The table that the arrows move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Sweeps,
    Workers,
}

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) url: String,
    pub(super) colours: bool,
    /// Open sweeps first, then newest first.
    pub(super) sweeps: Vec<Sweep>,
    /// The workers, by name.
    pub(super) workers: Vec<Worker>,
    pub(super) mode: ScreenMode,
    pub(super) pane: Pane,
    /// The reason why the coordinator does not answer, where it does not.
    pub(super) away: Option<String>,
    /// The outcome of the last action.
    pub(super) said: Option<(TextStyle, String)>,
    sweep: Option<String>,
    worker: Option<String>,
}

impl Model {
    /// Of the coordinator at `url`, of which nothing is known yet.
    pub(super) fn new(url: &str, colours: bool) -> Self {
        Self {
            url: url.to_owned(),
            colours,
            sweeps: Vec::new(),
            workers: Vec::new(),
            mode: ScreenMode::Looking,
            pane: Pane::Sweeps,
            away: None,
            said: None,
            sweep: None,
            worker: None,
        }
    }

    /// Takes in how the cluster stands now.
    pub(super) fn take(&mut self, snapshot: ClusterSnapshot) {
        let ClusterSnapshot { mut sweeps, mut workers } = snapshot;
        // Stable: the coordinator gives the newest first.
        sweeps.sort_by_key(has_ended);
        workers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self.sweeps = sweeps;
        self.workers = workers;
        self.away = None;
    }

    /// The coordinator does not answer.
    pub(super) fn away(&mut self, reason: String) {
        self.away = Some(reason);
    }

    /// Shows the outcome of an action.
    pub(super) fn acted(&mut self, action: SweepAction, outcome: Result<&Sweep, &Error>) {
        // What the next key means depends on it.
        if let Ok(sweep) = outcome
            && let Some(known) = self.sweeps.iter_mut().find(|known| known.id == sweep.id)
        {
            known.clone_from(sweep);
        }
        self.said = Some(match outcome {
            Ok(sweep) => (TextStyle::Good, format!("{} is {} now", sweep.name, sweep_state(sweep))),
            Err(error) => (TextStyle::Bad, format!("cannot {} it: {error}", action.verb())),
        });
    }

    /// Place of the selected sweep; the first one unless another was chosen.
    pub(super) fn sweep_place(&self) -> Option<usize> {
        place(&self.sweep, self.sweeps.iter().map(|sweep| &sweep.id))
    }

    /// Place of the selected worker.
    pub(super) fn worker_place(&self) -> Option<usize> {
        place(&self.worker, self.workers.iter().map(|worker| &worker.id))
    }

    /// The selected sweep.
    pub(super) fn selected(&self) -> Option<&Sweep> {
        self.sweep_place().and_then(|place| self.sweeps.get(place))
    }

    /// Applies a key press.
    pub(super) fn key(&mut self, key: KeyEvent) -> ScreenCommand {
        if key.kind == KeyEventKind::Release {
            return ScreenCommand::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { ScreenCommand::Interrupt } else { ScreenCommand::Nothing };
        }
        match std::mem::replace(&mut self.mode, ScreenMode::Looking) {
            ScreenMode::Looking => self.looking(key.code),
            ScreenMode::Help => ScreenCommand::Nothing,
            ScreenMode::Confirm(action, id, _) => match key.code {
                KeyCode::Char('y' | 'Y') | KeyCode::Enter => {
                    self.said = Some((TextStyle::Plain, format!("asking the coordinator to {} it", action.verb())));
                    ScreenCommand::Act(action, id)
                }
                _ => ScreenCommand::Nothing,
            },
        }
    }

    fn looking(&mut self, key: KeyCode) -> ScreenCommand {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return ScreenCommand::Quit,
            KeyCode::Char('?' | 'h') => self.mode = ScreenMode::Help,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-10),
            KeyCode::PageDown => self.step(10),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.pane = if self.pane == Pane::Sweeps { Pane::Workers } else { Pane::Sweeps };
            }
            KeyCode::Char('p') => self.confirm(SweepAction::Pause),
            KeyCode::Char('r') => self.confirm(SweepAction::Resume),
            KeyCode::Char('c') => self.confirm(SweepAction::Cancel),
            _ => {}
        }
        ScreenCommand::Nothing
    }

    fn step(&mut self, by: isize) {
        let moved = |from: Option<usize>, count: usize| {
            let last = count.checked_sub(1)?;
            Some(from.unwrap_or(0).saturating_add_signed(by).min(last))
        };
        match self.pane {
            Pane::Sweeps => {
                let to = moved(self.sweep_place(), self.sweeps.len());
                self.sweep = to.map(|place| self.sweeps[place].id.clone());
            }
            Pane::Workers => {
                let to = moved(self.worker_place(), self.workers.len());
                self.worker = to.map(|place| self.workers[place].id.clone());
            }
        }
    }

    /// Asks whether to do it, where it would change something.
    fn confirm(&mut self, action: SweepAction) {
        let Some(sweep) = self.selected() else { return };
        let refusal = match action {
            _ if has_ended(sweep) => Some(format!("{} is {} already", sweep.name, sweep_state(sweep))),
            SweepAction::Pause if sweep.paused => Some(format!("{} is already paused", sweep.name)),
            SweepAction::Resume if !sweep.paused => Some(format!("{} is not paused", sweep.name)),
            _ => None,
        };
        match refusal {
            Some(words) => self.said = Some((TextStyle::Warn, words)),
            None => self.mode = ScreenMode::Confirm(action, sweep.id.clone(), sweep.name.clone()),
        }
    }
}

fn place<'a>(chosen: &Option<String>, mut ids: impl ExactSizeIterator<Item = &'a String>) -> Option<usize> {
    let first = (ids.len() > 0).then_some(0);
    let found = chosen.as_ref().and_then(|chosen| ids.position(|id| id == chosen));
    found.or(first)
}
