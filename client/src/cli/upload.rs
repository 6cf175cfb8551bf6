//! A spec's files on their way to a coordinator, and a line for each where that takes a while.

use super::Failure;
use nadgrid_client::{Client, LocalFiles};
use nadgrid_core::text::bytes;

/// From this size on, of all files together, each upload is told.
const LARGE_BYTES: u64 = 8 << 20;

/// Uploads all files; `say` takes lines for people.
pub(crate) async fn upload(client: &Client, files: &LocalFiles, say: impl Fn(&str)) -> Result<(), Failure> {
    let is_large = files.size() >= LARGE_BYTES;
    for (place, file) in files.iter().enumerate() {
        if is_large {
            let of = format!("file {} of {}", place + 1, files.iter().len());
            say(&format!("uploading {} ({}, {of})", file.path.display(), bytes(file.stored.size)));
        }
        client.upload(file).await?;
    }
    Ok(())
}
