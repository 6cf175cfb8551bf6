//! The stamp in `.libtorch`: from which wheels it was unpacked, and every file with its size and hash.
//!
//! It is written last, so a folder without one was never finished. The usual check compares sizes alone (10,000 `stat`
//! calls, some tens of milliseconds); `--verify` reads everything. Deliberately absent: times of files, which a copy changes.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::io;
use std::path::Path;

use crate::hash::{self, Condition, Fingerprint};
use crate::wheels::WHEELS;

/// The name of the stamp's file.
pub(crate) const FILE: &str = "stamp";

/// Raise it when the layout of `.libtorch` changes while the wheels do not.
const LAYOUT: u32 = 1;

/// One file of `.libtorch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestEntry {
    /// The path, relative to `.libtorch`.
    pub(crate) path: String,
    pub(crate) fingerprint: Fingerprint,
}

/// The depth of a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    Sizes,
    Hashes,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    recipe: String,
    pub(crate) files: Vec<ManifestEntry>,
}

impl Manifest {
    /// A stamp for these files, unpacked by this program.
    pub(crate) fn new(files: Vec<ManifestEntry>) -> Self {
        Self { recipe: recipe(), files }
    }

    /// Reads a stamp; nothing if the text is not a whole one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (recipe, files) = text.strip_suffix("end\n")?.split_once("files\n")?;
        let files = files.lines().map(parse_entry).collect::<Option<_>>()?;
        Some(Self { recipe: recipe.to_owned(), files })
    }

    /// Returns the faults of the folder, in words; empty if it can be used.
    pub(crate) fn faults(&self, folder: &Path, depth: Depth) -> io::Result<Vec<String>> {
        if self.recipe != recipe() {
            return Ok(vec!["it was unpacked from other wheels, or by another version of xtask".to_owned()]);
        }
        let mut faults = foreign_libraries(self, folder)?;
        for entry in &self.files {
            if let Some(why) = entry.fault(folder, depth)? {
                faults.push(format!("{} {why}", entry.path));
            }
        }
        Ok(faults)
    }
}

impl Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}files", self.recipe)?;
        for ManifestEntry { path, fingerprint } in &self.files {
            writeln!(f, "{} {} {path}", fingerprint.sha256, fingerprint.size)?;
        }
        writeln!(f, "end")
    }
}

impl ManifestEntry {
    fn fault(&self, folder: &Path, depth: Depth) -> io::Result<Option<String>> {
        let path = folder.join(&self.path);
        let Fingerprint { size, sha256 } = &self.fingerprint;
        let condition = match (depth, path.metadata()) {
            (Depth::Sizes, Ok(found)) if found.len() == *size => Condition::Sound,
            (_, Err(_)) => Condition::Absent,
            _ => hash::inspect(&path, *size, sha256)?,
        };
        Ok(match condition {
            Condition::Sound => None,
            Condition::Absent => Some("is missing".to_owned()),
            Condition::Damaged(why) => Some(why),
        })
    }
}

fn parse_entry(line: &str) -> Option<ManifestEntry> {
    let (sha256, rest) = line.split_once(' ')?;
    let (size, path) = rest.split_once(' ')?;
    let fingerprint = Fingerprint { size: size.parse().ok()?, sha256: sha256.to_owned() };
    Some(ManifestEntry { path: path.to_owned(), fingerprint })
}

/// Returns the recipe that a folder unpacked by this program carries in its manifest.
fn recipe() -> String {
    let wheels = WHEELS.iter().map(|wheel| format!("{} {}\n", wheel.sha256, wheel.file_name));
    format!("libtorch for nadgrid, layout {LAYOUT}\nwheels\n{}", wheels.collect::<String>())
}

/// Libraries that do not belong there: one like libtorch_cuda.so would change what torch-sys links.
fn foreign_libraries(stamp: &Manifest, folder: &Path) -> io::Result<Vec<String>> {
    let known: HashSet<&str> = stamp.files.iter().map(|entry| entry.path.as_str()).collect();
    let mut foreign = Vec::new();
    let found = match folder.join("lib").read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(foreign),
        found => found?,
    };
    for file in found {
        let path = format!("lib/{}", file?.file_name().to_string_lossy());
        if !known.contains(path.as_str()) {
            foreign.push(format!("{path} does not belong there"));
        }
    }
    Ok(foreign)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with one header and one library, and its stamp.
    fn unpacked() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = [("include/a.h", "int a;"), ("lib/liba.so", "code")].map(|(path, content)| {
            let to = folder.path().join(path);
            fs::create_dir_all(to.parent().expect("a folder")).expect("create");
            fs::write(&to, content).expect("write");
            ManifestEntry { path: path.to_owned(), fingerprint: hash::file(&to).expect("readable") }
        });
        (folder, Manifest::new(files.to_vec()))
    }

    #[test]
    fn survives_being_written_and_read() {
        let (_folder, stamp) = unpacked();
        assert_eq!(Manifest::parse(&stamp.to_string()), Some(stamp));
    }

    #[test]
    fn a_cut_stamp_is_none() {
        let text = unpacked().1.to_string();
        for length in 0..text.len() {
            assert_eq!(Manifest::parse(&text[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn a_whole_folder_has_no_faults() {
        let (folder, stamp) = unpacked();
        for depth in [Depth::Sizes, Depth::Hashes] {
            assert_eq!(stamp.faults(folder.path(), depth).expect("readable"), [""; 0]);
        }
    }

    #[test]
    fn other_wheels_are_noticed() {
        let (folder, mut stamp) = unpacked();
        stamp.recipe = stamp.recipe.replace("2.11.0", "2.12.0");
        assert_eq!(stamp.faults(folder.path(), Depth::Sizes).expect("readable").len(), 1);
    }

    #[test]
    fn a_changed_size_is_noticed_at_once() {
        let (folder, stamp) = unpacked();
        fs::write(folder.path().join("lib/liba.so"), "cod").expect("write");
        let faults = stamp.faults(folder.path(), Depth::Sizes).expect("readable");
        assert_eq!(faults, ["lib/liba.so has 3 bytes instead of 4"]);
    }

    #[test]
    fn a_flipped_byte_is_noticed_by_hashes() {
        let (folder, stamp) = unpacked();
        fs::write(folder.path().join("lib/liba.so"), "codf").expect("write");
        assert!(stamp.faults(folder.path(), Depth::Sizes).expect("readable").is_empty());
        assert_eq!(stamp.faults(folder.path(), Depth::Hashes).expect("readable").len(), 1);
    }

    #[test]
    fn a_missing_file_is_noticed() {
        let (folder, stamp) = unpacked();
        fs::remove_file(folder.path().join("include/a.h")).expect("remove");
        let faults = stamp.faults(folder.path(), Depth::Sizes).expect("readable");
        assert_eq!(faults, ["include/a.h is missing"]);
    }

    #[test]
    fn a_library_too_many_is_noticed() {
        let (folder, stamp) = unpacked();
        fs::write(folder.path().join("lib/libtorch_cuda.so"), "").expect("write");
        let faults = stamp.faults(folder.path(), Depth::Sizes).expect("readable");
        assert_eq!(faults, ["lib/libtorch_cuda.so does not belong there"]);
    }
}
