//! moto, a server that speaks S3, for the tests of the artifact store: a Python package in the cache folder.

use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;
use crate::pip::Pip;

/// Names the folder to the tests.
pub(crate) const VARIABLE: &str = "MOTO_PACKAGES";
const VERSION: &str = "5.2.5";

/// The folder of moto and of all it depends on, filled if need be.
pub(crate) fn ensure(pip: Pip) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let packages = cache.path(format!("moto-{VERSION}-{}", pip.python_tag()?));
    if !packages.exists() {
        println!("== moto: installing moto {VERSION}, an S3 server for the tests, into {}", packages.display());
        pip.clone().or_recent(&cache).install(&[&format!("moto[server]=={VERSION}")], &cache, &packages)?;
    }
    Ok(packages)
}
