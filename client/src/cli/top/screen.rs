//! The screen of `nadgrid top`.
//!
//! ```text
//! head      the coordinator, its workers and slots, or that it is away
//! sweeps    state, progress, rate, time left
//! jobs      of the selected sweep, where there is room
//! workers   device, slots, rate, what was last heard and the last error
//! foot      what became of the last action, and the keys
//! ```
//! Absent: decisions. Every size of terminal gets what fits.

use super::model::{Model, Pane, ScreenMode};
use crate::cli::progress::running_seconds;
use crate::cli::progress::totals::{SweepTotals, pace, parts_of, word};
use crate::cli::progress::view::{ProgressView, state_tone};
use crate::cli::styled::{StyledRow, TextStyle, bar};
use crate::cli::tables::count;
use nadgrid_client::v1::{Sweep, Worker};
use nadgrid_client::{WorkerView, has_ended, sweep_state};
use nadgrid_core::text::{duration, thousands, whole_percent};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState};
use std::time::SystemTime;

/// From so many columns on there is room for what one can do without.
const WIDE: u16 = 90;
/// The time that a payload waits for a place before that is a worker's state.
const WAITS_LONG_MS: u64 = 2000;
/// Columns of a bar, wide and narrow.
const BARS: [usize; 2] = [12, 6];
/// Lines of a table besides its rows: title and names of columns.
const FRAME: u16 = 2;

const KEYS: [(&str, &str); 7] = [
    ("up, down, k, j", "select"),
    ("Tab", "sweeps or workers"),
    ("p", "pause the sweep"),
    ("r", "resume it"),
    ("c", "cancel it"),
    ("?", "this help"),
    ("q", "quit; the cluster continues"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, now: SystemTime) {
    let area = frame.area();
    let [head_area, middle, foot_area] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(head(model, area.width)), head_area);
    let [sweeps_area, jobs_area, workers_area] = middle_areas(model, middle);
    sweeps(frame, model, sweeps_area, now);
    jobs(frame, model, jobs_area, now);
    workers(frame, model, workers_area);
    frame.render_widget(Paragraph::new(foot(model, area.width)), foot_area);
    match &model.mode {
        ScreenMode::Looking => {}
        ScreenMode::Help => popup(frame, " keys ", help()),
        ScreenMode::Confirm(action, id, name) => {
            let question = format!("{} {name}?", capital(action.verb()));
            let lines = vec![
                Line::raw(question),
                Line::raw(id.clone()),
                Line::raw(""),
                Line::raw("y: yes   any other key: no"),
            ];
            popup(frame, " sure? ", lines);
        }
    }
}

/// Sweeps, jobs and workers one below the other, each as high as it needs to be while there is room.
fn middle_areas(model: &Model, middle: Rect) -> [Rect; 3] {
    let rows = |count: usize| cells(count.max(1)).saturating_add(FRAME);
    let room = middle.height;
    let workers = rows(model.workers.len()).min((room * 2 / 5).max(3)).min(room);
    let rest = room - workers;
    let wanted = model.selected().map_or(0, |sweep| cells(sweep.jobs.len() + 1 + notes(sweep).len()));
    // The sweeps keep half of what is left.
    let jobs = if rest >= 10 { wanted.min(rest / 2) } else { 0 };
    let sweeps = rows(model.sweeps.len()).min(rest - jobs);
    let heights = [sweeps, jobs, workers].map(Constraint::Length);
    Layout::vertical(heights).areas(middle)
}

fn head(model: &Model, columns: u16) -> Line<'static> {
    let row = StyledRow::of(TextStyle::Strong, "nadgrid top").and(TextStyle::Plain, format!("  {}  ", model.url));
    let row = match &model.away {
        Some(reason) => row.and(TextStyle::Bad, format!("is away ({reason}), trying again")),
        None => {
            let here: Vec<&Worker> = model.workers.iter().filter(|worker| worker.connected).collect();
            let slots: u64 = here.iter().map(|worker| u64::from(worker.slots)).sum();
            let busy: u64 = here.iter().map(|worker| u64::from(worker.leases.min(worker.slots))).sum();
            let open = model.sweeps.iter().filter(|sweep| !has_ended(sweep)).count();
            let words =
                format!("{open} open, {}, {busy} of {}", count(here.len() as u64, "worker"), count(slots, "slot"));
            row.and(TextStyle::Faint, format!("{words} busy"))
        }
    };
    row.within(columns.into()).to_line(model.colours)
}

fn foot(model: &Model, columns: u16) -> Line<'static> {
    let keys = StyledRow::of(TextStyle::Faint, "?: keys  p: pause  r: resume  c: cancel  q: quit");
    let row = match &model.said {
        Some((tone, words)) => StyledRow::of(*tone, words).and(TextStyle::Faint, "   ?: keys  q: quit"),
        None => keys,
    };
    row.within(columns.into()).to_line(model.colours)
}

