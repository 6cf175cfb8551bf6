use super::*;
use nadgrid_core::spec::{Presence, Spec};
use std::collections::BTreeSet;
use toml::{Table, Value};

fn architectures() -> Vec<String> {
    vec!["lenet".into(), "logreg".into()]
}

/// Every choice of experiments.
fn choices() -> impl Iterator<Item = Vec<Experiment>> {
    (1..1 << Experiment::ALL.len()).map(|set| {
        let chosen = Experiment::ALL.into_iter().enumerate().filter(|(index, _)| set & 1 << index != 0);
        chosen.map(|(_, experiment)| experiment).collect()
    })
}

/// Adds `nads.networks` and so on; tables themselves are left out.
fn collect_keys(table: &Table, path: &str, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => collect_keys(inner, &path, into),
            _ => drop(into.insert(path)),
        }
    }
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_keys(&text.parse().unwrap(), "", &mut found);
    found
}

#[test]
fn what_is_written_is_a_spec_with_every_key_that_it_has() {
    let mut seen = 0;
    for experiments in choices() {
        let text = template::spec("x", &experiments, &architectures());
        let spec = Spec::from_toml(&text).unwrap_or_else(|error| panic!("{experiments:?}: {error}\n{text}"));
        assert_eq!(spec.experiments().collect::<Vec<_>>(), experiments);
        assert_eq!(spec.architectures, architectures());
        let written = keys_of(&text);
        let complete = keys_of(&spec.to_toml());
        assert!(complete.is_subset(&written), "{:?} are left out", complete.difference(&written));
        assert!(text.lines().filter(|line| line.starts_with("# ")).all(|line| line.len() <= 100), "{text}");
        seen += 1;
    }
    assert_eq!(seen, 31);
}

/// The text of a spec, the uncommented keys of whose directions are those of one kind.
fn of_kind(text: &str, kind: &str) -> String {
    let mut is_own = true;
    let mut is_within = false;
    let mut changed = Vec::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            is_within = line == "[directional.directions]";
            is_own = true;
        }
        if let Some(rest) = bare.strip_prefix("Of kind ") {
            is_own = rest.starts_with(&format!("{kind}:"));
        }
        let is_key = bare.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase()));
        changed.push(match (is_within && is_key, is_own) {
            (true, _) if bare.starts_with("kind = ") => format!("kind = {kind:?}"),
            (true, true) => bare.to_owned(),
            (true, false) => format!("# {bare}"),
            (false, _) => line.to_owned(),
        });
    }
    changed.join("\n")
}

#[test]
fn the_alternatives_of_every_kind_of_direction_are_accepted_too() {
    for experiments in [vec![Experiment::Directional], vec![Experiment::Nads, Experiment::Directional]] {
        let text = template::spec("x", &experiments, &architectures());
        for kind in ["dft", "nads", "file", "pixels", "random"] {
            let changed = of_kind(&text, kind);
            let spec = Spec::from_toml(&changed).unwrap_or_else(|error| panic!("{kind}: {error}\n{changed}"));
            assert!(spec.to_toml().contains(&format!("kind = {kind:?}")), "{}", spec.to_toml());
        }
    }
}

#[test]
fn a_key_without_a_default_is_required_and_one_with_a_default_may_be_left_out() {
    let text = template::spec("x", &Experiment::ALL, &architectures());
    let spec = Spec::from_toml(&text).unwrap();
    let (mut defaults, mut required) = (0, 0);
    for section in Spec::sections() {
        for key in section.keys.iter().filter(|key| key.kind.is_none() && key.name != "channels") {
            let path = if section.path.is_empty() { key.name.into() } else { format!("{}.{}", section.path, key.name) };
            let without = Spec::from_toml(&without(&text, &path));
            match key.presence {
                Presence::Required(_) => {
                    assert!(without.is_err(), "{path} can be left out");
                    required += 1;
                }
                Presence::Default(_) => {
                    assert_eq!(without.as_ref(), Ok(&spec), "{path} has another default");
                    defaults += 1;
                }
                Presence::Optional(_) => {}
            }
        }
    }
    assert!(defaults > 40 && required >= 6, "{defaults} with and {required} without");
}

/// The text without a key.
fn without(text: &str, path: &str) -> String {
    let mut table: Table = text.parse().unwrap();
    let mut at = &mut table;
    let mut parts: Vec<&str> = path.split('.').collect();
    let last = parts.pop().unwrap();
    for part in parts {
        at = at[part].as_table_mut().unwrap();
    }
    at.remove(last);
    table.to_string()
}

#[test]
fn names_come_from_files() {
    for (file, expected) in
        [("a/lenet.toml", "lenet"), ("my sweep.toml", "my-sweep"), (".toml", "toml"), ("..", "sweep"), ("é.toml", "-")]
    {
        assert_eq!(name(Path::new(file)), expected, "{file}");
    }
}
