//! The spec parser: any text is refused in words, or is a spec whose text with every default is that spec again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nadgrid_core::spec::{Inputs, Spec};

fuzz_target!(|text: &str| {
    match Spec::from_toml(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(spec) => {
            assert_eq!(Spec::from_toml(&spec.to_toml()).as_ref(), Ok(&spec));
            for job in spec.jobs(&Inputs::new()) {
                assert!(job.grid.blocks() > 0);
                let last = job.grid.networks - 1;
                let run = spec.run(job.experiment, &job.architecture, last);
                assert!(run.is_some() || job.experiment.as_str() == "nads");
            }
            spec.uploads();
        }
    }
});
