//! Those around the shell in the simulation: sessions are connections, and partials are symbols.

use crate::coordinator::Question;
use crate::network::Caller;
use crate::truth;
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::scheduler::{Event, Record, Scheduler, ShardRef};
use nadgrid_core::shell::{ShellObserver, ShellPeers, WorkerStep};
use nadgrid_core::spec::Payload;

pub(crate) struct SimulatedPeers;

impl ShellPeers for SimulatedPeers {
    /// The connection of the session.
    type Outbox = u64;
    type Caller = Caller;
    type Checks = Caller;
    type Question = Question;

    fn has_gone(_: &Caller) -> bool {
        false
    }

    fn check_partial(bytes: &[u8], _: Digest, _: Payload, _: u64) -> Result<Digest, String> {
        truth::value_of(bytes).ok_or_else(|| format!("{} bytes are no partial", bytes.len()))
    }
}

/// How many events the shell has handed on to its scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EventCount(u64);

impl ShellObserver for EventCount {
    fn event(&mut self, _: &Event, _: &Scheduler) {
        self.0 += 1;
    }

    fn steps(&mut self, _: &WorkerId, _: &ShardRef, _: Vec<WorkerStep>) {}

    fn record(&mut self, _: &Record, _: &Scheduler) {}
}
