//! The text that `init` writes, from the sections and keys of the reader of specs.

use nadgrid_core::spec::{Experiment, Presence, Spec, SpecKey, SpecSection};
use nadgrid_core::text::uncapitalised;
use std::collections::BTreeMap;

/// The width of a comment in columns.
const COLUMNS: usize = 100;

const HEADER: &str = "A sweep of nadgrid. Every key stands here with its meaning; a key with a default may be left out, and one \
                      behind a # is an alternative. `nadgrid plan` estimates what the sweep will take, `nadgrid run` computes it \
                      on this machine, `nadgrid submit` on a cluster.";

const KIND_ADVICE: &str = "If you change `kind`, comment out the keys below it and uncomment that kind's.";

/// A spec of these experiments and architectures.
pub(super) fn spec(name: &str, experiments: &[Experiment], architectures: &[String]) -> String {
    let values = Values::new(name, experiments, architectures);
    let mut text = comment(HEADER);
    for section in Spec::sections().iter().filter(|section| is_part_of(section, experiments)) {
        text.push('\n');
        if !section.path.is_empty() {
            let advice = if section.keys.iter().any(|key| key.kind.is_some()) { KIND_ADVICE } else { "" };
            text.push_str(&comment(&format!("{} {advice}", section.meaning)));
            line(&mut text, &format!("[{}]", section.path));
        }
        let keys: Vec<String> = section.keys.iter().map(|key| values.key(section, key)).collect();
        text.push_str(&keys.join("\n"));
    }
    text
}

/// Whether a section has keys that a spec of these experiments uses.
fn is_part_of(section: &SpecSection, experiments: &[Experiment]) -> bool {
    match section.path.split('.').next().unwrap_or_default() {
        "" | "input" => true,
        "cifar10" => experiments.iter().any(|experiment| experiment.is_on_images()),
        name => Experiment::find(name).is_some_and(|experiment| experiments.contains(&experiment)),
    }
}

/// The values of this spec that are neither a default nor an example, by the paths of their keys.
struct Values(BTreeMap<String, String>);

impl Values {
    fn new(name: &str, experiments: &[Experiment], architectures: &[String]) -> Self {
        let mut values = BTreeMap::from([
            ("name".to_owned(), format!("{name:?}")),
            ("architectures".to_owned(), format!("{architectures:?}")),
        ]);
        for experiment in experiments.iter().filter(|experiment| experiment.is_on_images()) {
            values.insert("input.channels".to_owned(), "3".to_owned());
            values.insert(format!("{experiment}.basis.path"), "\"nads.npy\"".to_owned());
        }
        if experiments.contains(&Experiment::Nads) {
            values.insert("directional.directions.kind".to_owned(), "\"nads\"".to_owned());
        }
        Self(values)
    }

    fn find(&self, section: &SpecSection, key: &SpecKey) -> Option<&String> {
        let path = if section.path.is_empty() { key.name.to_owned() } else { format!("{}.{}", section.path, key.name) };
        self.0.get(&path)
    }

    /// A key with its comment.
    fn key(&self, section: &SpecSection, key: &SpecKey) -> String {
        let meaning = match key.kind {
            Some(kind) => format!("Of kind {kind}: {}", uncapitalised(&key.meaning)),
            None => key.meaning.clone(),
        };
        let default = match &key.presence {
            Presence::Required(_) => "No default. ".to_owned(),
            Presence::Default(value) => format!("Default: {value}. "),
            Presence::Optional(_) => String::new(),
        };
        let mut text = comment(&meaning);
        text.push_str(&comment(&format!("{default}Accepted: {}.", key.accepted)));
        let value = self.find(section, key);
        let is_set = value.is_some() || !matches!(key.presence, Presence::Optional(_));
        let mark = if is_set && self.is_of_the_kind(section, key) { "" } else { "# " };
        let value = value.map_or(key.presence.value(), String::as_str);
        line(&mut text, &format!("{mark}{} = {value}", key.name));
        text
    }

    /// Whether a key belongs to the kind that is chosen in its section.
    fn is_of_the_kind(&self, section: &SpecSection, key: &SpecKey) -> bool {
        let Some(kind) = key.kind else { return true };
        let chooser = section.keys.iter().find(|key| key.name == "kind");
        let chosen = chooser.map(|key| self.find(section, key).map_or(key.presence.value(), String::as_str));
        chosen == Some(format!("{kind:?}").as_str())
    }
}

/// A comment, wrapped.
fn comment(words: &str) -> String {
    let mut text = String::new();
    let mut current = String::from("#");
    for word in words.split_whitespace() {
        if current.len() + 1 + word.len() > COLUMNS {
            line(&mut text, &current);
            current = String::from("#");
        }
        current.push(' ');
        current.push_str(word);
    }
    line(&mut text, &current);
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
