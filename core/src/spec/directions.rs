//! The directions of a directional experiment: kinds, each with keys of its own.

use super::accepted::Accepted;
use super::check::Checks;
use super::key::{Presence, SpecKey, SpecSection, SpecTable, section};
use super::{Indices, MAX_RUNS};
use crate::text::uncapitalised;
use serde::{Deserialize, Serialize};

const INDICES: Accepted = Accepted::Words("a list of numbers, and of ranges whose end is left out");
const INDICES_EXAMPLE: &str = "[0, 1, 2, 5, 10, 20, 50, 100, { start = 200, end = 1000, stride = 200 }]";
const FREQUENCIES: Accepted = Accepted::Words("a list of pairs [along rows, along columns]");

/// Defines a table whose keys depend on its key `kind`: `Variant(keys of the kind) = "name";`.
macro_rules! kinds {
    ($(#[doc = $section:literal])+ pub enum $table:ident {
        $($(#[doc = $meaning:literal])+ $variant:ident($keys:ty) = $kind:literal;)+
    }) => {
        $(#[doc = $section])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum $table {
            $($(#[doc = $meaning])+ #[serde(rename = $kind)] $variant($keys),)+
        }

        impl SpecTable for $table {
            fn describe(path: &str, _: Option<&Self>, into: &mut Vec<SpecSection>) {
                let kinds = [$(($kind, concat!($($meaning),+).trim().trim_end_matches('.'))),+];
                let meanings: Vec<String> = kinds.iter().map(|(kind, meaning)| format!("{kind}: {}", uncapitalised(meaning))).collect();
                let names = kinds.map(|(kind, _)| kind);
                let mut keys = vec![SpecKey {
                    name: "kind",
                    kind: None,
                    meaning: format!("{}.", meanings.join("; ")),
                    presence: Presence::Required(format!("{:?}", names[0])),
                    accepted: Accepted::one_of(&names).to_string(),
                }];
                $(let mut sections = Vec::new();
                <$keys as SpecTable>::describe(path, None, &mut sections);
                let own = sections.into_iter().flat_map(|section| section.keys);
                keys.extend(own.map(|key| SpecKey { kind: Some($kind), ..key }));)+
                let meaning = concat!($($section),+).trim().to_owned();
                into.push(SpecSection { path: path.to_owned(), meaning, keys });
            }

            fn check(&self, path: &str, checks: &mut Checks) {
                match self {
                    $(Self::$variant(keys) => keys.check(path, checks),)+
                }
            }
        }
    };
}

kinds! {
    /// The directions v. Each kind has keys of its own.
    pub enum Directions {
        /// Plane waves, the same on every channel.
        Dft(PlaneWaves) = "dft";
        /// NADs.
        Nads(NadDirections) = "nads";
        /// Rows of a .npy file.
        File(FileDirections) = "file";
        /// Single pixels.
        Pixels(PixelDirections) = "pixels";
        /// Uniformly on the sphere.
        Random(RandomDirections) = "random";
    }
}

section! {
    /// Plane waves.
    pub struct PlaneWaves {
        /// Cycles per image. Without it, the 144 independent ones of the published table.
        frequencies: Option<Vec<[i64; 2]>>, [FREQUENCIES], optional("[[0, 1], [3, 4]]"), unwritten if "Option::is_none";
        /// Cosines, or sines of named frequencies.
        wave: Wave, [Accepted::one_of(&Wave::ALL)], default(Wave::Cosine);
    }
}

section! {
    /// NADs of the same sweep or of an earlier one.
    pub struct NadDirections {
        /// The id of a complete sweep, whose NADs are taken. Without it, those of this sweep's [nads].
        sweep: Option<String>, [Accepted::Path("an id")], optional("\"ID\""), unwritten if "Option::is_none";
        /// The NADs that are taken, counted from 0. Without it, all NADs of this sweep.
        indices: Option<Indices>, [INDICES], optional(INDICES_EXAMPLE), unwritten if "Option::is_none";
    }
}

section! {
    /// Rows of a `.npy` file, normalised.
    pub struct FileDirections {
        /// A .npy file, a direction a row, looked for beside this file first.
        path: String, [Accepted::Path("a .npy file")], required("\"directions.npy\"");
        /// The rows that are taken, counted from 0.
        indices: Indices, [INDICES], required(INDICES_EXAMPLE);
    }
}

section! {
    /// Single pixels, by their index in the flattened input.
    pub struct PixelDirections {
        /// The pixels of the flattened input, counted from 0.
        indices: Indices, [INDICES], required(INDICES_EXAMPLE);
    }
}

section! {
    /// Random directions.
    pub struct RandomDirections {
        /// How many directions.
        count: u64, [Accepted::count(MAX_RUNS)], required("100");
    }
}

/// The phase of a plane wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wave {
    /// The cosine, cos(2π(k₁n₁/height + k₂n₂/width)).
    #[default]
    Cosine,
    /// The sine; zero where a frequency is its own conjugate.
    Sine,
}

impl Wave {
    /// Every phase.
    pub const ALL: [Self; 2] = [Self::Cosine, Self::Sine];
}
