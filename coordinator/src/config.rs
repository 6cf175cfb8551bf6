//! The coordinator's configuration: a file, then `NADGRID_...` variables, then flags.
//!
//! A key is written once, in the table below: the file, the variables, the flags, `--help` and docs/configuration.md are made
//! from it. Deliberately absent: how the layers are put together, which is the same for every program (`nadgrid-configuration`).

use crate::access::TlsFiles;
use crate::artifacts::{ArtifactsUrl, PresignSettings};
use crate::journal::JournalUrl;
use crate::limits::{Limits, OutOfRange};
use clap::Parser;
use nadgrid_configuration::{ConfigurationError, KeyFlags, Range, Variables, configuration, load};
use nadgrid_core::cost::Sizing;
use nadgrid_core::scheduler::Settings;
use nadgrid_telemetry::{self as telemetry, LogFormat};
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;
use url::Url;

/// The range of most durations.
const DURATION: Range = Range::seconds(0.05, 86_400.0);

configuration! {
    /// The configuration in force.
    pub struct Config {
        /// Folder of the journal and the artifacts; created if need be.
        data: PathBuf, shown("nadgrid-data", "nadgrid-data".into()), "DIR", [any];
        /// Where the journal is: sqlite:PATH or postgres://USER@HOST/DATABASE.
        journal: JournalUrl as String, shown("journal.sqlite in the data folder", JournalUrl::default()), "URL", [any];
        /// Seconds for which a journal that cannot be written to is tried again.
        journal_patience: f64, default(30.0), "SECONDS", [Range::seconds(0.0, 3600.0)];
        /// Where the artifacts are: file:///PATH or s3://BUCKET/PREFIX.
        artifacts: ArtifactsUrl as String, shown("the folder artifacts in the data folder", ArtifactsUrl::default()), "URL", [any];
        /// Whether workers and clients reach artifacts in S3 themselves, by presigned requests.
        artifacts_presign: bool, default(true), "BOOL", [any];
        /// Address of the S3 server as workers and clients know it, where that is another than the coordinator's.
        artifacts_public_endpoint: Option<String> as String, absent("that of AWS_ENDPOINT"), "URL", [any];
        /// Seconds after which an artifact that nothing refers to is set aside, and after as many more removed.
        orphan_age: f64, default(3600.0), "SECONDS", [Range::seconds(1.0, 31_536_000.0)];
        /// Take artifacts that belong to another journal, or to an older copy of this one.
        adopt_artifacts: bool, switch, "", [any];
        /// Address and port to listen on; port 0 takes a free one.
        listen: SocketAddr as String, default(SocketAddr::from(([127, 0, 0, 1], 7400))), "ADDRESS", [any];
        /// Seconds after which a silent worker loses its leases.
        lease_ttl: f64, default(15.0), "SECONDS", [DURATION];
        /// Seconds between a worker's heartbeats; at most half of lease_ttl.
        heartbeat_interval: Option<f64> as f64, absent("a fifth of lease_ttl"), "SECONDS", [DURATION];
        /// Seconds a shard should take.
        target_shard_seconds: f64, default(20.0), "SECONDS", [DURATION];
        /// Most blocks in a shard.
        most_shard_blocks: u64, default(1_u64 << 20), "BLOCKS", [Range::of(1.0, f64::INFINITY)];
        /// Reductions that run at once.
        reducers: usize, default(1), "N", [Range::of(1.0, 64.0)];
        /// Workers that a shard may fail on before it is split, and quarantined when it is one block.
        attempts: u32, default(Settings::default().most_attempts), "N", [Range::of(1.0, 100.0)];
        /// A shard that takes this many times as long as expected is given to a second, idle worker too; 0 for never.
        speculate_after: f64, default(Settings::default().speculate_after), "TIMES", [Range::of(1.0, 1e6).or_zero_for("never")];
        /// Seconds without progress after which a worker's slot is taken to hang and its shard goes elsewhere; longer where a block
        /// takes long; 0 for never.
        stall_after: f64, default(Settings::default().stall_after_ms as f64 / 1e3), "SECONDS",
            [Range::seconds(1.0, 86_400.0).or_zero_for("never")];
        /// Numerics classes of workers that are admitted, with commas; `*` stands for anything, for example
        /// `cpu-portable/*, cuda-sm_90-*`. The first result of a sweep decides its class, so name yours where others' workers join.
        classes: String, shown("all", String::new()), "PATTERNS", [any];
        /// Uploads that are received at once; others wait.
        uploads: usize, default(16), "N", [Range::of(1.0, 1024.0)];
        /// Certificate, or chain of them, to serve TLS with (PEM).
        tls_certificate: Option<PathBuf> as PathBuf, absent("none, plain http"), "FILE", [any];
        /// Key of the certificate (PEM).
        tls_key: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// Authority that clients and workers must have certificates of, for mutual TLS (PEM).
        tls_client_ca: Option<PathBuf> as PathBuf, absent(""), "FILE", [any];
        /// File of tokens (TOML); `nadgrid token new` makes entries for it.
        tokens: Option<PathBuf> as PathBuf, absent("none, whoever connects may do everything"), "FILE", [any];
        /// Listen beyond this machine without tokens or without TLS.
        insecure: bool, switch, "", [any];
        /// What is logged: a level, or target=level pairs.
        log: String, default(telemetry::Settings::default().log), "FILTER", [any];
        /// The form of log lines: text, or json for an object a line.
        log_format: LogFormat as String, shown("text", LogFormat::Text), "FORMAT", [any];
        /// Collector that spans are sent to, OTLP over gRPC.
        otlp: Option<String> as String, absent("none"), "URL", [any];
        /// Share of traces that are recorded, from 0 to 1.
        trace_sample: f64, default(1.0), "X", [any];
    } besides {
        /// How much of everything there may be.
        limits: Limits;
    } variables {}
}

