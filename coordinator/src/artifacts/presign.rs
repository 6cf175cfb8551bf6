//! Presigned requests: each is valid for one blob of a bucket and a limited time, so that workers and clients need no keys.
//!
//! A request that puts a blob is accepted only if the blob does not exist, so it cannot overwrite anything. It does not bound
//! the number of bytes (the library does not sign `content-length`), so the size is checked afterwards. Deliberately absent:
//! sending requests.

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

/// Whether requests are presigned, and how others reach the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PresignSettings {
    /// Whether requests are presigned. If not, all payloads go through the coordinator.
    pub is_on: bool,
    /// The store's address for workers and clients, if it differs from the coordinator's.
    pub public_endpoint: Option<Url>,
}

/// A request that the store accepts from anyone who has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PresignedCall {
    /// `PUT` or `GET`.
    pub method: Method,
    /// The address with its signature, which is secret.
    pub url: Url,
    /// Headers that must be sent unchanged.
    pub headers: Vec<(String, String)>,
    /// The time for which the store accepts the request.
    pub valid: Duration,
}

/// `Debug` leaves out the query of the address, which contains the signature.
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
    /// Whether the store supports conditional puts.
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
    /// Whether requests of this store are presigned.
    pub(crate) fn presigns(&self) -> bool {
        self.signer.is_some()
    }

    /// A request that puts a blob; `None` if requests are not presigned. The caller must have leased the blob.
    ///
    /// # Errors
    /// [`StoreError::Store`] if there are no keys.
    pub(crate) async fn presign_put(
        &self,
        digest: Digest,
        valid: Duration,
    ) -> Result<Option<PresignedCall>, StoreError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let mut options = SignedUrlOptions::new();
        if signer.is_conditional {
            options = options.with_signed_header(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let signed = signer.sign(Method::PUT, digest, valid, options).await;
        signed.map(Some).map_err(|source| self.failed(source))
    }

    /// A request that reads a blob; `None` if requests are not presigned.
    ///
    /// # Errors
    /// [`StoreError::Store`] if there are no keys.
    pub(crate) async fn presign_get(
        &self,
        digest: Digest,
        valid: Duration,
    ) -> Result<Option<PresignedCall>, StoreError> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let signed = signer.sign(Method::GET, digest, valid, SignedUrlOptions::new()).await;
        signed.map(Some).map_err(|source| self.failed(source))
    }

    /// The size of a blob in bytes, without reading it; `None` if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Store`].
    pub(crate) async fn head(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&path(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }
}
