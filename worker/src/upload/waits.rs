//! Payloads that wait to be handed in: one warning for all of them together, now and again.

use nadgrid_core::text;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a payload waits before the user is told.
const TOLD_AFTER: Duration = Duration::from_secs(8);
/// Between two warnings.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at what waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a payload waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitPhase {
    /// The coordinator is to accept the call.
    Call,
    /// The coordinator is to have a place for it.
    Place,
    /// Its bytes are on their way.
    Sending,
    /// They are being put into the shared store.
    Storing,
    /// All of them are through; the coordinator is to answer.
    Answer,
    /// The last attempt failed for this reason; another will follow.
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

    /// The warning that is due at this moment, if the first of all has waited for long.
    fn words(&self, now: Instant) -> Option<String> {
        let waiting = self.lock();
        let first = waiting.values().next()?;
        let waited = now.duration_since(first.since);
        if waited < TOLD_AFTER {
            return None;
        }
        let (name, waited) = (&first.name, text::duration(waited.as_secs_f64()));
        let others = match waiting.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} after it)"),
        };
        let why = match &first.phase {
            WaitPhase::Call => "the coordinator does not answer".to_owned(),
            WaitPhase::Place => "the coordinator has no place for it yet".to_owned(),
            WaitPhase::Sending => "its bytes are on their way".to_owned(),
            WaitPhase::Storing => "it is put into the store".to_owned(),
            WaitPhase::Answer => "its bytes are through, and the coordinator has not answered yet".to_owned(),
            WaitPhase::Refused(reason) => format!("it was not taken: {reason}"),
        };
        Some(format!("{name}{others} has waited for {waited} to be handed in, and is kept: {why}"))
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

/// Warns of what waits, for ever.
pub(super) async fn tell(waits: Arc<UploadWaits>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(words) = waits.words(Instant::now()) {
            tracing::warn!("{words}");
            tokio::time::sleep(TOLD_EVERY).await;
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
        first.enter(WaitPhase::Place);
        let now = Instant::now();
        assert_eq!(waits.words(now), None);
        let told = waits.words(now + Duration::from_secs(42)).unwrap();
        assert!(told.starts_with("s/nads/lenet/0..4 (and 1 after it)") && told.contains("no place"), "{told}");
        first.enter(WaitPhase::Refused("the disk is full".to_owned()));
        assert!(waits.words(now + Duration::from_secs(42)).unwrap().contains("the disk is full"));
        drop(first);
        assert!(waits.words(now + Duration::from_secs(42)).unwrap().starts_with("s/nads/lenet/4..8 has waited for"));
        drop(second);
        assert_eq!(waits.words(now + Duration::from_secs(42)), None);
    }
}
