//! The coordinator: a tonic server around the core's scheduler.
//!
//! One loop owns all state (`event_loop`): it awaits commands, applies them to the scheduler, makes the records
//! durable in the journal, and then acts. What takes long (storing payloads, merging, eigenvectors) happens
//! elsewhere and comes back as a command. Deliberately absent: libtorch, and locks around state.

mod access;
pub mod artifacts;
pub mod config;
mod event_loop;
pub mod journal;
pub mod limits;
mod memory;
mod metrics;
mod page;
mod partial;
pub mod reducer;
mod server;
mod service;
mod transfers;

pub use access::{TlsError, TokensError};
pub use memory::give_memory_back;
pub use server::{ServeError, page_address, run};
