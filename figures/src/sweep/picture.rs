//! The pictures of a sweep by their names.

use std::fmt::Display;

use nadgrid_core::{
    spec::{Directions, Experiment, Spec},
    text::nearest,
};
use serde::Serialize;

use super::{SweepError, nads, title};

const NADS_PREFIX: &str = "nads/";
const SPECTRA: &str = "spectra";
const NAD: &str = "/nad_";
const BESIDE: &str = "_beside_";

/// The kind of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PictureKind {
    /// An architecture's first NADs and its spectrum.
    Nads,
    /// One NAD of an architecture, in detail.
    Nad,
    /// The spectra of all architectures.
    Spectra,
    /// The first NADs of two architectures, side by side.
    Pair,
    /// Accuracies over a grid of frequencies.
    Map,
    /// Accuracies along an index.
    Curve,
    /// Accuracies side by side.
    Bars,
    /// Margins along NADs.
    Margins,
}

/// A picture that a sweep has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Picture {
    /// Its name, and that of its files without their endings: `directional/lenet_map`.
    pub name: String,
    /// Its title, for people.
    pub title: String,
    /// The kind of picture.
    pub kind: PictureKind,
    /// The experiment.
    pub experiment: Experiment,
    /// The architectures that it shows.
    pub architectures: Vec<String>,
    /// The index of the NAD, where it shows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

impl Picture {
    /// The picture of this name: one of [`pictures`], or one that follows a pattern of [`patterns`].
    ///
    /// # Errors
    /// [`SweepError::Unknown`], with the nearest name.
    pub fn find(spec: &Spec, name: &str) -> Result<Self, SweepError> {
        let known = pictures(spec);
        if let Some(picture) = known.iter().find(|picture| picture.name == name) {
            return Ok(picture.clone());
        }
        if let (Some(file), Some(_)) = (name.strip_prefix(NADS_PREFIX), &spec.nads) {
            if file == SPECTRA {
                return Ok(Self::spectra(spec));
            }
            if let Some((architecture, index)) = file.split_once(NAD) {
                return Self::nad(spec, architecture, index);
            }
            if let Some((first, second)) = file.split_once(BESIDE) {
                return Self::pair(spec, first, second);
            }
        }
        let names = || known.iter().map(|picture| picture.name.as_str());
        let hint = nearest(name, names()).map_or(String::new(), |near| format!("; did you mean {near}?"));
        let accepted = if known.is_empty() {
            "none: it has only pixels or random directions".to_owned()
        } else {
            let patterns = patterns(spec).into_iter().map(|pattern| pattern.name);
            names().map(str::to_owned).chain(patterns).collect::<Vec<_>>().join(", ")
        };
        Err(SweepError::Unknown { what: "picture", name: name.to_owned(), hint, accepted })
    }

    /// NAD `index` of an architecture. The index is text, since it comes from a name.
    fn nad(spec: &Spec, architecture: &str, index: &str) -> Result<Self, SweepError> {
        let architecture = known_architecture(spec, architecture)?;
        let count = spec.nad_count();
        let Some(index) = index.parse().ok().filter(|&index| index < count) else {
            return Err(SweepError::Unknown {
                what: "index of a NAD",
                name: index.to_owned(),
                hint: String::new(),
                accepted: format!("0 to {}", count.saturating_sub(1)),
            });
        };
        Ok(Self {
            name: nad_name(architecture, index),
            title: format!("NAD {index} of {}", title(architecture)),
            kind: PictureKind::Nad,
            experiment: Experiment::Nads,
            architectures: vec![architecture.to_owned()],
            index: Some(index),
        })
    }

    fn pair(spec: &Spec, first: &str, second: &str) -> Result<Self, SweepError> {
        let first = known_architecture(spec, first)?;
        let second = known_architecture(spec, second)?;
        Ok(Self {
            name: pair_name(first, second),
            title: format!("NADs of {} and {}", title(first), title(second)),
            kind: PictureKind::Pair,
            experiment: Experiment::Nads,
            architectures: vec![first.to_owned(), second.to_owned()],
            index: None,
        })
    }

    fn spectra(spec: &Spec) -> Self {
        Self {
            name: format!("{NADS_PREFIX}{SPECTRA}"),
            title: "Spectra of the gradients' covariance".into(),
            kind: PictureKind::Spectra,
            experiment: Experiment::Nads,
            architectures: spec.architectures.clone(),
            index: None,
        }
    }

    /// Names of the artifacts that it is drawn from. Without [`Source::runs`] and [`Source::margins`] of a caller's own, these
    /// are all that [`super::draw`] asks for.
    ///
    /// [`Source::runs`]: super::Source::runs
    /// [`Source::margins`]: super::Source::margins
    pub fn artifacts(&self) -> Vec<String> {
        self.architectures.iter().flat_map(|architecture| self.artifacts_of(architecture)).collect()
    }

