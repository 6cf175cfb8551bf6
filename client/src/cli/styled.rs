//! Words with a tone, for whatever they are drawn on: a terminal line by line, or a full screen.
//!
//! A row never holds a control character, whoever sent its words. Absent: colours as the only difference between two things.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The mark for the rest of a row that is cut off.
const CUT: &str = "…";

/// The emphasis of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextStyle {
    Plain,
    Strong,
    Faint,
    Accent,
    Good,
    Warn,
    Bad,
}

impl TextStyle {
    /// The parameter of the terminal's "select graphic rendition".
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Accent => Some("36"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
        }
    }

    /// The same on a full screen; without colours only weight is left.
    pub(crate) fn style(self, colours: bool) -> Style {
        let plain = Style::new();
        match self {
            Self::Plain => plain,
            Self::Strong => plain.add_modifier(Modifier::BOLD),
            Self::Faint => plain.add_modifier(Modifier::DIM),
            _ if !colours => plain,
            Self::Accent => plain.fg(Color::Cyan),
            Self::Good => plain.fg(Color::Green),
            Self::Warn => plain.fg(Color::Yellow),
            Self::Bad => plain.fg(Color::Red),
        }
    }
}

/// Whether colours are wanted: <https://no-color.org>.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A line of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StyledRow(Vec<(TextStyle, String)>);

impl StyledRow {
    /// Creates a row of these words.
    pub(crate) fn of(tone: TextStyle, words: impl AsRef<str>) -> Self {
        Self::default().and(tone, words)
    }

    /// Appends words.
    pub(crate) fn and(mut self, tone: TextStyle, words: impl AsRef<str>) -> Self {
        self.0.push((tone, plain(words.as_ref())));
        self
    }

    /// Returns the width in columns of a terminal.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, words)| words.width()).sum()
    }

    /// The row in at most so many columns.
    pub(crate) fn within(self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(CUT.width());
        let mut kept = Vec::new();
        for (tone, words) in self.0 {
            let part = head(&words, left);
            left -= part.width();
            let whole = part.len() == words.len();
            kept.push((tone, part.to_owned()));
            if !whole {
                kept.push((tone, CUT.to_owned()));
                break;
            }
        }
        Self(kept)
    }

    /// Returns the row as a line of a terminal.
    pub(crate) fn to_terminal(&self, colours: bool) -> String {
        let painted = |(tone, words): &(TextStyle, String)| match tone.sgr().filter(|_| colours) {
            Some(sgr) if !words.is_empty() => format!("\x1b[{sgr}m{words}\x1b[0m"),
            _ => words.clone(),
        };
        self.0.iter().map(painted).collect()
    }

    /// Returns the row as a line of a full screen.
    pub(crate) fn to_line(&self, colours: bool) -> Line<'static> {
        Line::from_iter(self.0.iter().map(|(tone, words)| Span::styled(words.clone(), tone.style(colours))))
    }
}

/// Words without what a terminal would obey.
pub(crate) fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As much of the beginning as fits into so many columns.
fn head(words: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = words.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > columns
    });
    end.map_or(words, |(end, _)| &words[..end])
}

/// A bar of so many columns, of which `done` and then `under_way` (shares of 1) are filled.
pub(crate) fn bar(row: StyledRow, columns: usize, done: f64, under_way: f64) -> StyledRow {
    let cells = |share: f64| ((share.clamp(0.0, 1.0) * columns as f64) as usize).min(columns);
    let first = cells(done);
    let both = cells(done + under_way).max(first);
    row.and(TextStyle::Good, "━".repeat(first))
        .and(TextStyle::Accent, "━".repeat(both - first))
        .and(TextStyle::Faint, "─".repeat(columns - both))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: &StyledRow) -> String {
        row.to_terminal(false)
    }

    #[test]
    fn a_row_is_cut_where_the_terminal_ends() {
        let row = StyledRow::of(TextStyle::Bad, "four").and(TextStyle::Plain, "five5");
        assert_eq!(text(&row.clone().within(9)), "fourfive5");
        assert_eq!(text(&row.clone().within(8)), "fourfiv…");
        assert_eq!(text(&row.clone().within(3)), "fo…");
        for columns in 1..12 {
            assert!(row.clone().within(columns).width() <= columns);
        }
        // Characters of two columns.
        let wide = StyledRow::of(TextStyle::Plain, "方向性");
        assert_eq!((wide.width(), text(&wide.within(4))), (6, "方…".into()));
    }

    #[test]
    fn nobody_steers_the_terminal_through_a_message() {
        let row = StyledRow::of(TextStyle::Plain, "a\x1b[2J\nb\u{9b}c");
        assert_eq!(text(&row), "a [2J b c");
    }

    #[test]
    fn colours_come_only_when_they_are_wanted() {
        let row = StyledRow::of(TextStyle::Bad, "x").and(TextStyle::Plain, "y");
        assert_eq!(row.to_terminal(true), "\x1b[31mx\x1b[0my");
        assert_eq!(row.to_terminal(false), "xy");
        assert_eq!(TextStyle::Bad.style(false), Style::new());
        assert_eq!(TextStyle::Bad.style(true).fg, Some(Color::Red));
    }

    #[test]
    fn a_bar_has_its_width_whatever_it_shows() {
        for (done, under_way) in [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5), (0.3, f64::NAN)] {
            assert_eq!(bar(StyledRow::default(), 8, done, under_way).width(), 8, "{done} {under_way}");
        }
        assert_eq!(text(&bar(StyledRow::default(), 8, 0.5, 0.25)), "━━━━━━──");
    }
}
