//! Words for people: the nearest known name to a misspelt one, counts and durations.

/// The candidate nearest to `word` in edit distance, when it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance in characters.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Somebody else's words, as they may be kept, logged and shown: at most so many characters, and none that a terminal or a line of a
/// log would obey. Those become U+FFFD: control characters, and what changes the direction of writing.
pub fn clean(text: &str, most: usize) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let is_long = text.chars().nth(most).is_some();
    let kept = text
        .chars()
        .take(most.saturating_sub(usize::from(is_long)))
        .map(|c| if obeyed(c) { char::REPLACEMENT_CHARACTER } else { c });
    let mut kept: String = kept.collect();
    if is_long {
        kept.push('…');
    }
    kept
}

/// A sentence as it goes on after a colon: in lower case, unless it begins with an abbreviation.
pub fn uncapitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => format!("{}{}", first.to_lowercase(), letters.as_str()),
        _ => sentence.to_owned(),
    }
}

/// An integer with thousands separators: `2,097,152`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in binary units: `4.0 MiB`.
pub fn bytes(value: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{scaled:.1} {}", units[unit]) }
}

/// A duration in seconds as people say it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if !seconds.is_finite() => "unknown".into(),
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share of 1 in whole percent, 100 only when nothing is left: `99 %` of 0.999.
pub fn percent(share: f64) -> String {
    format!("{} %", whole_percent(share))
}

/// A share of 1 in whole percent, rounded down.
pub fn whole_percent(share: f64) -> u8 {
    // What is 0.29 on paper may be less in binary.
    (100.0 * share + 1e-9).clamp(0.0, 100.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("lenett", ["logreg", "lenet"]), Some("lenet"));
        assert_eq!(nearest("netwroks", ["networks", "step"]), Some("networks"));
        assert_eq!(nearest("transformer", ["logreg", "lenet"]), None);
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(thousands(4_194_304), "4,194,304");
        assert_eq!(thousands(12), "12");
        assert_eq!(bytes(4 * 1024 * 1024), "4.0 MiB");
        // The page has the same words for the same numbers: tests/page/test_words.py.
        assert_eq!([0.42, 12.4, 185.2, 7_320.0].map(duration), ["0.4 s", "12 s", "3 min 5 s", "2 h 2 min"]);
        assert_eq!([0.0, 0.29, 0.999, 1.0, 1.5].map(percent), ["0 %", "29 %", "99 %", "100 %", "100 %"]);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("é x\u{1b}[2J\r\n\u{9b}\u{202e}", 100), "é x\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!((clean("abcd", 4), clean("abcd", 3)), ("abcd".to_owned(), "ab…".to_owned()));
    }
}
