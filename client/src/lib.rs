//! nadgrid-client
