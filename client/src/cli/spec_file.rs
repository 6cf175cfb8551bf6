//! A spec as typed, with the files it names: read, overridden and validated here, so that what is wrong is told even when no
//! coordinator is there.

use super::Failure;
use super::args::SpecArgs;
use super::output::note;
use nadgrid_client::{Error, LocalFiles};
use nadgrid_core::spec::Spec;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A spec, and the files of this machine that it names.
#[derive(Debug)]
pub(crate) struct LoadedSpec {
    /// As it was typed.
    pub(crate) file: PathBuf,
    pub(crate) spec: Spec,
    pub(crate) files: LocalFiles,
}

impl LoadedSpec {
    /// Turns a coordinator's refusal of the spec into a failure that names this file.
    pub(crate) fn refused(&self, error: Error) -> Failure {
        Failure::from(error).of_spec(&self.file)
    }
}

/// Reads the spec and its files on a thread of its own: a signal must not wait for a disk.
pub(crate) async fn load(args: SpecArgs) -> Result<LoadedSpec, Failure> {
    let file = args.file.clone();
    let read = move || {
        let spec = read_spec(&args)?;
        let files = LocalFiles::read(&spec, folder(&args.file))?;
        for path in files.left_out() {
            note(&format!("ignoring {}: it is neither data_batch_N.bin nor test_batch.bin", path.display()));
        }
        Ok(LoadedSpec { file: args.file, spec, files })
    };
    let loaded = tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(Failure::other(error)));
    loaded.map_err(|failure: Failure| failure.of_spec(&file))
}

/// Returns the folder of the spec's relative paths; standard input is nowhere.
fn folder(file: &Path) -> Option<&Path> {
    if file == Path::new("-") { None } else { file.parent() }
}

/// Reads the spec, changes the keys that `--set` names, and validates the result.
fn read_spec(args: &SpecArgs) -> Result<Spec, Failure> {
    let text = read(&args.file)?;
    if args.set.is_empty() {
        return Ok(Spec::from_toml(&text).map_err(Error::from)?);
    }
    let changed = Spec::override_keys(&text, &args.set).map_err(Error::from)?;
    // What is wrong stands in the file, or was typed.
    let spec = Spec::from_toml(&changed).map_err(|error| error.located(&text, &args.set));
    Ok(spec.map_err(Error::from)?)
}

fn read(file: &Path) -> Result<String, Failure> {
    let (file, text) = if file == Path::new("-") {
        let mut text = String::new();
        (Path::new("standard input"), io::stdin().read_to_string(&mut text).map(|_| text))
    } else {
        (file, fs::read_to_string(file))
    };
    Ok(text.map_err(Error::io(file, "read the spec"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_core::spec::Upload;

    fn args(file: &Path, set: &[(&str, &str)]) -> SpecArgs {
        let set = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        SpecArgs { file: file.to_owned(), set }
    }

    #[test]
    fn overrides_change_the_spec_before_it_is_validated() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("spec.toml");
        fs::write(&file, "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 0").unwrap();
        assert!(matches!(read_spec(&args(&file, &[])), Err(Failure::Client(Error::Refused(_)))));
        let spec = read_spec(&args(&file, &[("nads.networks", "64"), ("seed", "7")])).unwrap();
        assert_eq!((spec.nads.map(|nads| nads.networks), spec.seed), (Some(64), 7));
        let wrong = read_spec(&args(&file, &[("nads.networks", "64"), ("nads.stepp", "1")])).unwrap_err().to_string();
        assert!(wrong.contains("did you mean `step`"), "{wrong}");
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_named() {
        let error = read_spec(&args(Path::new("/no/such.toml"), &[])).unwrap_err().to_string();
        assert!(error.starts_with("/no/such.toml: cannot read the spec"), "{error}");
    }

    #[test]
    fn paths_begin_at_the_spec() {
        assert_eq!(folder(Path::new("examples/paper/dft.toml")), Some(Path::new("examples/paper")));
        assert_eq!(folder(Path::new("dft.toml")), Some(Path::new("")));
        assert_eq!(folder(Path::new("-")), None);
    }

    /// Images, and what another example yields, are not in the repository; everything else that an example names is.
    #[test]
    fn the_examples_are_accepted_and_name_files_that_are_there() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut seen = 0;
        for folder in [examples.clone(), examples.join("paper")] {
            for entry in fs::read_dir(&folder).unwrap() {
                let file = entry.unwrap().path();
                if file.extension().is_none_or(|ending| ending != "toml") {
                    continue;
                }
                let spec = read_spec(&args(&file, &[])).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                for upload in spec.uploads() {
                    let Upload::Directions { path, .. } = upload else { continue };
                    let there = path.starts_with("out/") || folder.join(&path).is_file();
                    assert!(there, "{}: {path} is not there", file.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 15, "{seen} examples");
    }
}
