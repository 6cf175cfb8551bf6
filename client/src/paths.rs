//! Names that come over the wire, before they are paths or parts of a command; and files that are written where somebody else may have
//! been before.
//!
//! A name below a result folder cannot lead out of it, and neither can what lies there: a folder that is a symbolic link is refused, and a
//! file that is one is replaced, never written through. Absent: protection from whoever changes the folder at the same moment.

use crate::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Characters of a name, and of each of its parts.
const MAX_NAME: usize = 255;
const MAX_PART: usize = 128;
/// The most characters that an id may have.
const MAX_ID: usize = 64;
/// The prefix of the name of a file that is not whole yet.
pub(crate) const HIDDEN: &str = ".nadgrid-";
/// The message for a refused name.
pub(crate) const ACCEPTED: &str =
    "accepted is a relative path of letters, digits, `.`, `_` and `-`, each part beginning with a letter or digit";

/// Whether `name` is a plain relative path, such as `nads/lenet/nads.npy`: [`ACCEPTED`].
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('/').all(|part| part.len() <= MAX_PART && is_word(part))
}

/// Whether an id can stand in a command.
pub(crate) fn is_plain_id(id: &str) -> bool {
    id.len() <= MAX_ID && is_word(id)
}

/// Letters, digits and few signs, the first of them a letter or digit: nothing hidden, no option of a command.
fn is_word(word: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    word.bytes().all(fits) && word.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// Checks that no folder between `root` and the file `name` below it is a symbolic link, and thus elsewhere.
///
/// # Errors
/// [`Error::Io`], which names the link.
pub(crate) fn refuse_links(root: &Path, name: &str) -> Result<(), Error> {
    let mut folder = root.to_owned();
    for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(there) if there.is_symlink() => {
                let refused = io::Error::other("it is a symbolic link, and files are not written outside the folder");
                return Err(Error::io(&folder, "write into it")(refused));
            }
            // What is not there holds no link, and what is no folder fails when it is written into.
            _ => {}
        }
    }
    Ok(())
}

/// Writes the file `name` below the folder `root`, and makes the folders that it needs. A file that is there is replaced as a whole; if it
/// is a symbolic link, the link is. Returns the file's path.
///
/// # Errors
/// [`Error::Io`], for a folder that is a symbolic link too; [`Error::Contract`] for a name that leads out of the folder.
pub fn replace_file(root: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    ensure_plain(name)?;
    refuse_links(root, name)?;
    let path = root.join(name);
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
    // As any new file is: what the user's mask allows.
    let open = Permissions::from_mode(0o666);
    let written = tempfile::Builder::new().prefix(HIDDEN).permissions(open).tempfile_in(folder).and_then(|mut file| {
        file.write_all(bytes)?;
        file.persist(&path).map_err(|error| error.error)
    });
    written.map_err(Error::io(&path, "write"))?;
    Ok(path)
}

/// Checks that a name is one of a file below a folder.
///
/// # Errors
/// [`Error::Contract`].
pub(crate) fn ensure_plain(name: &str) -> Result<(), Error> {
    if is_plain(name) {
        return Ok(());
    }
    Err(Error::Contract(format!("{name:?} is not the name of a file below a folder; {ACCEPTED}")))
}

/// Whether a file is there, itself and not by a link.
pub(crate) fn is_own_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_names_below_the_folder_are_plain() {
        for name in ["sweep.json", "nads/lenet/nads.npy", "margins/vgg11_bn_margins.csv", "nads/a_beside_b.svg"] {
            assert!(is_plain(name), "{name}");
        }
        for name in
            ["", "/etc/passwd", "../x", "nads/../../x", "./x", ".nadgrid-1/x", "nads/.x", "a\\b", "a\nb", "a//b", "a/"]
        {
            assert!(!is_plain(name), "{name}");
        }
        let long = "x".repeat(MAX_PART + 1);
        let deep = "x/".repeat(200) + "x";
        for name in [
            "a\0b",
            "a\u{1b}[2J",
            "a\u{7}",
            "a\u{202e}b",
            "a b",
            "-rf",
            "a:b",
            "\u{e9}",
            "~/x",
            long.as_str(),
            deep.as_str(),
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn an_id_can_stand_in_a_command() {
        assert!(is_plain_id("0199b6f0-7d2c-7000-8000-000000000000") && is_plain_id("s-1"));
        let long = "x".repeat(MAX_ID + 1);
        for id in ["", "-x", "--out", "a b", "$(x)", "a/b", "..", long.as_str()] {
            assert!(!is_plain_id(id), "{id}");
        }
    }

    #[test]
    fn a_link_is_replaced_and_a_linked_folder_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        let outside = home.path().join("outside");
        fs::create_dir_all(out.join("nads")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("mine"), "mine").unwrap();
        symlink(outside.join("mine"), out.join("nads/a.svg")).unwrap();
        assert_eq!(replace_file(&out, "nads/a.svg", b"new").unwrap(), out.join("nads/a.svg"));
        assert_eq!(fs::read_to_string(outside.join("mine")).unwrap(), "mine");
        assert!(is_own_file(&out.join("nads/a.svg")));
        assert_eq!(fs::read_to_string(out.join("nads/a.svg")).unwrap(), "new");
        symlink(&outside, out.join("linked")).unwrap();
        for name in ["linked/mine", "linked/new/deep.svg"] {
            let error = replace_file(&out, name, b"new").unwrap_err().to_string();
            assert!(error.contains("out/linked: cannot write into it: it is a symbolic link"), "{error}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("mine")).unwrap(), "mine");
        assert!(matches!(replace_file(&out, "../x", b""), Err(Error::Contract(_))));
    }
}
