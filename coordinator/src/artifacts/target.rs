//! The place of artifacts: a folder, or a bucket whose keys and address come from the usual `AWS_...` variables.

use super::presign::{PresignSettings, StoreSigner};
use super::{Store, StoreError};
use object_store::ClientConfigKey::{ConnectTimeout, Timeout};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as BlobPath;
use object_store::prefix::PrefixStore;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The URLs that are accepted.
pub(crate) const ACCEPTED: &str = "nothing (a folder in the data folder), file:///PATH or s3://BUCKET/PREFIX";
/// The folder's name in the data folder.
const FOLDER: &str = "artifacts";
/// The number of retries of a request to S3, and the time within which they are made. After that the error is returned.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(30);
/// The time limits of one attempt, unless `AWS_TIMEOUT` and `AWS_CONNECT_TIMEOUT` set others.
const ATTEMPT: &str = "60 seconds";
const CONNECT: &str = "5 seconds";

/// The artifacts' URL as it was configured; empty for the default, a folder in the data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ArtifactsUrl(String);

impl From<&str> for ArtifactsUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl ArtifactsUrl {
    /// Checks the URL.
    ///
    /// # Errors
    /// [`StoreError::Url`] if it does not name a store.
    pub fn check(&self) -> Result<(), StoreError> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<Option<Url>, StoreError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let refused = |why: &str| Err(StoreError::Url { why: why.to_owned() });
        let url = match Url::parse(&self.0) {
            Ok(url) => url,
            Err(error) => return refused(&error.to_string()),
        };
        match url.scheme() {
            _ if !url.username().is_empty() || url.password().is_some() => {
                refused("keys belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }
            _ if url.query().is_some() || url.fragment().is_some() => refused("parameters are not accepted"),
            "file" if url.to_file_path().is_ok() => Ok(Some(url)),
            "file" => refused("the folder's path must be absolute"),
            "s3" if url.host_str().is_some_and(|bucket| !bucket.is_empty()) => Ok(Some(url)),
            "s3" => refused("it names no bucket"),
            _ => refused("its scheme is neither file nor s3"),
        }
    }

    /// Opens the store with these environment variables.
    pub(super) fn open(
        &self,
        data: &Path,
        presign: &PresignSettings,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Store, StoreError> {
        match self.parse()? {
            None => Store::local(&data.join(FOLDER)),
            Some(url) => match url.to_file_path() {
                Ok(folder) if url.scheme() == "file" => Store::local(&folder),
                _ => s3(&url, presign, variables),
            },
        }
    }
}

impl Store {
    /// Opens a store in a local folder, which is created if it does not exist.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be created.
    pub(crate) fn local(folder: &Path) -> Result<Self, StoreError> {
        let name = folder.display().to_string();
        let failed = |source| StoreError::Folder { path: name.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        match LocalFileSystem::new_with_prefix(folder) {
            Ok(objects) => Ok(Self::new(name, Arc::new(objects.with_fsync(true)), Some(folder.to_owned()))),
            Err(source) => Err(StoreError::Store { store: name, source }),
        }
    }
}

fn s3(
    url: &Url,
    presign: &PresignSettings,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    // TLS has one provider in this program; it may have been installed before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new().with_retry(retry);
    for (key, usual) in [(Timeout, ATTEMPT), (ConnectTimeout, CONNECT)] {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), usual);
    }
    // This does what `from_env` would do, after the defaults.
    let mut is_encrypted = false;
    for (name, value) in variables.filter(|(name, _)| name.starts_with("AWS_")) {
        is_encrypted |= name.starts_with("AWS_SERVER_SIDE_ENCRYPTION") || name.starts_with("AWS_SSE_");
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let failed = |source| StoreError::Store { store: url.to_string(), source };
    let builder = builder.with_bucket_name(url.host_str().unwrap_or_default());
    let bucket = builder.clone().build().map_err(failed)?;
    let prefix = BlobPath::from(url.path().trim_matches('/'));
    // Presigned requests would lack the headers for encryption that the coordinator's own requests have.
    let signs = presign.is_on && !is_encrypted;
    let signer = signs.then(|| signer(builder, prefix.clone(), presign)).transpose().map_err(failed)?;
    let store = Store::new(url.to_string(), Arc::new(PrefixStore::new(bucket, prefix)), None);
    Ok(Store { signer: signer.map(Arc::new), ..store })
}

fn signer(builder: AmazonS3Builder, prefix: BlobPath, presign: &PresignSettings) -> object_store::Result<StoreSigner> {
    let conditional = builder.get_config_value(&AmazonS3ConfigKey::ConditionalPut);
    let is_conditional = conditional.is_none_or(|value| value != "disabled");
    let builder = match &presign.public_endpoint {
        // The signer sends nothing itself, so plain http is acceptable here.
        Some(endpoint) => builder.with_endpoint(endpoint.as_str().trim_end_matches('/')).with_allow_http(true),
        None => builder,
    };
    Ok(StoreSigner { bucket: builder.build()?, prefix, is_conditional })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_no_store_is_refused_with_the_reason() {
        let said = |url: &str| ArtifactsUrl::from(url).check().unwrap_err().to_string();
        assert!(said("nfs://host/x").contains("neither file nor s3"));
        assert!(said("s3:///x").contains("no bucket"), "{}", said("s3:///x"));
        assert!(said("data/artifacts").contains("file:///PATH or s3://BUCKET/PREFIX"));
        assert!(said("file://host/x").contains("absolute"));
        let keys = said("s3://id:hunter2@bucket/x");
        assert!(keys.contains("AWS_SECRET_ACCESS_KEY") && !keys.contains("hunter2"), "{keys}");
        for accepted in ["", "file:///var/x", "s3://bucket", "s3://bucket/a/prefix"] {
            ArtifactsUrl::from(accepted).check().unwrap();
        }
    }
}
