//! nadgrid-proto