fn block(model: &Model, title: String, pane: Option<Pane>) -> Block<'static> {
    let tone = if pane.is_none_or(|pane| pane == model.pane) { TextStyle::Strong } else { TextStyle::Faint };
    let line = StyledRow::of(TextStyle::Plain, " ").and(tone, title).and(TextStyle::Plain, " ");
    Block::new()
        .borders(Borders::TOP)
        .border_style(TextStyle::Faint.style(model.colours))
        .title(line.to_line(model.colours))
}

/// A column: its name, its width, and whether it is of numbers.
type Column = (&'static str, Constraint, bool);

/// A table whose rows have a cell for each column.
fn table(
    model: &Model,
    columns: &[Column],
    rows: Vec<Vec<StyledRow>>,
    block: Block<'static>,
    is_focus: bool,
) -> Table<'static> {
    let aligned = |line: Line<'static>, is_number: bool| {
        Text::from(line).alignment(if is_number { Alignment::Right } else { Alignment::Left })
    };
    let header = columns.iter().map(|&(name, _, number)| aligned(Line::raw(name), number));
    let rows = rows.into_iter().map(|cells| {
        let cells = cells.into_iter().zip(columns);
        Row::new(cells.map(|(cell, &(_, _, number))| aligned(cell.to_line(model.colours), number)).collect::<Vec<_>>())
    });
    let highlight = if is_focus { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    Table::new(rows.collect::<Vec<_>>(), columns.iter().map(|&(_, width, _)| width))
        .header(Row::new(header).style(TextStyle::Faint.style(model.colours)))
        .block(block)
        .row_highlight_style(highlight)
}

fn sweeps(frame: &mut Frame<'_>, model: &mut Model, area: Rect, now: SystemTime) {
    let is_wide = area.width >= WIDE;
    let mut columns: Vec<Column> = vec![
        ("sweep", Constraint::Fill(1), false),
        ("state", Constraint::Length(10), false),
        ("progress", Constraint::Length(BARS[usize::from(!is_wide)] as u16 + 5), false),
    ];
    if is_wide {
        columns.push(("members", Constraint::Length(19), true));
    }
    columns.push(("rate", Constraint::Length(if is_wide { 16 } else { 9 }), true));
    columns.push(("left", Constraint::Length(if is_wide { 15 } else { 12 }), true));
    let rows = model.sweeps.iter().map(|sweep| sweep_cells(sweep, is_wide, now));
    let title = if model.sweeps.is_empty() {
        "no sweeps yet: submit one with `nadgrid submit SPEC`".to_owned()
    } else {
        format!("sweeps {}/{}", model.sweep_place().map_or(0, |place| place + 1), model.sweeps.len())
    };
    let is_focus = model.pane == Pane::Sweeps;
    let table = table(model, &columns, rows.collect(), block(model, title, Some(Pane::Sweeps)), is_focus);
    let mut state = TableState::new().with_selected(model.sweep_place());
    frame.render_stateful_widget(table, area, &mut state);
}

fn sweep_cells(sweep: &Sweep, is_wide: bool, now: SystemTime) -> Vec<StyledRow> {
    let SweepTotals { members, computed, members_per_second } = SweepTotals::of(sweep);
    let (done, under_way) = parts_of(sweep);
    let percent = format!(" {:>3}%", whole_percent(sweep.progress));
    let mut cells = vec![
        StyledRow::of(TextStyle::Plain, &sweep.name),
        StyledRow::of(state_tone(sweep), sweep_state(sweep)),
        bar(StyledRow::default(), BARS[usize::from(!is_wide)], done, under_way).and(TextStyle::Plain, percent),
    ];
    if is_wide {
        cells.push(StyledRow::of(TextStyle::Plain, format!("{}/{}", thousands(computed), thousands(members))));
    }
    let word = if is_wide { word(&sweep.jobs) } else { "" };
    cells.push(StyledRow::of(TextStyle::Plain, members_per_second.map_or(String::new(), |rate| pace(rate, word))));
    let took = if is_wide { "took " } else { "" };
    let took = || running_seconds(sweep, now).map(|seconds| format!("{took}{}", duration(seconds)));
    let left = if has_ended(sweep) { took() } else { sweep.seconds_left.map(duration) };
    cells.push(StyledRow::of(TextStyle::Plain, left.unwrap_or_default()));
    cells
}

/// Returns the problems of a sweep and what delays it, a row each.
fn notes(sweep: &Sweep) -> Vec<StyledRow> {
    let notices = sweep.notices.iter().map(|notice| StyledRow::of(TextStyle::Warn, notice));
    let message = (!sweep.message.is_empty()).then(|| StyledRow::of(TextStyle::Bad, &sweep.message));
    let retries: u64 = sweep.jobs.iter().map(|job| job.retries).sum();
    let retries =
        (retries > 0).then(|| StyledRow::of(TextStyle::Warn, format!("{} given out again", count(retries, "shard"))));
    let failed = sweep.failures.last();
    let failed = failed.map(|failure| StyledRow::of(TextStyle::Bad, format!("failed for good: {}", failure.message)));
    [message, failed, retries].into_iter().flatten().chain(notices).collect()
}

