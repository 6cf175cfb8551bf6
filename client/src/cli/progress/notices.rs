//! Notices as lines, where there is no live view: each kind at once, and not again for every second that it lasts.
//!
//! A notice that lasts changes its numbers: how many results wait, and since when. Deliberately absent: what a notice means.

use std::collections::BTreeMap;

/// Between two lines of one kind, in seconds.
const AGAIN_SECONDS: f64 = 60.0;
/// Kinds that are remembered. Beyond that all are forgotten, and told anew.
const MOST_KINDS: usize = 1_000;

/// The notices that were told, by kind: the words without their digits.
#[derive(Debug, Default)]
pub(super) struct NoticeLines {
    told: BTreeMap<String, ToldNotice>,
}

/// The latest line of a kind.
#[derive(Debug)]
struct ToldNotice {
    /// Seconds since some start.
    seconds: f64,
    words: String,
}

impl NoticeLines {
    /// The notices that are due for a line at this moment, in seconds since some start.
    pub(super) fn due<'a>(&mut self, seconds: f64, notices: &'a [String]) -> Vec<&'a str> {
        notices.iter().map(String::as_str).filter(|notice| self.take(seconds, notice)).collect()
    }

    /// Whether a notice is due; it counts as told then.
    fn take(&mut self, seconds: f64, notice: &str) -> bool {
        let kind: String = notice.chars().filter(|c| !c.is_ascii_digit()).collect();
        let is_old = |told: &ToldNotice| told.words == notice || seconds - told.seconds < AGAIN_SECONDS;
        if self.told.get(&kind).is_some_and(is_old) {
            return false;
        }
        if self.told.len() >= MOST_KINDS {
            self.told.clear();
        }
        self.told.insert(kind, ToldNotice { seconds, words: notice.to_owned() });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of waiting, looked at every second, is 60 lines and not 3,600.
    #[test]
    fn a_notice_that_lasts_is_a_line_a_minute() {
        let mut lines = NoticeLines::default();
        let told = (0..3_600).map(|second| {
            let waits = format!("12 results wait for a place, the first for {second} s");
            lines.due(f64::from(second), &[waits]).len()
        });
        assert_eq!(told.sum::<usize>(), 60);
    }

    #[test]
    fn another_kind_is_a_line_at_once_and_the_same_words_never_again() {
        let mut lines = NoticeLines::default();
        let aside = ["the worker a is set aside: wrong bits".to_owned(), "the sweep is paused".to_owned()];
        assert_eq!(lines.due(0.0, &aside[..1]), [&aside[0]]);
        assert_eq!(lines.due(1.0, &aside), [&aside[1]]);
        assert!(lines.due(1e6, &aside).is_empty());
        for number in 0..3 * MOST_KINDS {
            let letters: String = number.to_string().bytes().map(|digit| char::from(digit + b'a' - b'0')).collect();
            assert_eq!(lines.due(0.0, &[letters]).len(), 1);
        }
        assert!(lines.told.len() <= MOST_KINDS);
    }
}
