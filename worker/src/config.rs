//! The worker's configuration: a file, then `NADGRID_...` variables, then flags.
//!
//! A key is written once, in the table below: the file, the variables, the flags, `--help` and docs/configuration.md are made
//! from it. Deliberately absent: how the layers are put together, which is the same for every program (`nadgrid-configuration`).

use crate::device::{DeviceChoice, Evaluation};
use nadgrid_configuration::{ConfigurationError, KeyFlags, Range, Variables, boolean, configuration, load};
use nadgrid_proto::access::{CredentialFiles, Secret};
use nadgrid_telemetry::{LogFormat, Settings};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::Uri;

/// Longest wait in seconds: a week.
const MAX_WAIT: f64 = 7.0 * 86_400.0;

configuration! {
    /// The configuration that the worker runs with.
    pub struct WorkerConfig {
        /// URL of the coordinator.
        coordinator: String, default("http://127.0.0.1:7400".to_owned()), "URL", [any], with "url";
        /// Where to compute: auto, cpu, cuda or cuda:N.
        device: DeviceChoice as String, shown("auto", DeviceChoice::Auto), "DEVICE", [any],
            with "nadgrid_configuration::parsed";
        /// Shards computed at once.
        slots: Option<u32> as u32, absent("all cores on a CPU, 1 on a GPU"), "N", [Range::of(1.0, 1024.0)];
        /// Display name of this worker.
        name: String, shown("the host's name", host_name()), "NAME", [any], with "display_name";
        /// How central differences are evaluated: auto, patch, dense or fused.
        evaluation: Option<Evaluation> as String, absent("auto, patch on a CPU and fused on a GPU"), "EVALUATION", [any],
            with "evaluation";
        /// Seconds to wait for a coordinator that was never reached.
        connect_timeout: Duration as f64, shown("30", Duration::from_secs(30)), "SECONDS", [any], with "seconds";
        /// Seconds to wait for a coordinator that was lost.
        reconnect_timeout: Duration as f64, shown("600", Duration::from_secs(600)), "SECONDS", [any], with "seconds";
        /// File that holds the token; the variable NADGRID_TOKEN may hold it instead.
        token_file: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// Send the token over plain http to another machine too.
        insecure_token: bool, switch, "", [any];
        /// Authorities to trust for https://, instead of the system's (PEM).
        tls_ca: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// Own certificate, where the coordinator asks for one (PEM).
        tls_certificate: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// Key of the own certificate (PEM).
        tls_key: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// Host name of the coordinator's certificate.
        tls_domain: Option<String> as String, absent("that of the address"), "NAME", [any];
        /// Seconds that running shards may take after a signal; what is left is given back.
        // Kubernetes kills a pod 30 seconds after its SIGTERM.
        grace: Duration as f64, shown("25", Duration::from_secs(25)), "SECONDS", [any], with "seconds";
        /// Minimum seconds between checkpoints of a training shard; 0 for one at the end of every epoch.
        checkpoint_interval: Duration as f64, shown("60", Duration::from_secs(60)), "SECONDS", [any], with "seconds";
        /// What is logged: a level, or target=level pairs.
        log: String, default(Settings::default().log), "FILTER", [any];
        /// The form of log lines: text, or json for an object a line.
        log_format: LogFormat as String, shown("text", LogFormat::Text), "FORMAT", [any];
        /// Collector that spans are sent to, OTLP over gRPC.
        otlp: Option<String> as String, absent("none"), "URL", [any];
        /// Share of traces that are recorded, from 0 to 1.
        trace_sample: f64, default(1.0), "X", [any];
    } besides {} variables {
        /// The token itself, from `NADGRID_TOKEN`: no file holds it, and a flag would show it to everybody on the machine.
        token: Option<Secret>;
        /// Whether a GPU is relied on although nothing shows that it computes. Only for a stand-in without a card: whatever such
        /// a worker yields may be zeros. So it is a variable, `NADGRID_SKIP_DEVICE_PROOF=1`, no flag and no key of a file.
        skip_device_proof: bool;
    }
}

impl WorkerConfig {
    /// The configuration from file, variables and flags, later ones winning.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the file or the key, its value and what is accepted.
    pub fn load(flags: &KeyFlags<Self>, variables: &Variables) -> Result<Self, ConfigurationError> {
        let mut config: Self = load(flags, variables, &[])?;
        config.token = variables.get("token").map(Secret::new);
        if let Some(value) = variables.get("skip_device_proof") {
            let refused = || ConfigurationError::value("skip_device_proof", &value, "1, 0, true, false, yes or no");
            config.skip_device_proof = boolean(value).ok_or_else(refused)?;
        }
        Ok(config)
    }

    /// Token, certificates and whom to trust.
    pub fn credentials(&self) -> CredentialFiles {
        CredentialFiles {
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            insecure_token: self.insecure_token,
            tls_ca: self.tls_ca.clone(),
            tls_certificate: self.tls_certificate.clone(),
            tls_key: self.tls_key.clone(),
            tls_domain: self.tls_domain.clone(),
        }
    }

    /// Returns the settings of the log and of the spans.
    pub fn telemetry(&self) -> Settings {
        Settings {
            log: self.log.clone(),
            log_format: self.log_format,
            otlp: self.otlp.clone(),
            trace_sample: self.trace_sample,
        }
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    if url.parse::<Uri>().is_ok_and(|uri| is_server(&uri)) {
        Ok(url)
    } else {
        Err(D::Error::custom("a URL, http://HOST:PORT or https://HOST:PORT"))
    }
}

fn is_server(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn display_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err(D::Error::custom("1 to 100 characters"));
    }
    Ok(name)
}

/// `None` for `auto`: what suits the device.
fn evaluation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Evaluation>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = Evaluation::find(&name);
    if found.is_none() && name != "auto" {
        return Err(D::Error::custom("one of auto, patch, dense, fused"));
    }
    Ok(found)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    let wait = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= MAX_WAIT);
    wait.ok_or_else(|| D::Error::custom(format!("seconds, from 0 to {MAX_WAIT}")))
}

/// The host's name; `worker` where it has none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests;
