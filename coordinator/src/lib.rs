//! The coordinator: a tonic server around the core's scheduler.
//!
//! One loop owns all state (`event_loop`): it awaits commands, applies them to the scheduler, makes the records durable in
//! the journal, and then acts. Slow work (storing payloads, merging, eigenvectors) is done elsewhere and its result comes
//! back as a command. Deliberately absent: libtorch, and locks around state.

mod access;
mod artifacts;
pub mod config;
mod event_loop;
mod http_status;
pub mod journal;
mod limits;
mod log_throttle;
mod memory;
mod metrics;
mod page;
mod partial;
mod reducer;
mod server;
mod service;
mod transfers;

pub use access::{TlsError, TokensError};
pub use memory::give_memory_back;
pub use server::{ServeError, page_address, run};
