//! The files that a spec names: found on this machine, looked at, and handed to a coordinator.
//!
//! A file is read twice, once to learn its size and digest and whether it is what the spec wants, and once to be sent, so that
//! no more than one is in memory. Absent: NADs of earlier sweeps, which the coordinator has; and the coordinator's closer look
//! at every number.

use crate::client::Client;
use crate::error::{Error, Refusal};
use nadgrid_core::cifar10;
use nadgrid_core::ids::Digest;
use nadgrid_core::spec::{InputRef, Inputs, Spec, SpecError, Upload, Violation};
use nadgrid_figures::npy;
use nadgrid_proto::upload::gated;
use nadgrid_proto::v1::upload_input_request::Part;
use nadgrid_proto::v1::upload_input_response::Message;
use nadgrid_proto::v1::{InputHeader, UploadInputRequest};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tonic::Status;

/// A file that a spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// The path as the spec has it; for a folder, that path, a slash and the file's name.
    pub name: String,
    /// The path where it was found.
    pub path: PathBuf,
    /// Its size and digest.
    pub stored: InputRef,
}

/// All files of this machine that a spec names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalFiles {
    files: BTreeMap<String, LocalFile>,
    left_out: Vec<PathBuf>,
}

impl LocalFiles {
    /// Finds and reads the files of a spec. Relative paths are looked for in `folder`, as a rule that of the spec, and then in
    /// the current folder. Blocks while files are read.
    ///
    /// # Errors
    /// [`Error::Refused`], with every file that is missing or not what the spec wants.
    pub fn read(spec: &Spec, folder: Option<&Path>) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut violations = Vec::new();
        for upload in spec.uploads() {
            let read = match &upload {
                Upload::Directions { field, path, dimension, largest } => {
                    found.read_directions(field, path, *dimension, *largest, folder)
                }
                Upload::Cifar10 { path } => found.read_images(spec, path, folder),
                Upload::Sweep { .. } => Ok(()),
            };
            violations.extend(read.err().into_iter().flat_map(|error| error.violations));
        }
        if violations.is_empty() { Ok(found) } else { Err(SpecError::new(violations).into()) }
    }

    /// The files by their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &LocalFile> {
        self.files.values()
    }

    /// Files with the ending `.bin` in a folder of images that hold neither training nor test images by their names.
    pub fn left_out(&self) -> &[PathBuf] {
        &self.left_out
    }

    /// Returns the size of all files, in bytes.
    pub fn size(&self) -> u64 {
        self.iter().map(|file| file.stored.size).sum()
    }

    /// As plans and submissions name them.
    pub fn inputs(&self) -> Inputs {
        self.iter().map(|file| (file.name.clone(), file.stored)).collect()
    }

    fn read_directions(
        &mut self,
        field: &str,
        name: &str,
        dimension: usize,
        largest: Option<u64>,
        folder: Option<&Path>,
    ) -> Result<(), SpecError> {
        let refused = |wrong: String| SpecError::of(field, &format!("{name:?}"), wrong);
        let path = find(name, folder, Path::is_file).map_err(|places| refused(format!("no such file: {places}")))?;
        let bytes = read(&path).map_err(refused)?;
        let rows = npy::parse_matrix(&bytes, &path).map_err(|error| refused(error.to_string()))?;
        let (count, length) = rows.dim();
        if count == 0 || length != dimension {
            let shape = format!("{}: its shape is {count} x {length}", path.display());
            return Err(refused(format!("{shape}; rows of {dimension} numbers are required")));
        }
        if let Some(largest) = largest.filter(|&largest| largest >= count as u64) {
            let last = format!("the last of {} is {}", path.display(), count - 1);
            return Err(refused(format!("row {largest} is requested, but {last}")));
        }
        self.add(name.to_owned(), path, &bytes);
        Ok(())
    }

    fn read_images(&mut self, spec: &Spec, name: &str, folder: Option<&Path>) -> Result<(), SpecError> {
        const FIELD: &str = "cifar10.path";
        let refused = |wrong: String| SpecError::of(FIELD, &format!("{name:?}"), wrong);
        let path = find(name, folder, Path::is_dir).map_err(|places| refused(format!("no such folder: {places}")))?;
        let (files, left_out) = image_files(&path).map_err(refused)?;
        self.left_out.extend(left_out);
        let lacks = |what: &str| Err(refused(format!("{} holds no {what}", path.display())));
        if !files.iter().any(|file| cifar10::is_training_file(file)) {
            return lacks("data_batch_N.bin, training images in CIFAR-10's binary format");
        }
        if !files.iter().any(|file| file == cifar10::TEST_FILE) {
            return lacks(&format!("{}, test images in CIFAR-10's binary format", cifar10::TEST_FILE));
        }
        let mut violations = Vec::new();
        for file in &files {
            let at = path.join(file);
            match read_images(&at) {
                Ok((bytes, images)) => {
                    violations.extend(too_few(spec, file, images));
                    self.add(format!("{name}/{file}"), at, &bytes);
                }
                Err(wrong) => violations.extend(refused(wrong).violations),
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(SpecError::new(violations)) }
    }

    fn add(&mut self, name: String, path: PathBuf, bytes: &[u8]) {
        let stored = InputRef { size: bytes.len() as u64, digest: Digest::of(bytes) };
        self.files.insert(name.clone(), LocalFile { name, path, stored });
    }
}

