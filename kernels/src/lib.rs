//! nadgrid-kernels
