use super::*;
use nadgrid_core::spec::{Spec, SpecError};
use std::collections::BTreeSet;
use toml::{Table, Value};

fn architectures() -> Vec<String> {
    vec!["lenet".into(), "logreg".into()]
}

/// Every choice of experiments.
fn choices() -> impl Iterator<Item = Vec<Experiment>> {
    (1..1 << Experiment::ALL.len()).map(|set| {
        let chosen = Experiment::ALL.into_iter().enumerate().filter(|(place, _)| set & 1 << place != 0);
        chosen.map(|(_, experiment)| experiment).collect()
    })
}

/// `nads.networks` and so on, with their values; tables themselves are left out.
fn keys(table: &Table, path: &str, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => keys(inner, &path, into),
            value => into.push((path, value.clone())),
        }
    }
}

fn keys_of(text: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    keys(&text.parse().unwrap(), "", &mut found);
    found
}

/// The text with a key changed, or without it.
fn changed(text: &str, key: &str, value: Option<Value>) -> String {
    let mut table: Table = text.parse().unwrap();
    let mut at = &mut table;
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    for part in path.into_iter().flat_map(|path| path.split('.')) {
        at = at[part].as_table_mut().unwrap();
    }
    match value {
        Some(value) => drop(at.insert(last.to_owned(), value)),
        None => drop(at.remove(last)),
    }
    table.to_string()
}

#[test]
fn what_is_written_is_a_spec_with_every_key_that_it_has() {
    let mut seen = 0;
    for experiments in choices() {
        let text = keys::spec("x", &experiments, &architectures());
        let spec = Spec::from_toml(&text).unwrap_or_else(|error| panic!("{experiments:?}: {error}\n{text}"));
        assert_eq!(spec.experiments().collect::<Vec<_>>(), experiments);
        assert_eq!(spec.architectures, architectures());
        let written: BTreeSet<String> = keys_of(&text).into_iter().map(|(key, _)| key).collect();
        let complete: BTreeSet<String> = keys_of(&spec.to_toml()).into_iter().map(|(key, _)| key).collect();
        assert!(complete.is_subset(&written), "{:?} are not told", complete.difference(&written));
        seen += 1;
    }
    assert_eq!(seen, 31);
}

/// The keys that a spec need not have, too: the reader itself says what it would take.
#[test]
fn every_key_that_the_reader_takes_is_told() {
    let mut asked = 0;
    for experiments in choices() {
        let text = keys::spec("x", &experiments, &architectures());
        let table: Table = text.parse().unwrap();
        let mut tables = vec![String::new()];
        for (name, value) in &table {
            let Value::Table(inner) = value else { continue };
            tables.push(name.clone());
            tables.extend(inner.iter().filter(|(_, v)| v.is_table()).map(|(inner, _)| format!("{name}.{inner}")));
        }
        for place in tables.iter().filter(|place| *place != "directional.directions") {
            let wrong = if place.is_empty() { "zzz".into() } else { format!("{place}.zzz") };
            let told = Spec::from_toml(&changed(&text, &wrong, Some(1.into()))).unwrap_err().to_string();
            let expected = told.split_once("expected").unwrap_or_else(|| panic!("{place}: {told}")).1;
            for key in expected.split('`').skip(1).step_by(2) {
                let known =
                    |line: &str| [format!("{key} = "), format!("# {key} = ")].iter().any(|k| line.starts_with(k));
                // Experiments that were not asked for are no keys of this spec.
                let left_out = Experiment::find(key).is_some() || key == "cifar10";
                let section = text.contains(&format!("\n[{key}]")) || text.contains(&format!("\n[{place}.{key}]"));
                assert!(left_out || section || text.lines().any(known), "{place}: {key} is not told");
                asked += 1;
            }
        }
    }
    assert!(asked > 500, "{asked}");
}

