//! The bounds of `xtask/house.toml`: read, and lowered in place, so that comments and order stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Measured;

/// The most that each count may be, by its key; what is not named may not be at all.
pub(super) struct Bounds {
    by_key: BTreeMap<String, f64>,
}

impl Bounds {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let file = file_of(root);
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let mut by_key = BTreeMap::new();
        flatten("", &table, &mut by_key)?;
        Ok(Self { by_key })
    }

    /// The bound of a key.
    pub(super) fn of(&self, key: &str) -> f64 {
        self.by_key.get(key).copied().unwrap_or(0.0)
    }

    /// Writes the file anew, each bound at most what was measured.
    pub(super) fn lower(&self, root: &Path, measured: &[Measured]) -> Result<()> {
        let file = file_of(root);
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(&file, lowered(&text, measured))?;
        Ok(())
    }
}

fn file_of(root: &Path) -> PathBuf {
    root.join("xtask/house.toml")
}

fn flatten(before: &str, table: &toml::Table, by_key: &mut BTreeMap<String, f64>) -> Result<()> {
    for (name, value) in table {
        let key = format!("{before}{name}");
        match value {
            toml::Value::Integer(bound) => drop(by_key.insert(key, *bound as f64)),
            toml::Value::Float(bound) => drop(by_key.insert(key, *bound)),
            toml::Value::Table(inner) => flatten(&format!("{key}."), inner, by_key)?,
            other => bail!("{key} must be a number, not {other}"),
        }
    }
    Ok(())
}

fn lowered(text: &str, measured: &[Measured]) -> String {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let lower = line.split_once(" = ").and_then(|(name, bound)| {
            let value = measured.iter().find(|one| one.key == format!("{section}{name}")).map_or(0.0, |one| one.value);
            (value < bound.parse().ok()?).then(|| format!("{name} = {value}"))
        });
        lines.push(lower.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_by_section_and_key() {
        let bounds = Bounds::parse("a = 3\n[docs]\ncore = 1.5\n").unwrap();
        assert_eq!([bounds.of("a"), bounds.of("docs.core"), bounds.of("other")], [3.0, 1.5, 0.0]);
        assert!(Bounds::parse("a = 'b'").is_err());
    }

    #[test]
    fn bounds_are_lowered_and_never_raised() {
        let measured = |key: &str, value| Measured { key: key.to_owned(), value, places: Vec::new() };
        let text = "# why\na = 3\nb = 3\n\n[docs]\na = 9\ngone = 1\n";
        let lower = lowered(text, &[measured("a", 2.0), measured("b", 4.0), measured("docs.a", 8.5)]);
        assert_eq!(lower, "# why\na = 2\nb = 3\n\n[docs]\na = 8.5\ngone = 0\n");
    }
}
