//! The committed code is what the contract generates. To renew it:
//! `NADGRID_REGENERATE=1 cargo test -p nadgrid-proto --test generated`.

use prost::Message;
use std::fs;
use std::path::Path;

#[test]
fn generated_code_is_not_stale() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(["nadgrid/v1/nadgrid.proto"], [root]).unwrap();
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec()).unwrap();
    tonic_prost_build::configure().out_dir(fresh.path()).compile_fds(descriptors).unwrap();
    for name in ["nadgrid.v1.rs", "descriptors.bin"] {
        let new = fs::read(fresh.path().join(name)).unwrap();
        if std::env::var_os("NADGRID_REGENERATE").is_some() {
            fs::write(committed.join(name), &new).unwrap();
        }
        let held = fs::read(committed.join(name)).unwrap_or_default();
        assert!(held == new, "{name} is stale: run NADGRID_REGENERATE=1 cargo test -p nadgrid-proto --test generated");
    }
}
