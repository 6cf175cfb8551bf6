//! Writing to stdout and stderr without a panic when the reader has gone.

use super::Failure;
use nadgrid_core::text::clean;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};

/// Writes a result to stdout, as a line of its own.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written =
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::other(format!("cannot write to stdout: {e}")),
    })
}

/// Writes a result as JSON for people and scripts.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&escaped(serde_json::to_string_pretty(value).map_err(Failure::other)?))
}

/// Writes a result as JSON in one line, as one of many.
pub(crate) fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    print(&escaped(serde_json::to_string(value).map_err(Failure::other)?))
}

/// JSON in which the characters that a terminal obeys are escapes: a spec has every character that there is, and keeps it.
fn escaped(json: String) -> String {
    if !json.chars().any(is_obeyed) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a terminal would obey it. Of the others in ASCII, JSON has only the line ends between values.
fn is_obeyed(c: char) -> bool {
    if c.is_ascii() {
        return c == '\u{7f}';
    }
    let mut utf8 = [0; 4];
    let text: &str = c.encode_utf8(&mut utf8);
    clean(text, 1) != text
}

/// Writes a line to stderr; when that is closed there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_character_and_none_is_obeyed() {
        let text = "é\u{1b}[2J\u{7f}\u{9b}\r\n\u{202e}\u{2069}方";
        let json = escaped(serde_json::to_string_pretty(&[text]).unwrap());
        assert_eq!(clean(&json.replace('\n', ""), usize::MAX), json.replace('\n', ""));
        assert!(json.contains("\\u202e") && json.contains('方'), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}