/// The directions' kinds have keys of their own.
#[test]
fn every_key_of_every_kind_of_direction_is_told() {
    for experiments in [vec![Experiment::Directional], vec![Experiment::Nads, Experiment::Directional]] {
        let text = keys::spec("x", &experiments, &architectures());
        for kind in ["dft", "nads", "file", "pixels", "random"] {
            assert!(text.contains(&format!("\"{kind}\"")), "{kind}");
            let directions: Table = format!("kind = '{kind}'\nzzz = 1").parse().unwrap();
            let told = Spec::from_toml(&changed(&text, "directional.directions", Some(directions.into())));
            let told = told.unwrap_err().to_string();
            let expected = told.split_once("expected").unwrap_or_else(|| panic!("{kind}: {told}")).1;
            for key in expected.split('`').skip(1).step_by(2) {
                let known = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
                assert!(text.lines().any(known), "{kind}: {key} is not told");
            }
        }
    }
}

/// The comment above each key, by key.
fn comments(text: &str) -> Vec<(String, String)> {
    let (mut section, mut comment, mut found) = (String::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.push((format!("{section}{key}"), std::mem::take(&mut comment)));
        } else if let Some(words) = line.strip_prefix("# ").filter(|words| !words.contains(" = ") || words.len() > 60) {
            comment = format!("{comment} {words}");
            continue;
        }
        comment.clear();
    }
    found
}

#[test]
fn defaults_are_the_readers_and_keys_without_one_are_needed() {
    let text = keys::spec("x", &Experiment::ALL, &architectures());
    let spec = Spec::from_toml(&text).unwrap();
    let (mut defaults, mut needed) = (0, 0);
    for (key, comment) in comments(&text) {
        let without = Spec::from_toml(&changed(&text, &key, None));
        if comment.contains("No default.") {
            assert!(without.is_err(), "{key} can be left out");
            needed += 1;
        } else if comment.contains("Default: ") && key != "input.channels" {
            assert_eq!(without.as_ref(), Ok(&spec), "{key} has another default");
            defaults += 1;
        }
    }
    assert!(defaults > 40 && needed >= 9, "{defaults} with and {needed} without");
}

#[test]
fn accepted_ranges_are_the_readers() {
    let seen: usize =
        Experiment::ALL.into_iter().map(|experiment| ranges(&keys::spec("x", &[experiment], &architectures()))).sum();
    assert!(seen > 40, "{seen}");
}

/// Tries both ends of every range, and gives how many there are.
fn ranges(text: &str) -> usize {
    let refuses = |key: &str, value: Value| match Spec::from_toml(&changed(text, key, Some(value))) {
        Ok(_) => false,
        Err(SpecError { violations }) => violations.iter().any(|violation| violation.field == key),
    };
    let mut seen = 0;
    for (key, comment) in comments(text) {
        let Some((_, range)) = comment.split_once("Accepted:").and_then(|(_, words)| words.split_once("from ")) else {
            continue;
        };
        let range = range.trim_end_matches('.').replace(',', "");
        let Some((least, most)) = range.split_once(" to ") else { continue };
        let (Ok(least), Ok(most)) = (least.parse::<f64>(), most.parse::<f64>()) else { continue };
        if comment.contains("a finite number") {
            assert!(!refuses(&key, least.into()) && !refuses(&key, most.into()), "{key}: {least} to {most}");
            assert!(refuses(&key, (most * 1.01).into()), "{key} takes more than {most}");
            assert!(refuses(&key, (least - 1e-7).into()), "{key} takes less than {least}");
        } else if most < 1e15 {
            let value = |number: f64| Value::from(number as i64);
            assert!(!refuses(&key, value(least)) && !refuses(&key, value(most)), "{key}: {least} to {most}");
            let above = if comment.contains("power of two") { 2.0 * most } else { most + 1.0 };
            assert!(refuses(&key, value(above)), "{key} takes more than {most}");
            assert!(refuses(&key, value(least - 1.0)), "{key} takes less than {least}");
        }
        seen += 1;
    }
    seen
}

#[test]
fn names_come_from_files() {
    for (file, expected) in
        [("a/lenet.toml", "lenet"), ("my sweep.toml", "my-sweep"), (".toml", "toml"), ("..", "sweep"), ("é.toml", "-")]
    {
        assert_eq!(name(Path::new(file)), expected, "{file}");
    }
}