/// Margins are measured on the first test images.
fn too_few(spec: &Spec, file: &str, images: usize) -> Option<Violation> {
    let asked = spec.margins.as_ref().filter(|_| file == cifar10::TEST_FILE)?.images;
    let accepted = format!("at most {images}, the images of the test set");
    let violation = Violation { field: "margins.images".into(), value: asked.to_string(), accepted, position: None };
    (asked as usize > images).then_some(violation)
}

/// The place of a name; where it was looked for when it is not there.
fn find(name: &str, folder: Option<&Path>, is_there: impl Fn(&Path) -> bool) -> Result<PathBuf, String> {
    let mut places: Vec<PathBuf> = folder.map(|folder| folder.join(name)).into_iter().collect();
    if !places.contains(&PathBuf::from(name)) {
        places.push(name.into());
    }
    if let Some(place) = places.iter().find(|place| is_there(place)) {
        return Ok(place.clone());
    }
    let shown: Vec<String> =
        places.iter().map(|place| std::path::absolute(place).unwrap_or(place.clone()).display().to_string()).collect();
    Err(format!("looked for {}", shown.join(" and ")))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_images(path: &Path) -> Result<(Vec<u8>, usize), String> {
    let bytes = read(path)?;
    let images = cifar10::parse(&bytes, &path.display().to_string()).map_err(|error| error.to_string())?;
    Ok((bytes, images.len()))
}

/// Names of the files of images in a folder, and paths of those that only look like them.
fn image_files(folder: &Path) -> Result<(Vec<String>, Vec<PathBuf>), String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    let mut left_out = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        match entry.file_name().into_string() {
            Ok(name) if name == cifar10::TEST_FILE || cifar10::is_training_file(&name) => files.push(name),
            _ if entry.path().extension().is_some_and(|ending| ending == "bin") => left_out.push(entry.path()),
            _ => {}
        }
    }
    files.sort_unstable();
    left_out.sort_unstable();
    Ok((files, left_out))
}

impl Client {
    /// Stores a file at the coordinator, which may have it already.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Refused`] for a file that has changed since it was found, and those of a call.
    pub async fn upload(&self, file: &LocalFile) -> Result<(), Error> {
        let bytes = tokio::fs::read(&file.path).await.map_err(Error::io(&file.path, "read"))?;
        let InputRef { size, digest } = file.stored;
        if bytes.len() as u64 != size || Digest::of(&bytes) != digest {
            let wrong = format!("{}: the file changed while it was being submitted", file.path.display());
            return Err(Refusal { violations: vec![wrong] }.into());
        }
        let header = InputHeader { size, digest: digest.to_string() };
        let stored = self.hand_in(&header, bytes).await?;
        if stored == header {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "{} was stored with {} bytes and digest {}",
            file.name, stored.size, stored.digest
        )))
    }

    /// Waits for a place as long as there is none, then sends the bytes; a file that is there already is not sent.
    async fn hand_in(&self, header: &InputHeader, bytes: Vec<u8>) -> Result<InputHeader, Error> {
        let header = UploadInputRequest { part: Some(Part::Header(header.clone())) };
        let (mut gate, messages) = gated(header, bytes, |data| UploadInputRequest { part: Some(Part::Data(data)) });
        let answers = self.service().upload_input(messages).await;
        let mut answers = answers.map_err(|status| self.error(status))?.into_inner();
        while let Some(answer) = self.received(answers.message().await)? {
            match answer.message {
                Some(Message::Grant(_)) => gate.open(),
                Some(Message::Stored(stored)) => return Ok(stored),
                None => {}
            }
        }
        Err(self.error(Status::unknown("the upload ended without an answer")))
    }
}

#[cfg(test)]
mod tests;