    fn artifacts_of(&self, architecture: &str) -> Vec<String> {
        let experiment = self.experiment;
        match self.kind {
            PictureKind::Nads | PictureKind::Pair => nads::files(architecture, &[nads::NADS, nads::SINGULAR_VALUES]),
            PictureKind::Nad => nads::files(architecture, &[nads::NADS]),
            PictureKind::Spectra => {
                nads::files(architecture, &[nads::SINGULAR_VALUES, nads::STANDARD_ERRORS, nads::FACTS])
            }
            PictureKind::Map | PictureKind::Curve | PictureKind::Bars => vec![table_file(experiment, architecture)],
            PictureKind::Margins => vec![table_file(experiment, architecture), margins_file(architecture)],
        }
    }
}

/// The pictures that this sweep has once it is complete, in the order of its experiments. Those of [`patterns`] come on top.
pub fn pictures(spec: &Spec) -> Vec<Picture> {
    spec.experiments().flat_map(|experiment| of_experiment(spec, experiment)).collect()
}

/// The form of the names of further pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pattern {
    /// The name, with words in capitals to fill in.
    pub name: String,
    /// The content of such a picture.
    pub title: String,
}

/// The pictures of which there are too many to list: single NADs, and pairs of architectures.
pub fn patterns(spec: &Spec) -> Vec<Pattern> {
    if spec.nads.is_none() {
        return Vec::new();
    }
    let last = spec.nad_count().saturating_sub(1);
    let mut patterns = vec![Pattern {
        name: nad_name("ARCHITECTURE", "INDEX"),
        title: format!("One NAD in pixels and in frequency, INDEX being 0 to {last}"),
    }];
    if spec.architectures.len() > 1 {
        let title = "The first NADs of two architectures, index by index".to_owned();
        patterns.push(Pattern { name: pair_name("FIRST", "SECOND"), title });
    }
    patterns
}

fn nad_name(architecture: &str, index: impl Display) -> String {
    format!("{NADS_PREFIX}{architecture}{NAD}{index}")
}

fn pair_name(first: &str, second: &str) -> String {
    format!("{NADS_PREFIX}{first}{BESIDE}{second}")
}

/// The spec's own text of an architecture's name.
fn known_architecture<'a>(spec: &'a Spec, name: &str) -> Result<&'a str, SweepError> {
    let names = || spec.architectures.iter().map(String::as_str);
    names().find(|known| *known == name).ok_or_else(|| SweepError::Unknown {
        what: "architecture",
        name: name.to_owned(),
        hint: nearest(name, names()).map_or(String::new(), |near| format!("; did you mean {near}?")),
        accepted: names().collect::<Vec<_>>().join(", "),
    })
}

fn of_experiment(spec: &Spec, experiment: Experiment) -> Vec<Picture> {
    let each = |file: &dyn Fn(&str) -> String, words: &str, kind: PictureKind| {
        let picture = |architecture: &String| Picture {
            name: format!("{experiment}/{}", file(architecture)),
            title: format!("{words}{}", title(architecture)),
            kind,
            experiment,
            architectures: vec![architecture.clone()],
            index: None,
        };
        spec.architectures.iter().map(picture).collect()
    };
    let all = |file: &str, title: &str, kind: PictureKind| {
        let name = format!("{experiment}/{file}");
        let architectures = spec.architectures.clone();
        vec![Picture { name, title: title.to_owned(), kind, experiment, architectures, index: None }]
    };
    match (experiment, &spec.directional) {
        (Experiment::Nads, _) => {
            let words = "Neural anisotropy directions of ";
            let mut nads: Vec<Picture> = each(&|name| format!("{name}/figure"), words, PictureKind::Nads);
            if nads.len() > 1 {
                nads.push(Picture::spectra(spec));
            }
            nads
        }
        (Experiment::Directional, Some(directional)) => match directional.directions {
            Directions::Dft { .. } => each(&|name| format!("{name}_map"), "Accuracy by frequency: ", PictureKind::Map),
            Directions::Nads { .. } => all("curve", "Accuracy along NADs", PictureKind::Curve),
            Directions::File { .. } => all("curve", "Accuracy along the rows of a file", PictureKind::Curve),
            // In no order along which they could be drawn.
            Directions::Pixels { .. } | Directions::Random { .. } => Vec::new(),
        },
        (Experiment::Directional, None) => Vec::new(),
        (Experiment::Poisoning, _) => all("curve", "CIFAR-10 with a carrier along a NAD", PictureKind::Curve),
        (Experiment::Flipping, _) => all("bars", "CIFAR-10 with its NADs in reverse order", PictureKind::Bars),
        (Experiment::Margins, _) => all("curve", "Margins along NADs", PictureKind::Margins),
    }
}

/// The table of a training job's runs.
pub(super) fn table_file(experiment: Experiment, architecture: &str) -> String {
    format!("{experiment}/{architecture}.csv")
}

/// The table of an architecture's margins.
pub(super) fn margins_file(architecture: &str) -> String {
    format!("{}/{architecture}_margins.csv", Experiment::Margins)
}
