//! Files by length, by width and by kind.

use std::collections::BTreeMap;

use super::Measured;
use super::sources::{Line, Tracked};

/// The most lines that a file is read in at one sitting.
const MAX_LINES: usize = 600;
/// The width of Markdown, in characters.
const MAX_WIDTH: usize = 120;

/// Counts files over [`MAX_LINES`].
pub(super) fn long(files: &[Tracked]) -> Measured {
    let mut places = Vec::new();
    for file in files.iter().filter(|file| ["rs", "py"].contains(&file.extension())) {
        let lines = file.text.as_ref().map_or(0, |text| text.lines().count());
        if lines > MAX_LINES {
            let line = Line { path: file.path.clone(), number: lines };
            places.push((line, format!("{lines} lines, at most {MAX_LINES}")));
        }
    }
    Measured::counted("files_over_600_lines", places)
}

/// Counts lines of Markdown over [`MAX_WIDTH`]. A row of a table, code and a line of one word cannot be broken.
pub(super) fn wide(files: &[Tracked]) -> Measured {
    let mut places = Vec::new();
    for file in files.iter().filter(|file| file.extension() == "md") {
        let mut in_code = false;
        for (index, line) in file.text.iter().flat_map(|text| text.lines()).enumerate() {
            let trimmed = line.trim_start();
            in_code ^= trimmed.starts_with("```");
            let width = line.chars().count();
            if width > MAX_WIDTH && !in_code && !trimmed.starts_with('|') && trimmed.contains(' ') {
                let place = Line { path: file.path.clone(), number: index + 1 };
                places.push((place, format!("{width} characters, at most {MAX_WIDTH}")));
            }
        }
    }
    Measured::counted("markdown_lines_too_wide", places)
}

/// Counts the seeds of each fuzz target.
pub(super) fn seeds(files: &[Tracked]) -> Vec<Measured> {
    let mut targets: BTreeMap<&str, Vec<(Line, String)>> = BTreeMap::new();
    for file in files {
        let seed = file.path.strip_prefix("fuzz/corpus/").and_then(|path| path.split_once('/'));
        if let Some((target, seed)) = seed {
            let line = Line { path: file.path.clone(), number: 1 };
            targets.entry(target).or_default().push((line, seed.to_owned()));
        }
    }
    targets.into_iter().map(|(target, seeds)| Measured::counted(&format!("fuzz_seeds.{target}"), seeds)).collect()
}

/// Counts tracked files by kind, the most frequent first.
pub(super) fn kinds(files: &[Tracked]) -> Vec<(&'static str, usize)> {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        *kinds.entry(kind(file)).or_default() += 1;
    }
    let mut kinds: Vec<(&str, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    kinds
}

fn kind(file: &Tracked) -> &'static str {
    if file.path.starts_with("fuzz/corpus/") {
        return "fuzz corpora";
    }
    match file.extension() {
        "rs" => "Rust",
        "py" | "pyi" => "Python",
        "js" | "css" | "html" => "page",
        "md" => "Markdown",
        "toml" | "yml" | "yaml" | "json" | "lock" => "configuration and specs",
        "png" | "svg" => "pictures",
        "cpp" | "hpp" | "h" | "cu" => "C++ and CUDA",
        "npy" | "csv" | "npz" => "data",
        _ => "other",
    }
}
