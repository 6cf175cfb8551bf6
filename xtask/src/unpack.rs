//! Takes from a wheel (a zip archive) the files that are wanted, and remembers what was written.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use zip::ZipArchive;

use crate::hash;
use crate::manifest::ManifestEntry;
use crate::wheels::Wheel;

/// Unpacks the wanted files of a sound wheel below `folder`.
pub(crate) fn unpack(wheel: &Wheel, from: &Path, folder: &Path) -> Result<Vec<ManifestEntry>> {
    let context = || format!("cannot unpack {}", from.display());
    let mut archive = ZipArchive::new(BufReader::new(File::open(from).with_context(context)?)).with_context(context)?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).with_context(context)?;
        let Some(path) = wheel.destination(member.name()) else { continue };
        let to = folder.join(&path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut written = File::create(&to).with_context(|| format!("cannot write {}", to.display()))?;
        let fingerprint = hash::copy(&mut member, &mut written).with_context(context)?;
        entries.push(ManifestEntry { path, fingerprint });
    }
    for (_, to) in wheel.takes {
        ensure!(entries.iter().any(|entry| entry.path.starts_with(to)), "{} holds nothing for {to}", from.display());
    }
    Ok(entries)
}
