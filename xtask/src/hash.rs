//! SHA-256 of files, and the two questions asked with it: is this file what was promised, and what did I just write?

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// A file's length in bytes and its SHA-256 in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// The condition of a file that should have a certain fingerprint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Absent,
    Sound,
    /// In words, to follow "the file ...".
    Damaged(String),
}

/// Reads a whole file.
pub(crate) fn file(path: &Path) -> io::Result<Fingerprint> {
    copy(&mut File::open(path)?, &mut io::sink())
}

/// Copies `from` into `to`, and says what was copied.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<Fingerprint> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Fingerprint { size, sha256 })
}

/// Compares a file with what was promised. The length is looked at first: a partial file costs no hashing.
pub(crate) fn inspect(path: &Path, size: u64, sha256: &str) -> io::Result<Condition> {
    let found = match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Condition::Absent),
        found => found?.len(),
    };
    if found != size {
        return Ok(Condition::Damaged(format!("has {found} bytes instead of {size}")));
    }
    let found = file(path)?.sha256;
    if found != sha256 {
        return Ok(Condition::Damaged(format!("has SHA-256 {found} instead of {sha256}")));
    }
    Ok(Condition::Sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn holding(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("write");
        file
    }

    #[test]
    fn hashes_as_the_standard_does() {
        let found = file(holding(b"abc").path()).expect("readable");
        assert_eq!(found, Fingerprint { size: 3, sha256: ABC.to_owned() });
    }

    #[test]
    fn a_sound_file_is_sound() {
        assert_eq!(inspect(holding(b"abc").path(), 3, ABC).expect("readable"), Condition::Sound);
    }

    #[test]
    fn a_truncated_file_is_damaged() {
        let found = inspect(holding(b"ab").path(), 3, ABC).expect("readable");
        assert_eq!(found, Condition::Damaged("has 2 bytes instead of 3".to_owned()));
    }

    #[test]
    fn a_flipped_byte_is_damage() {
        let found = inspect(holding(b"abd").path(), 3, ABC).expect("readable");
        assert!(matches!(found, Condition::Damaged(why) if why.contains("SHA-256")));
    }

    #[test]
    fn a_missing_file_is_absent_not_an_error() {
        assert_eq!(inspect(Path::new("/nonexistent/wheel"), 3, ABC).expect("readable"), Condition::Absent);
    }
}
