//! The terminal while a full screen is on it. It is given back when the session ends, and before a panic is told.

use crate::cli::Failure;
use ratatui::{DefaultTerminal, Frame};
use std::io;

/// A terminal that was taken.
pub(super) struct TerminalSession(DefaultTerminal);

impl TerminalSession {
    /// Takes the terminal behind stdin and stdout.
    pub(super) fn begin() -> Result<Self, Failure> {
        // It also sees to panics.
        ratatui::try_init().map(Self).map_err(|e| {
            let _ = ratatui::try_restore();
            failure(e)
        })
    }

    /// Draws a frame.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.0.draw(render).map(drop).map_err(failure)
    }
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        // When the terminal is gone nothing is left to give back.
        let _ = ratatui::try_restore();
        let _ = self.0.show_cursor();
    }
}

fn failure(e: io::Error) -> Failure {
    Failure::other(format!("cannot draw on the terminal: {e}; use --once instead"))
}
