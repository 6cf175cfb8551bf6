//! Rows that are drawn again in place, below what a terminal already shows.
//!
//! A frame is one write: up over the last frame, each row and what is left of its line, and what is left of the screen. Where the
//! terminal has become narrower, it has wrapped the rows of the last frame, and the way up is as much longer. Absent: a hidden
//! cursor and modes; whenever it ends, what stands on the screen stays and nothing has to be put right.

use crate::cli::styled::{StyledRow, colours};
use std::fmt::Write as _;
use std::io::{self, Write};

/// The size of a terminal that reports none.
const SIZE: (usize, usize) = (80, 24);

/// The rows at the bottom of the terminal behind stderr.
#[derive(Debug)]
pub(crate) struct Live {
    colours: bool,
    /// As they stand.
    rows: Vec<StyledRow>,
}

impl Live {
    /// Creates a display that has drawn nothing.
    pub(crate) fn new() -> Self {
        Self { colours: colours(), rows: Vec::new() }
    }

    /// Columns and lines of the terminal.
    pub(crate) fn size() -> (usize, usize) {
        let size = crossterm::terminal::size().map(|(columns, lines)| (usize::from(columns), usize::from(lines)));
        size.ok().filter(|&(columns, lines)| columns > 0 && lines > 0).unwrap_or(SIZE)
    }

    /// Shows these rows instead of the last ones.
    pub(crate) fn draw(&mut self, rows: Vec<StyledRow>) {
        // When stderr is gone there is nobody to show anything to.
        let _ = io::stderr().lock().write_all(self.frame(Self::size().0, rows, "").as_bytes());
    }

    /// Says something above the rows.
    pub(crate) fn say(&mut self, text: &str) {
        let rows = self.rows.clone();
        let _ = io::stderr().lock().write_all(self.frame(Self::size().0, rows, text).as_bytes());
    }

    /// Returns the text that replaces the last frame by the next one, with `above` written over it.
    fn frame(&mut self, columns: usize, rows: Vec<StyledRow>, above: &str) -> String {
        let up: usize = self.rows.iter().map(|row| row.width().div_ceil(columns).max(1)).sum();
        let mut frame = String::from("\r");
        if up > 0 {
            let _ = write!(frame, "\x1b[{up}A");
        }
        for line in above.lines() {
            let _ = write!(frame, "{}\x1b[K\r\n", crate::cli::styled::plain(line));
        }
        for row in &rows {
            let _ = write!(frame, "{}\x1b[K\r\n", row.to_terminal(self.colours));
        }
        frame.push_str("\x1b[J");
        self.rows = rows;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::styled::TextStyle;

    fn rows(words: &[&str]) -> Vec<StyledRow> {
        words.iter().map(|words| StyledRow::of(TextStyle::Plain, words)).collect()
    }

    #[test]
    fn a_frame_replaces_the_last_one() {
        let mut live = Live { colours: false, rows: Vec::new() };
        assert_eq!(live.frame(80, rows(&["a", "b"]), ""), "\ra\x1b[K\r\nb\x1b[K\r\n\x1b[J");
        assert_eq!(live.frame(80, rows(&["c"]), ""), "\r\x1b[2Ac\x1b[K\r\n\x1b[J");
        assert_eq!(live.frame(80, rows(&["c"]), "news"), "\r\x1b[1Anews\x1b[K\r\nc\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn rows_that_a_narrower_terminal_has_wrapped_are_counted() {
        let mut live = Live { colours: false, rows: rows(&["1234567890", "", "12345"]) };
        assert!(live.frame(5, Vec::new(), "").starts_with("\r\x1b[4A"));
        assert!(live.frame(5, Vec::new(), "").starts_with("\r\x1b[J"));
    }
}