fn jobs(frame: &mut Frame<'_>, model: &Model, area: Rect, now: SystemTime) {
    let Some(sweep) = model.selected().filter(|_| area.height > 1) else { return };
    let view = ProgressView { sweep, workers: None, away: None, seconds: running_seconds(sweep, now) };
    let notes = notes(sweep);
    let columns = usize::from(area.width);
    let room = usize::from(area.height - 1).saturating_sub(notes.len()).max(1);
    let rows = view.jobs(columns, room).into_iter().chain(notes);
    let lines: Vec<Line<'static>> = rows.map(|row| row.within(columns).to_line(model.colours)).collect();
    let block = block(model, format!("{} {}", sweep.name, sweep.id), None);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn workers(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let is_wide = area.width >= WIDE;
    let longest = model.workers.iter().map(|worker| worker.name.chars().count()).max().unwrap_or(0) as u16;
    let mut columns: Vec<Column> = vec![
        ("worker", Constraint::Length(longest.clamp(6, if is_wide { 24 } else { 10 })), false),
        ("device", Constraint::Length(if is_wide { 13 } else { 6 }), false),
        ("leases", Constraint::Length(6), true),
        ("slots", Constraint::Length(5), true),
        ("rate", Constraint::Length(if is_wide { 11 } else { 9 }), true),
    ];
    if is_wide {
        columns.push(("of", Constraint::Length(17), false));
        columns.push(("done", Constraint::Length(9), true));
    }
    columns.push(("heard", Constraint::Length(if is_wide { 9 } else { 6 }), true));
    columns.push((" state", Constraint::Fill(1), false));
    let rows = model.workers.iter().map(|worker| worker_cells(worker, is_wide));
    let title = if model.workers.is_empty() {
        format!("no workers: start one with `nadgrid-worker --coordinator {}`", model.url)
    } else {
        format!("workers {}", model.workers.len())
    };
    let is_focus = model.pane == Pane::Workers;
    let table = table(model, &columns, rows.collect(), block(model, title, Some(Pane::Workers)), is_focus);
    let mut state = TableState::new().with_selected(model.worker_place());
    frame.render_stateful_widget(table, area, &mut state);
}

fn worker_cells(worker: &Worker, is_wide: bool) -> Vec<StyledRow> {
    let class = worker.numerics_class.as_ref();
    let device = match class {
        Some(class) if is_wide => format!("{} {}", class.device, class.arithmetic),
        Some(class) => class.device.clone(),
        None => String::new(),
    };
    let rate = worker.members_per_second;
    let rate = if rate > 0.0 { pace(rate, "") } else { String::new() };
    let mut cells: Vec<StyledRow> =
        [worker.name.clone(), device, worker.leases.to_string(), worker.slots.to_string(), rate]
            .map(|words| StyledRow::of(TextStyle::Plain, words))
            .into();
    if is_wide {
        cells.push(StyledRow::of(TextStyle::Plain, &worker.rate_of));
        cells.push(StyledRow::of(TextStyle::Plain, thousands(worker.members_done)));
    }
    let silent = worker.silent_ms as f64 / 1e3;
    let fits = is_wide || silent < 60.0;
    cells.push(StyledRow::of(
        TextStyle::Plain,
        if fits { duration(silent) } else { format!("{:.0} min", silent / 60.0) },
    ));
    let (tone, state) = worker_state(worker);
    cells.push(StyledRow::of(tone, format!(" {state}")));
    cells
}

fn worker_state(worker: &Worker) -> (TextStyle, String) {
    if !worker.unfit.is_empty() {
        return (TextStyle::Bad, format!("set aside: {}", worker.unfit));
    }
    let state = match (worker.connected, worker.draining) {
        (false, _) => "away",
        (true, true) => "draining",
        (true, false) if worker.transfers_waiting_ms >= WAITS_LONG_MS => {
            return (TextStyle::Warn, WorkerView::from(worker).transfer_words().unwrap_or_default());
        }
        (true, false) if worker.last_error.is_empty() => return (TextStyle::Good, "ok".into()),
        (true, false) => return (TextStyle::Warn, format!("error: {}", worker.last_error)),
    };
    (TextStyle::Warn, state.into())
}

fn help() -> Vec<Line<'static>> {
    KEYS.iter().map(|(key, does)| Line::raw(format!("{key:<16}{does}"))).collect()
}

/// A box in the middle, as large as what it says.
fn popup(frame: &mut Frame<'_>, title: &'static str, lines: Vec<Line<'static>>) {
    let area = frame.area();
    let columns = cells(lines.iter().map(Line::width).max().unwrap_or(0)).saturating_add(4);
    let [_, middle, _] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(cells(lines.len()).saturating_add(2)),
        Constraint::Fill(1),
    ])
    .areas(area);
    let [_, middle, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(columns), Constraint::Fill(1)]).areas(middle);
    frame.render_widget(Clear, middle);
    let block = Block::bordered().title(title).padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(lines).block(block), middle);
}

/// Rows or columns of a terminal, of which there are never more.
fn cells(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
