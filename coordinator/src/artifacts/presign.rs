//! Presigned requests: for one blob of a bucket and a while, good for whoever has them, so that workers and clients need no keys.
//!
//! One that puts is good for a blob that is not there yet: what is stored cannot be overwritten with it. It does not bound the
//! number of bytes (the library signs no `content-length`), so that is checked once they are there. Deliberately absent: sending requests.

use super::{Store, StoreError, path};
use http::header::IF_NONE_MATCH;
use http::{HeaderValue, Method};
use nadgrid_core::ids::Digest;
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::path::Path as BlobPath;
use object_store::signer::{SignedUrlOptions, Signer};
use std::fmt;
use std::time::Duration;
use url::Url;

/// Whether presigned requests are made, and how others reach the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresignSettings {
    /// Without them all payloads go through the coordinator.
    pub is_on: bool,
    /// The store's address as workers and clients know it, where that is another than the coordinator's.
    pub public_endpoint: Option<Url>,
}

/// A request that the store accepts from whoever has it.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedCall {
    /// `PUT` or `GET`.
    pub method: Method,
    /// The address with its signature, which is secret.
    pub url: Url,
    /// To be sent as they are.
    pub headers: Vec<(String, String)>,
    /// How long the store accepts it, from now on.
    pub valid: Duration,
}

/// Without the query of the address, which holds the signature.
impl fmt::Debug for PresignedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, headers, valid } = self;
        write!(f, "{method} {}, {} headers, valid for {valid:?}", url.path(), headers.len())
    }
}

/// Signs requests with the coordinator's keys.
pub(super) struct StoreSigner {
    pub(super) bucket: AmazonS3,
    pub(super) prefix: BlobPath,
    /// Whether the store can be told to take only what is not there.
    pub(super) is_conditional: bool,
}

impl StoreSigner {
    async fn sign(
        &self,
        method: Method,
        digest: Digest,
        valid: Duration,
        options: SignedUrlOptions,
    ) -> object_store::Result<PresignedCall> {
        let blob: BlobPath = self.prefix.parts().chain(path(digest).parts()).collect();
        let url = self.bucket.signed_url_opts(method.clone(), &blob, valid, &options).await?;
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = options.signed_headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Ok(PresignedCall { method, url, headers, valid })
    }
}

impl Store {
    /// Whether the store makes presigned requests.
    pub fn presigns(&self) -> bool {
        self.signer.is_some()
    }

    /// A request that puts a blob; `None` where the store makes none. Whoever asks holds the blob before.
    ///
    /// # Errors
    /// [`StoreError::Store`] when the keys cannot be had.
    pub async fn presign_put(&self, digest: Digest, valid: Duration) -> Result<Option<PresignedCall>, StoreError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let mut options = SignedUrlOptions::new();
        if signer.is_conditional {
            options = options.with_signed_header(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let signed = signer.sign(Method::PUT, digest, valid, options).await;
        signed.map(Some).map_err(|source| self.failed(source))
    }

    /// A request that reads a blob; `None` where the store makes none.
    ///
    /// # Errors
    /// [`StoreError::Store`] when the keys cannot be had.
    pub async fn presign_get(&self, digest: Digest, valid: Duration) -> Result<Option<PresignedCall>, StoreError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let signed = signer.sign(Method::GET, digest, valid, SignedUrlOptions::new()).await;
        signed.map(Some).map_err(|source| self.failed(source))
    }

    /// Bytes of a blob, without reading it; `None` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub async fn head(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&path(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }
}