/// Command line of `nadgrid-coordinator`. Every option is also a key of the file and a `NADGRID_...` variable.
#[derive(Debug, Parser)]
#[command(name = "nadgrid-coordinator", version, about = "Shards sweeps across workers and reduces what they yield")]
pub struct CoordinatorFlags {
    #[command(flatten)]
    keys: KeyFlags<Config>,
    /// Change a limit; may be given again. docs/limits.md has them all.
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<String>,
    /// End when standard input closes, so as not to outlive the program that started this one.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// A configuration that is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file or a value is refused; the message names the key.
    #[error("configuration: {0}")]
    Key(#[from] ConfigurationError),
    /// A URL that is refused. It may hold a password, so it is not repeated.
    #[error("configuration: {key}: {why}")]
    Url {
        /// The key whose URL is refused.
        key: &'static str,
        /// The reason why it is refused, and what would be accepted.
        why: String,
    },
    /// A limit out of range.
    #[error("configuration: {0}")]
    Limit(#[from] OutOfRange),
    /// A limit that is not written as one.
    #[error("configuration: limit {0:?}: NAME=VALUE, with a name of docs/limits.md")]
    LimitForm(String),
    /// A setting that would leave the coordinator open, or that lacks its other half.
    #[error("configuration: {0}")]
    Open(String),
}

impl Config {
    /// The configuration from file, variables and flags, later ones winning.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, its value and what is accepted.
    pub fn load(flags: &CoordinatorFlags, variables: &Variables) -> Result<Self, ConfigError> {
        let of_variable = variables.get("limits").unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty());
        let pairs = of_variable.chain(flags.limits.iter().map(String::as_str));
        let limits = pairs.map(limit).collect::<Result<Vec<_>, _>>()?;
        let config: Self = load(&flags.keys, variables, &limits)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.journal.check().map_err(|error| refused("journal", &error))?;
        self.artifacts.check().map_err(|error| refused("artifacts", &error))?;
        self.presign()?;
        let heartbeat = self.heartbeat_seconds();
        ConfigurationError::require("heartbeat_interval", &heartbeat, &DURATION)?;
        if heartbeat * 2.0 > self.lease_ttl {
            let accepted = "at most half of lease_ttl";
            return Err(ConfigurationError::value("heartbeat_interval", &heartbeat, accepted).into());
        }
        self.limits.check()?;
        self.tls()?;
        let open = self.exposed();
        if self.insecure || open.is_empty() {
            return Ok(());
        }
        let remedy = "set them (docs/security.md has the commands), listen on 127.0.0.1, or set insecure = true";
        Err(ConfigError::Open(format!("listen = {} reaches beyond this machine {open}; {remedy}", self.listen)))
    }

    /// Returns the settings of presigned requests, by which others reach the artifacts themselves.
    ///
    /// # Errors
    /// [`ConfigError::Url`] when the public endpoint is no address of a server.
    pub(crate) fn presign(&self) -> Result<PresignSettings, ConfigError> {
        let accepted = "an address like https://s3.example:9000, without a user or parameters";
        let refused = || ConfigError::Url { key: "artifacts_public_endpoint", why: format!("accepted: {accepted}") };
        let public_endpoint = match self.artifacts_public_endpoint.as_deref().filter(|url| !url.is_empty()) {
            None => None,
            Some(url) => Some(Url::parse(url).ok().filter(is_server).ok_or_else(refused)?),
        };
        Ok(PresignSettings { is_on: self.artifacts_presign, public_endpoint })
    }

    /// The certificates to serve with; `None` for plain http.
    ///
    /// # Errors
    /// [`ConfigError::Open`] when one setting lacks its other.
    pub(crate) fn tls(&self) -> Result<Option<TlsFiles>, ConfigError> {
        match (&self.tls_certificate, &self.tls_key, &self.tls_client_ca) {
            (Some(certificate), Some(key), client_ca) => {
                Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca: client_ca.clone() }))
            }
            (Some(_), None, _) => lacks("tls_certificate", "tls_key"),
            (None, Some(_), _) => lacks("tls_key", "tls_certificate"),
            (None, None, Some(_)) => lacks("tls_client_ca", "tls_certificate"),
            (None, None, None) => Ok(None),
        }
    }

    /// Describes the protection that is missing for the address to listen on; empty when nothing is missing.
    pub fn exposed(&self) -> &'static str {
        match (self.tokens.is_some(), self.tls_certificate.is_some()) {
            _ if self.listen.ip().is_loopback() => "",
            (true, true) => "",
            (true, false) => "without TLS (tls_certificate, tls_key), so that tokens can be read on their way",
            (false, true) => "without tokens (tokens), so that whoever reaches it may do everything",
            (false, false) => "without tokens (tokens) and without TLS (tls_certificate, tls_key)",
        }
    }

    /// Seconds between heartbeats: five fit in a lease unless configured otherwise.
    pub fn heartbeat_seconds(&self) -> f64 {
        self.heartbeat_interval.unwrap_or(self.lease_ttl / 5.0)
    }

    /// Returns the settings of the log and of the spans.
    pub fn telemetry(&self) -> telemetry::Settings {
        telemetry::Settings {
            log: self.log.clone(),
            log_format: self.log_format,
            otlp: self.otlp.clone(),
            trace_sample: self.trace_sample,
        }
    }

    /// The scheduler's parameters.
    pub fn settings(&self) -> Settings {
        let sizing = Sizing { target_seconds: self.target_shard_seconds, most_blocks: self.most_shard_blocks };
        Settings {
            lease_ttl_ms: (self.lease_ttl * 1e3) as u64,
            sizing,
            most_attempts: self.attempts,
            speculate_after: self.speculate_after,
            stall_after_ms: (self.stall_after * 1e3) as u64,
            most_open_sweeps: self.limits.open_sweeps,
            most_open_sweeps_each: self.limits.open_sweeps_per_user,
            most_ended_sweeps: self.limits.ended_sweeps,
            ..Settings::default()
        }
    }
}

/// Whether an address is that of a server, and of nothing on it.
fn is_server(url: &Url) -> bool {
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && url.fragment().is_none()
}

/// Path and value of a limit that is written NAME=VALUE.
fn limit(pair: &str) -> Result<(String, String), ConfigError> {
    let refused = || ConfigError::LimitForm(pair.to_owned());
    let (name, value) = pair.split_once('=').ok_or_else(refused)?;
    if !Limits::NAMES.contains(&name.trim()) {
        return Err(refused());
    }
    Ok((format!("limits.{}", name.trim()), value.trim().to_owned()))
}

fn lacks<T>(key: &str, other: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Open(format!("{key} needs {other} beside it")))
}

fn refused(key: &'static str, error: &dyn std::error::Error) -> ConfigError {
    ConfigError::Url { key, why: error.to_string() }
}

#[cfg(test)]
mod tests;
