//! The tables of docs/spec.md are made from the keys of the reader of specs. To renew them:
//! `NADGRID_REGENERATE=1 cargo test -p nadgrid-core --test spec_page`.
//!
//! A table stands between `<!-- keys of SECTION -->` and `<!-- end -->`; what is outside these marks is written by hand.

use nadgrid_core::architecture::{self, Shape};
use nadgrid_core::spec::{Experiment, MAX_PIXELS, Presence, Spec, SpecKey, SpecSection};
use nadgrid_core::text::thousands;
use std::fs;
use std::path::Path;

/// Columns of a paragraph.
const COLUMNS: usize = 120;
const END: &str = "<!-- end -->";

/// The name by which the page marks the tables of several sections that are the same.
fn common_name(section: &SpecSection) -> &str {
    match section.path.rsplit_once('.') {
        _ if section.path.is_empty() => "the sweep",
        Some((_, name @ ("basis" | "training"))) => name,
        _ => &section.path,
    }
}

fn default(key: &SpecKey) -> String {
    match &key.presence {
        Presence::Required(_) => "required".to_owned(),
        Presence::Default(value) => format!("`{value}`"),
        Presence::Optional(_) => String::new(),
    }
}

/// What a key accepts, quoted values in the type of code.
fn accepted(key: &SpecKey) -> String {
    let parts: Vec<&str> = key.accepted.split('"').collect();
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let quoted = format!("`\"{part}\"`");
        text.push_str(if index % 2 == 0 { part } else { &quoted });
    }
    text
}

/// The table of the sections that share a name; a column of defaults for each choice of them.
fn table(sections: &[&SpecSection]) -> String {
    let first = sections[0];
    let has_kinds = first.keys.iter().any(|key| key.kind.is_some());
    let mut columns: Vec<&SpecSection> = Vec::new();
    for section in sections {
        let is_new = |known: &&SpecSection| known.keys.iter().map(default).ne(section.keys.iter().map(default));
        if columns.iter().all(is_new) {
            columns.push(section);
        }
    }
    let mut heads = vec!["key".to_owned()];
    heads.extend(has_kinds.then(|| "of kind".to_owned()));
    heads.extend(columns.iter().enumerate().map(|(index, section)| match (columns.len(), index) {
        (1, _) => "default".to_owned(),
        (_, 0) => format!("default of `{}`", section.path.split('.').next().unwrap_or_default()),
        _ => "of the others".to_owned(),
    }));
    heads.extend(["accepted".to_owned(), "meaning".to_owned()]);
    let mut lines = vec![format!("| {} |", heads.join(" | ")), format!("|{}", "---|".repeat(heads.len()))];
    for (index, key) in first.keys.iter().enumerate() {
        let mut cells = vec![format!("`{}`", key.name)];
        cells.extend(has_kinds.then(|| key.kind.map_or("all".to_owned(), |kind| format!("`{kind}`"))));
        cells.extend(columns.iter().map(|section| default(&section.keys[index])));
        cells.extend([accepted(key), key.meaning.clone()]);
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    lines.join("\n")
}

fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in words.split_whitespace() {
        let is_full = column + 1 + word.len() > COLUMNS;
        if column > 0 {
            text.push(if is_full { '\n' } else { ' ' });
        }
        column = if is_full || column == 0 { word.len() } else { column + 1 + word.len() };
        text.push_str(word);
    }
    text
}

/// What stands between the marks of a name.
fn generated(name: &str) -> String {
    let sections = Spec::sections();
    let own: Vec<&SpecSection> = sections.iter().filter(|section| common_name(section) == name).collect();
    assert!(!own.is_empty(), "docs/spec.md marks the keys of {name:?}, which is no section");
    for section in &own {
        let meanings = |section: &SpecSection| section.keys.iter().map(|k| k.meaning.clone()).collect::<Vec<_>>();
        assert_eq!(meanings(section), meanings(own[0]), "{} has keys of its own", section.path);
    }
    format!("{}\n\n{}", wrapped(&own[0].meaning), table(&own))
}

fn page(written: &str) -> String {
    let mut fresh = String::new();
    let mut rest = written;
    while let Some((before, marked)) = rest.split_once("<!-- keys of ") {
        let (name, after) = marked.split_once(" -->").expect("a mark ends with -->");
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("the keys of {name} have no {END}"));
        fresh.push_str(&format!("{before}<!-- keys of {name} -->\n{}\n{END}", generated(name)));
        rest = after;
    }
    fresh + rest
}

#[test]
fn the_page_has_every_key_as_the_reader_declares_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec.md");
    let written = fs::read_to_string(&path).unwrap();
    let fresh = page(&written);
    if std::env::var_os("NADGRID_REGENERATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap();
    let advice = "docs/spec.md is stale: run NADGRID_REGENERATE=1 cargo test -p nadgrid-core --test spec_page";
    assert!(held == fresh, "{advice}");
    for section in Spec::sections() {
        let mark = format!("<!-- keys of {} -->", common_name(&section));
        assert!(held.contains(&mark), "docs/spec.md lacks {mark}");
    }
}

#[test]
fn the_page_has_every_architecture_with_its_parameters() {
    let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec.md")).unwrap();
    for name in architecture::names() {
        let counts = [(1, Experiment::Nads), (1, Experiment::Directional), (3, Experiment::Poisoning)];
        let counts = counts.map(|(channels, experiment)| {
            let shape = Shape { channels, height: 32, width: 32 };
            let network = architecture::find(name).unwrap().network(shape, experiment.outputs()).unwrap();
            thousands(network.parameter_count() as u64)
        });
        let begin = format!("| `{name}` | ");
        let end = format!(" | {} |", counts.join(" / "));
        let found = written.lines().any(|line| line.starts_with(&begin) && line.ends_with(&end));
        assert!(found, "docs/spec.md lacks {begin}...{end}");
    }
}

#[test]
fn the_meaning_of_input_states_the_largest_one() {
    let sections = Spec::sections();
    let input = sections.iter().find(|section| section.path == "input").unwrap();
    assert!(input.meaning.contains(&format!("at most {}", thousands(MAX_PIXELS as u64))), "{}", input.meaning);
}
