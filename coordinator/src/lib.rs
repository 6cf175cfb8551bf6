//! nadgrid-coordinator
