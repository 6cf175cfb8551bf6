//! `NADGRID_...` variables: which program they are for, and an error for those that are for none.
//!
//! Pure: the variables are an argument. All programs share one prefix, so each must know the others' names.

use crate::text;
use std::collections::BTreeMap;
use thiserror::Error;

/// The prefix of every variable that nadgrid reads.
pub const PREFIX: &str = "NADGRID_";

/// Every key that some nadgrid program reads from its environment.
const KNOWN: &[&str] = &[
    "adopt_artifacts",
    "architecture",
    "artifacts",
    "artifacts_presign",
    "artifacts_public_endpoint",
    "attempts",
    "bin_dir",
    "cache",
    "checkpoint_interval",
    // The tests'.
    "chromium",
    "classes",
    "config",
    "connect_timeout",
    "coordinator",
    "copy_after",
    "stall_after",
    "data",
    "days",
    "device",
    "evaluation",
    "experiment",
    "force",
    "format",
    "grace",
    "heartbeat_interval",
    "insecure",
    "insecure_token",
    "journal",
    "journal_patience",
    "json",
    "keep_state",
    "key",
    "lanes",
    "lease_ttl",
    // The worker's build passes it on through `cargo run`.
    "libtorch_built_for",
    "limit",
    "limits",
    "list",
    "listen",
    "log",
    "log_format",
    "most_shard_blocks",
    "name",
    "networks_a",
    "networks_b",
    "once",
    "only",
    "orphan_age",
    "otlp",
    "out",
    "patience",
    "priority",
    "reconnect_timeout",
    "reducers",
    "regenerate",
    // The tests'.
    "require_servers",
    "role",
    "sample",
    "screenshots",
    "seed",
    "set",
    // The dry run's: a device that computes nothing need not prove itself.
    "skip_device_proof",
    "target_shard_seconds",
    // The worker's own tests'.
    "test_device",
    "theme",
    "tls_ca",
    "tls_certificate",
    "tls_client_ca",
    "tls_domain",
    "tls_key",
    "token",
    "token_file",
    "tokens",
    "trace_sample",
    "uploads",
    "watch",
    "weight",
    "workers",
];

/// Whether some nadgrid program reads this key from its environment.
pub fn is_known(key: &str) -> bool {
    KNOWN.contains(&key)
}

/// A variable with nadgrid's prefix that no nadgrid program knows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the variable {name} is unknown to nadgrid{hint}")]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    hint: String,
}

/// The values of `own` keys among `variables`, by key in lower case.
///
/// # Errors
/// [`UnknownVariable`] for a misspelt one, with the nearest name that exists.
pub fn own_values(
    variables: impl IntoIterator<Item = (String, String)>,
    own: &[&str],
) -> Result<BTreeMap<String, String>, UnknownVariable> {
    let mut values = BTreeMap::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
        if own.contains(&key.as_str()) {
            values.insert(key, value);
        } else if !KNOWN.contains(&key.as_str()) {
            // What this program reads is likelier to be meant.
            let near = text::nearest(&key, own.iter().copied());
            let near = near.or_else(|| text::nearest(&key, KNOWN.iter().copied()));
            let hint = near.map_or(String::new(), |n| format!("; did you mean {PREFIX}{}?", n.to_uppercase()));
            return Err(UnknownVariable { name, hint });
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect()
    }

    #[test]
    fn own_variables_are_taken_others_left_and_misspelt_ones_refused() {
        let taken = own_values(variables(&["NADGRID_LISTEN", "NADGRID_DEVICE", "HOME"]), &["listen", "data"]).unwrap();
        assert_eq!(taken.into_keys().collect::<Vec<_>>(), ["listen"]);
        let error = own_values(variables(&["NADGRID_LISTN"]), &["listen"]).unwrap_err();
        assert_eq!(error.to_string(), "the variable NADGRID_LISTN is unknown to nadgrid; did you mean NADGRID_LISTEN?");
    }
}
