//! The coordinator: a tonic server around the core's scheduler.
//!
//! One loop owns all state (`desk`): it awaits commands, applies them to the scheduler, makes the records
//! durable in the journal, and then acts. What takes long (storing payloads, merging, eigenvectors) happens
//! elsewhere and comes back as a command. Deliberately absent: libtorch, and locks around state.

pub mod artifacts;
pub mod config;
mod desk;
pub mod journal;
mod partial;
pub mod reducer;
mod server;
mod service;

pub use server::{ServeError, run};
