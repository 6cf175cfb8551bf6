use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Every file and folder below `folder`, hidden ones included.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

fn publish(target: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    let mut staging = Staging::new(target)?;
    for (name, text) in files {
        staging.write(name, text.as_bytes())?;
    }
    staging.publish()
}

fn record(names: &[&str]) -> String {
    let artifacts: Vec<_> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
    serde_json::json!({ "artifacts": artifacts, "figures": [] }).to_string()
}

#[test]
fn everything_arrives_and_the_hidden_folder_goes() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("out/demo");
    publish(&target, &[("nads/lenet/nads.npy", "1"), (RECORD_FILE, "{}")]).unwrap();
    assert_eq!(tree(&target), ["nads", "nads/lenet", "nads/lenet/nads.npy", "sweep.json"]);
    assert_eq!(fs::read_to_string(target.join("nads/lenet/nads.npy")).unwrap(), "1");
}

#[test]
fn a_staging_that_is_dropped_leaves_nothing_not_even_the_folders_it_made() {
    let home = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(&home.path().join("a/b")).unwrap();
    staging.write("nads/x/y", b"half").unwrap();
    drop(staging);
    assert!(tree(home.path()).is_empty());
    Staging::probe(&home.path().join("c")).unwrap();
    assert!(tree(home.path()).is_empty());
}

#[test]
fn a_second_sweep_replaces_the_files_of_the_first_and_no_others() {
    let home = tempfile::tempdir().unwrap();
    let old = record(&["nads/logreg/nads.npy", "nads/lenet/nads.npy"]);
    let files =
        [("nads/logreg/nads.npy", "1"), ("nads/lenet/nads.npy", "1"), (RECORD_FILE, &old), ("notes.txt", "mine")];
    publish(home.path(), &files).unwrap();
    publish(home.path(), &[("nads/lenet/nads.npy", "2"), (RECORD_FILE, "{}")]).unwrap();
    assert_eq!(tree(home.path()), ["nads", "nads/lenet", "nads/lenet/nads.npy", "notes.txt", "sweep.json"]);
    assert_eq!(fs::read_to_string(home.path().join("nads/lenet/nads.npy")).unwrap(), "2");
}

#[test]
fn a_move_that_fails_undoes_those_before_it() {
    let home = tempfile::tempdir().unwrap();
    let old = record(&["nads/lenet/nads.npy"]);
    publish(home.path(), &[("nads/lenet/nads.npy", "1"), (RECORD_FILE, &old)]).unwrap();
    // A folder stands where a file shall come; record_first moves it after `nads/lenet/nads.npy` is already gone.
    fs::create_dir_all(home.path().join("nads/lenet/figure.png/x")).unwrap();
    let before = tree(home.path());
    let files = [("nads/lenet/nads.npy", "2"), ("nads/lenet/figure.png", "2"), (RECORD_FILE, "{}")];
    let error = publish(home.path(), &files).unwrap_err().to_string();
    assert!(error.contains("nads/lenet/figure.png") && error.contains("move into place"), "{error}");
    assert_eq!(tree(home.path()), before);
    assert_eq!(fs::read_to_string(home.path().join("nads/lenet/nads.npy")).unwrap(), "1");
    assert_eq!(fs::read_to_string(home.path().join(RECORD_FILE)).unwrap(), old);
}

#[test]
fn a_target_that_cannot_be_written_is_refused_with_its_path() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for target in [file.clone(), file.join("below")] {
        let error = Staging::new(&target).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
    let locked = home.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root writes anywhere: there is nothing to see then.
    if File::create(locked.join("probe")).is_err() {
        let error = Staging::new(&locked).unwrap_err().to_string();
        assert!(error.contains("locked: cannot write into it"), "{error}");
    }
}

/// A link stands where an earlier fetch, or somebody else, may have left it.
#[test]
fn nothing_is_written_or_taken_away_through_a_link() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("out");
    let outside = home.path().join("outside");
    fs::create_dir(&target).unwrap();
    fs::create_dir_all(outside.join("lenet")).unwrap();
    fs::write(outside.join("lenet/nads.npy"), "mine").unwrap();
    // Of a folder: refused, before anything has changed.
    symlink(&outside, target.join("nads")).unwrap();
    fs::write(target.join(RECORD_FILE), record(&["nads/lenet/nads.npy"])).unwrap();
    let files = [("margins/lenet.csv", "2"), ("nads/lenet/nads.npy", "2")];
    for files in [&files[..1], &files[1..]] {
        let error = publish(&target, files).unwrap_err().to_string();
        assert!(error.contains("out/nads: cannot write into it: it is a symbolic link"), "{error}");
        assert_eq!(tree(&outside), ["lenet", "lenet/nads.npy"]);
        assert!(!target.join("margins").exists() && target.join(RECORD_FILE).exists());
    }
    assert_eq!(fs::read_to_string(outside.join("lenet/nads.npy")).unwrap(), "mine");
    // Of a file: replaced, as is the record, which is not read through a link.
    fs::remove_file(target.join("nads")).unwrap();
    fs::remove_file(target.join(RECORD_FILE)).unwrap();
    fs::create_dir_all(target.join("nads/lenet")).unwrap();
    fs::write(outside.join("record"), record(&["notes.txt"])).unwrap();
    fs::write(target.join("notes.txt"), "mine").unwrap();
    symlink(outside.join("record"), target.join(RECORD_FILE)).unwrap();
    symlink(outside.join("lenet/nads.npy"), target.join("nads/lenet/nads.npy")).unwrap();
    publish(&target, &[("nads/lenet/nads.npy", "2"), (RECORD_FILE, "{}")]).unwrap();
    assert_eq!(fs::read_to_string(outside.join("lenet/nads.npy")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(outside.join("record")).unwrap(), record(&["notes.txt"]));
    assert!(target.join("notes.txt").exists());
    assert!(fs::symlink_metadata(target.join("nads/lenet/nads.npy")).unwrap().is_file());
    assert_eq!(fs::read_to_string(target.join("nads/lenet/nads.npy")).unwrap(), "2");
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut staging = Staging::new(&home.path().join("out")).unwrap();
    assert!(matches!(staging.write("../escaped", b""), Err(Error::Contract(_))));
    assert!(matches!(staging.write("/tmp/escaped", b""), Err(Error::Contract(_))));
    let error = staging.write("nads/\u{1b}[2J.npy", b"").unwrap_err().to_string();
    assert!(error.contains("accepted is a relative path of letters") && !error.contains('\u{1b}'), "{error}");
}
