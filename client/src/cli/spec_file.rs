//! A spec as typed: read, overridden and validated here, so that what is wrong is told even when no coordinator is there.

use super::Failure;
use super::args::SpecArgs;
use nadgrid_client::Error;
use nadgrid_core::spec::Spec;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Reads the spec, changes the keys that `--set` names, and validates the result.
pub(crate) fn load(args: &SpecArgs) -> Result<Spec, Failure> {
    let text = read(&args.file)?;
    let text = if args.set.is_empty() { text } else { Spec::override_keys(&text, &args.set).map_err(Error::from)? };
    Ok(Spec::from_toml(&text).map_err(Error::from)?)
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

    fn args(file: &Path, set: &[(&str, &str)]) -> SpecArgs {
        let set = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        SpecArgs { file: file.to_owned(), set }
    }

    #[test]
    fn overrides_change_the_spec_before_it_is_validated() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("spec.toml");
        fs::write(&file, "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 0").unwrap();
        assert!(matches!(load(&args(&file, &[])), Err(Failure::Client(Error::Refused(_)))));
        let spec = load(&args(&file, &[("nads.networks", "64"), ("seed", "7")])).unwrap();
        assert_eq!((spec.nads.networks, spec.seed), (64, 7));
        let wrong = load(&args(&file, &[("nads.networks", "64"), ("nads.stepp", "1")])).unwrap_err().to_string();
        assert!(wrong.contains("did you mean `step`"), "{wrong}");
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_named() {
        let error = load(&args(Path::new("/no/such.toml"), &[])).unwrap_err().to_string();
        assert!(error.starts_with("/no/such.toml: cannot read the spec"), "{error}");
    }

    #[test]
    fn the_examples_are_accepted() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for (file, networks) in [("lenet.toml", 2048), ("logreg.toml", 2048)] {
            let spec = load(&args(&examples.join(file), &[])).unwrap();
            assert_eq!(spec.nads.networks, networks, "{file}");
        }
    }
}
