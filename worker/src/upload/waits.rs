//! Payloads that wait for their upload: one warning for all of them together, at intervals.

use nadgrid_core::text;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The time that a payload waits before a warning.
const WARN_AFTER: Duration = Duration::from_secs(8);
/// The time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// The time between two checks of what waits.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The reason for which a payload waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitPhase {
    /// It waits for the coordinator to accept the call.
    Call,
    /// It waits for the coordinator's grant.
    Grant,
    /// Its bytes are being sent.
    Sending,
    /// Its bytes are being put into the shared store.
    Storing,
    /// All bytes are sent; it waits for the coordinator's answer.
    Answer,
    /// The last attempt failed for this reason, and another will follow.
    Refused(String),
}

#[derive(Debug)]
struct WaitingUpload {
    name: String,
    since: Instant,
    phase: WaitPhase,
}

/// Everything that waits, oldest first.
#[derive(Debug, Default)]
pub(super) struct UploadWaits {
    waiting: Mutex<BTreeMap<u64, WaitingUpload>>,
}

/// A payload that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct UploadWait {
    number: u64,
    waits: Arc<UploadWaits>,
}

impl UploadWaits {
    pub(super) fn begin(self: &Arc<Self>, name: String) -> UploadWait {
        let mut waiting = self.lock();
        let number = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        waiting.insert(number, WaitingUpload { name, since: Instant::now(), phase: WaitPhase::Call });
        UploadWait { number, waits: self.clone() }
    }

    /// Returns the warning that is due at this moment, if the first payload has waited for long.
    fn warning(&self, now: Instant) -> Option<String> {
        let waiting = self.lock();
        let first = waiting.values().next()?;
        let waited = now.duration_since(first.since);
        if waited < WARN_AFTER {
            return None;
        }
        let name = &first.name;
        let waited = text::duration(waited.as_secs_f64());
        let others = match waiting.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        let why = match &first.phase {
            WaitPhase::Call => "the coordinator does not answer".to_owned(),
            WaitPhase::Grant => "the coordinator has no capacity for it yet".to_owned(),
            WaitPhase::Sending => "its bytes are being sent".to_owned(),
            WaitPhase::Storing => "it is being put into the store".to_owned(),
            WaitPhase::Answer => "its bytes are sent, and the coordinator has not answered yet".to_owned(),
            WaitPhase::Refused(reason) => format!("the last attempt failed: {reason}"),
        };
        Some(format!("the upload of {name}{others} has been waiting for {waited}, the payload is kept: {why}"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, WaitingUpload>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadWait {
    pub(super) fn enter(&self, phase: WaitPhase) {
        if let Some(waiting) = self.waits.lock().get_mut(&self.number) {
            waiting.phase = phase;
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.waits.lock().get(&self.number).is_some_and(|waiting| waiting.phase == WaitPhase::Sending)
    }
}

impl Drop for UploadWait {
    fn drop(&mut self) {
        self.waits.lock().remove(&self.number);
    }
}

/// Warns about uploads that wait, for ever.
pub(super) async fn warn(waits: Arc<UploadWaits>) {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        if let Some(warning) = waits.warning(Instant::now()) {
            tracing::warn!("{warning}");
            tokio::time::sleep(WARN_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_long_is_told_with_its_reason() {
        let waits = Arc::<UploadWaits>::default();
        let first = waits.begin("s/nads/lenet/0..4".to_owned());
        let second = waits.begin("s/nads/lenet/4..8".to_owned());
        first.enter(WaitPhase::Grant);
        let now = Instant::now();
        assert_eq!(waits.warning(now), None);
        let told = waits.warning(now + Duration::from_secs(42)).unwrap();
        assert!(
            told.starts_with("the upload of s/nads/lenet/0..4 (and 1 more)") && told.contains("no capacity"),
            "{told}"
        );
        first.enter(WaitPhase::Refused("the disk is full".to_owned()));
        assert!(waits.warning(now + Duration::from_secs(42)).unwrap().contains("the disk is full"));
        drop(first);
        assert!(
            waits
                .warning(now + Duration::from_secs(42))
                .unwrap()
                .starts_with("the upload of s/nads/lenet/4..8 has been waiting for")
        );
        drop(second);
        assert_eq!(waits.warning(now + Duration::from_secs(42)), None);
    }
}
