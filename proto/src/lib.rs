//! The wire contract `nadgrid.v1`, and its conversions to and from the core.
//!
//! Wire types are converted once, at the edge. Deliberately absent: anything that opens a connection.

pub mod access;
pub mod chunks;
pub mod convert;
pub mod status;
pub mod upload;
pub mod views;

/// Generated from `nadgrid/v1/nadgrid.proto`; a test fails when it is stale.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod v1 {
    include!("gen/nadgrid.v1.rs");
}

/// The contract's descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
