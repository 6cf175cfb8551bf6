//! nadgrid-tests
