//! The table of a program's keys in a page of the guide.

use crate::ConfigurationKey;
use std::io::{Error, Result};
use std::path::Path;

/// The keys as a Markdown table.
pub fn reference(keys: &[ConfigurationKey]) -> String {
    let mut lines = vec!["| key | flag | default | meaning |".to_owned(), "|---|---|---|---|".to_owned()];
    for key in keys {
        let flag = match key.value_name {
            "" => format!("`--{}`", key.flag()),
            value => format!("`--{} {value}`", key.flag()),
        };
        lines.push(format!("| `{}` | {flag} | {} | {} |", key.name, key.default, key.meaning));
    }
    lines.join("\n")
}

/// Whether the table between `<!-- keys of PROGRAM -->` and `<!-- end -->` of a page is that of these keys. With the variable
/// `NADGRID_REGENERATE` the page is written first.
///
/// # Errors
/// The page cannot be read or written, or lacks the marks.
pub fn is_current(page: &Path, program: &str, keys: &[ConfigurationKey]) -> Result<bool> {
    let written = std::fs::read_to_string(page)?;
    let mark = format!("<!-- keys of {program} -->\n");
    let lacks = || Error::other(format!("{} lacks {mark}", page.display()));
    let (before, marked) = written.split_once(&mark).ok_or_else(lacks)?;
    let (_, after) = marked.split_once("<!-- end -->").ok_or_else(lacks)?;
    let fresh = format!("{before}{mark}{}\n<!-- end -->{after}", reference(keys));
    if std::env::var_os("NADGRID_REGENERATE").is_some() {
        std::fs::write(page, &fresh)?;
        return Ok(true);
    }
    Ok(written == fresh)
}
