//! Transfers past the coordinator, for as long as the store can be reached.

use crate::{PresignedError, PresignedPayload, PresignedStore, StoreReach};
use bytes::Bytes;
use nadgrid_proto::v1::PresignedRequest;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Sends presigned requests and remembers whether they reached the store. TLS is set up with the first of them.
#[derive(Debug, Default)]
pub struct DirectStore {
    store: OnceLock<Option<PresignedStore>>,
    reach: Mutex<StoreReach>,
}

/// A payload that did not go past the coordinator.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct DirectError {
    /// The error of the presigned request.
    pub error: PresignedError,
    /// The time for which everything goes through the coordinator from now on, if it does.
    pub avoided: Option<Duration>,
}

impl DirectStore {
    /// Whether to go through the coordinator: the store was not reached several times in a row.
    pub fn is_avoided(&self) -> bool {
        self.reach().is_avoided(Instant::now())
    }

    /// Puts a payload where the request says.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn put(&self, request: &PresignedRequest, bytes: Bytes) -> Result<(), DirectError> {
        let sent = match self.store() {
            Ok(store) => store.put(request, bytes).await,
            Err(error) => Err(error),
        };
        self.note(sent)
    }

    /// Reads a payload and checks it.
    ///
    /// # Errors
    /// [`DirectError`].
    pub async fn get(&self, request: &PresignedRequest, payload: PresignedPayload) -> Result<Vec<u8>, DirectError> {
        let read = match self.store() {
            Ok(store) => store.get(request, payload).await,
            Err(error) => Err(error),
        };
        self.note(read)
    }

    fn store(&self) -> Result<&PresignedStore, PresignedError> {
        let store = self.store.get_or_init(|| PresignedStore::new().ok()).as_ref();
        store.ok_or_else(|| PresignedError::Request("TLS cannot be set up on this machine".to_owned()))
    }

    fn note<T>(&self, outcome: Result<T, PresignedError>) -> Result<T, DirectError> {
        match outcome {
            Ok(value) => {
                self.reach().reached();
                Ok(value)
            }
            // It was reached, and has other bytes.
            Err(error @ PresignedError::Payload { .. }) => Err(DirectError { error, avoided: None }),
            Err(error) => Err(DirectError { error, avoided: self.reach().failed(Instant::now()) }),
        }
    }

    fn reach(&self) -> MutexGuard<'_, StoreReach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
