//! Those around the loop, as the shell names them.

use super::handle::{StateQuestion, WorkerOutbox};
use crate::partial;
use nadgrid_core::ids::Digest;
use nadgrid_core::scheduler::{Answer, Check};
use nadgrid_core::shell::ShellPeers;
use nadgrid_core::spec::Payload;
use tokio::sync::{mpsc, oneshot};

/// The coordinator's workers and callers, all reached by channels.
pub(super) struct CoordinatorPeers;

impl ShellPeers for CoordinatorPeers {
    type Outbox = WorkerOutbox;
    type Caller = oneshot::Sender<Answer>;
    type Checks = mpsc::UnboundedSender<Check>;
    type Question = StateQuestion;

    fn has_gone(caller: &Self::Caller) -> bool {
        caller.is_closed()
    }

    fn check_partial(bytes: &[u8], digest: Digest, payload: Payload, members: u64) -> Result<Digest, String> {
        partial::check(bytes, digest, payload, members)
    }
}
