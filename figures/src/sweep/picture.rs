//! The pictures of a sweep by their names.

use nadgrid_core::{
    spec::{Directions, Experiment, Spec},
    text::nearest,
};
use serde::Serialize;

use super::{SweepError, nads, title};

/// What a picture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An architecture's first NADs and its spectrum.
    Nads,
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
    /// What it is of.
    pub kind: Kind,
    /// The experiment.
    pub experiment: Experiment,
    /// The architectures that it shows.
    pub architectures: Vec<String>,
}

impl Picture {
    /// The picture of this name.
    ///
    /// # Errors
    /// [`SweepError::Unknown`], with the nearest name.
    pub fn find(spec: &Spec, name: &str) -> Result<Self, SweepError> {
        let known = pictures(spec);
        if let Some(picture) = known.iter().find(|picture| picture.name == name) {
            return Ok(picture.clone());
        }
        let names = || known.iter().map(|picture| picture.name.as_str());
        let hint = nearest(name, names()).map_or(String::new(), |near| format!("; did you mean {near}?"));
        let accepted = match known.is_empty() {
            true => "none: it has only pixels or random directions".to_owned(),
            false => names().collect::<Vec<_>>().join(", "),
        };
        Err(SweepError::Unknown { name: name.to_owned(), hint, accepted })
    }

    /// Names of the artifacts that it is drawn from.
    pub fn artifacts(&self) -> Vec<String> {
        let experiment = self.experiment;
        let of = |architecture: &String| match self.kind {
            Kind::Nads => nads::FILES.map(|file| format!("{experiment}/{architecture}/{file}")).to_vec(),
            Kind::Map | Kind::Curve | Kind::Bars => vec![table_file(experiment, architecture)],
            Kind::Margins => vec![table_file(experiment, architecture), margins_file(architecture)],
        };
        self.architectures.iter().flat_map(of).collect()
    }
}

/// The pictures that this sweep has once it is complete, in the order of its experiments.
pub fn pictures(spec: &Spec) -> Vec<Picture> {
    spec.experiments().flat_map(|experiment| of_experiment(spec, experiment)).collect()
}

fn of_experiment(spec: &Spec, experiment: Experiment) -> Vec<Picture> {
    let each = |file: &dyn Fn(&str) -> String, words: &str, kind: Kind| {
        let picture = |architecture: &String| Picture {
            name: format!("{experiment}/{}", file(architecture)),
            title: format!("{words}{}", title(architecture)),
            kind,
            experiment,
            architectures: vec![architecture.clone()],
        };
        spec.architectures.iter().map(picture).collect()
    };
    let all = |file: &str, title: &str, kind: Kind| {
        let (name, architectures) = (format!("{experiment}/{file}"), spec.architectures.clone());
        vec![Picture { name, title: title.to_owned(), kind, experiment, architectures }]
    };
    match (experiment, &spec.directional) {
        (Experiment::Nads, _) => each(&|name| format!("{name}/figure"), "Neural anisotropy directions of ", Kind::Nads),
        (Experiment::Directional, Some(directional)) => match directional.directions {
            Directions::Dft { .. } => each(&|name| format!("{name}_map"), "Accuracy by frequency: ", Kind::Map),
            Directions::Nads { .. } => all("curve", "Accuracy along NADs", Kind::Curve),
            Directions::File { .. } => all("curve", "Accuracy along the rows of a file", Kind::Curve),
            // In no order along which they could be drawn.
            Directions::Pixels { .. } | Directions::Random { .. } => Vec::new(),
        },
        (Experiment::Directional, None) => Vec::new(),
        (Experiment::Poisoning, _) => all("curve", "CIFAR-10 with a carrier along a NAD", Kind::Curve),
        (Experiment::Flipping, _) => all("bars", "CIFAR-10 with its NADs in reverse order", Kind::Bars),
        (Experiment::Margins, _) => all("curve", "Margins along NADs", Kind::Margins),
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
