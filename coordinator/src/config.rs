//! The coordinator's configuration: a file, then `NADGRID_...` variables, then flags; unknown keys are errors.

use crate::access::TlsFiles;
use crate::artifacts::{ArtifactsUrl, PresignSettings};
use crate::journal::JournalUrl;
use crate::limits::{Limits, OutOfRange};
use clap::Parser;
use nadgrid_core::cost::Sizing;
use nadgrid_core::environment::{self, UnknownVariable};
use nadgrid_core::scheduler::Settings;
use nadgrid_telemetry::{self as telemetry, LogFormat};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;
use url::Url;

/// Command line of `nadgrid-coordinator`. Every option is also a key of the file and a `NADGRID_...` variable.
#[derive(Debug, Default, Parser)]
#[command(name = "nadgrid-coordinator", version, about = "Shards sweeps across workers and reduces what they yield")]
pub struct Flags {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the journal and the artifacts; created if need be. [default: nadgrid-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the journal is: sqlite:PATH or postgres://USER@HOST/DATABASE. [default: a SQLite file in the data folder]
    #[arg(long, value_name = "URL")]
    pub journal: Option<String>,
    /// Seconds for which a journal that cannot be written to is tried again. [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub journal_patience: Option<f64>,
    /// Where the artifacts are: file:///PATH or s3://BUCKET/PREFIX. [default: a folder in the data folder]
    #[arg(long, value_name = "URL")]
    pub artifacts: Option<String>,
    /// Whether workers and clients reach artifacts in S3 themselves, by presigned requests. [default: true]
    #[arg(long, value_name = "BOOL")]
    pub artifacts_presign: Option<bool>,
    /// Address of the S3 server as workers and clients know it. [default: that of AWS_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub artifacts_public_endpoint: Option<String>,
    /// Seconds after which an artifact that nothing refers to is set aside, and after as many more removed. [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    pub orphan_age: Option<f64>,
    /// Take artifacts that belong to another journal, or to an older copy of this one.
    #[arg(long)]
    pub adopt_artifacts: bool,
    /// Address and port to listen on; port 0 takes a free one. [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Seconds after which a silent worker loses its leases. [default: 15]
    #[arg(long, value_name = "SECONDS")]
    pub lease_ttl: Option<f64>,
    /// Seconds between a worker's heartbeats. [default: a fifth of the lease's]
    #[arg(long, value_name = "SECONDS")]
    pub heartbeat_interval: Option<f64>,
    /// Seconds a shard should take. [default: 20]
    #[arg(long, value_name = "SECONDS")]
    pub target_shard_seconds: Option<f64>,
    /// Most blocks in a shard. [default: 1048576]
    #[arg(long, value_name = "BLOCKS")]
    pub most_shard_blocks: Option<u64>,
    /// Reductions that run at once. [default: 1]
    #[arg(long, value_name = "N")]
    pub reducers: Option<usize>,
    /// Workers that a shard may fail on before it is split, and quarantined when it is one block. [default: 4]
    #[arg(long, value_name = "N")]
    pub attempts: Option<u32>,
    /// A shard that takes this many times as long as expected is given to a second, idle worker; 0 for never. [default: 2]
    #[arg(long, value_name = "TIMES")]
    pub copy_after: Option<f64>,
    /// Seconds without progress after which a worker's lane is taken to hang and its shard goes elsewhere; longer where a block
    /// takes long; 0 for never. [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub stall_after: Option<f64>,
    /// Numerics classes of workers that are let in, with commas; `*` stands for anything. [default: all]
    #[arg(long, value_name = "PATTERNS")]
    pub classes: Option<String>,
    /// Uploads that are received at once; others wait. [default: 16]
    #[arg(long, value_name = "N")]
    pub uploads: Option<usize>,
    /// Certificate, or chain of them, to serve TLS with (PEM). [default: none, plain http]
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authority that clients and workers must have certificates of, for mutual TLS (PEM).
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// File of tokens (TOML); `nadgrid token new` makes entries for it. [default: none, whoever connects may do everything]
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Listen beyond this machine without tokens or without TLS.
    #[arg(long)]
    pub insecure: bool,
    /// Change a limit; may be given again. docs/limits.md has them all.
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<String>,
    /// What is logged: a level, or target=level pairs. [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// What log lines look like: text or json. [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Collector that spans are sent to, OTLP over gRPC. [default: none]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Share of traces that are recorded, from 0 to 1. [default: 1]
    #[arg(long, value_name = "X")]
    pub trace_sample: Option<f64>,
    /// End when standard input closes, so as not to outlive the program that started this one.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// The configuration in force.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the journal and the artifacts.
    pub data: PathBuf,
    /// Where the journal is.
    pub journal: JournalUrl,
    /// Seconds for which a journal that cannot be written to is tried again.
    pub journal_patience: f64,
    /// Where the artifacts are.
    pub artifacts: ArtifactsUrl,
    /// Whether workers and clients reach artifacts in a bucket themselves.
    pub artifacts_presign: bool,
    /// The bucket's server as workers and clients know it.
    pub artifacts_public_endpoint: Option<String>,
    /// Seconds after which an artifact that nothing refers to is set aside, and after as many more removed.
    pub orphan_age: f64,
    /// Whether to take artifacts that belong to another journal.
    pub adopt_artifacts: bool,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Seconds after which a silent worker loses its leases.
    pub lease_ttl: f64,
    /// Seconds between a worker's heartbeats.
    pub heartbeat_interval: Option<f64>,
    /// Seconds a shard should take.
    pub target_shard_seconds: f64,
    /// Most blocks in a shard.
    pub most_shard_blocks: u64,
    /// Reductions that run at once.
    pub reducers: usize,
    /// Workers that a shard may fail on before it is given up.
    pub attempts: u32,
    /// How late a shard must be to be given to a second worker.
    pub copy_after: f64,
    /// Seconds without progress after which a lane is taken to hang.
    pub stall_after: f64,
    /// Numerics classes of workers that are let in: patterns with commas.
    pub classes: String,
    /// Uploads that are received at once.
    pub uploads: usize,
    /// Certificate to serve TLS with.
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Authority of clients and workers, for mutual TLS.
    pub tls_client_ca: Option<PathBuf>,
    /// File of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether to listen beyond this machine without tokens or without TLS.
    pub insecure: bool,
    /// How much of everything there may be.
    pub limits: Limits,
    /// What is logged: a level, or `target=level` pairs.
    pub log: String,
    /// What log lines look like.
    pub log_format: LogFormat,
    /// Collector that spans are sent to, OTLP over gRPC.
    pub otlp: Option<String>,
    /// Share of traces that are recorded, from 0 to 1.
    pub trace_sample: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "nadgrid-data".into(),
            journal: JournalUrl::default(),
            journal_patience: 30.0,
            artifacts: ArtifactsUrl::default(),
            artifacts_presign: true,
            artifacts_public_endpoint: None,
            orphan_age: 3600.0,
            adopt_artifacts: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            lease_ttl: 15.0,
            heartbeat_interval: None,
            target_shard_seconds: 20.0,
            most_shard_blocks: 1 << 20,
            reducers: 1,
            attempts: Settings::default().most_attempts,
            copy_after: Settings::default().copy_after,
            stall_after: Settings::default().stall_after_ms as f64 / 1e3,
            classes: String::new(),
            uploads: 16,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            tokens: None,
            insecure: false,
            limits: Limits::default(),
            log: telemetry::Settings::default().log,
            log_format: LogFormat::default(),
            otlp: None,
            trace_sample: 1.0,
        }
    }
}

const KEYS: &[&str] = &[
    "data",
    "journal",
    "journal_patience",
    "artifacts",
    "artifacts_presign",
    "artifacts_public_endpoint",
    "orphan_age",
    "adopt_artifacts",
    "listen",
    "lease_ttl",
    "heartbeat_interval",
    "target_shard_seconds",
    "most_shard_blocks",
    "reducers",
    "attempts",
    "copy_after",
    "stall_after",
    "classes",
    "uploads",
    "tls_certificate",
    "tls_key",
    "tls_client_ca",
    "tokens",
    "insecure",
    "limits",
    "log",
    "log_format",
    "otlp",
    "trace_sample",
];

/// A configuration that is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file or a value cannot be read; the message names the key and where it comes from.
    #[error("configuration: {0}")]
    Read(#[from] config::ConfigError),
    /// A misspelt variable.
    #[error("configuration: {0}")]
    Variable(#[from] UnknownVariable),
    /// A value out of range.
    #[error("configuration: {key} = {value}: {accepted}")]
    Value {
        /// Name of the key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A URL that is refused. It may hold a password, so it is not repeated.
    #[error("configuration: {key}: {why}")]
    Url {
        /// Name of the key.
        key: &'static str,
        /// Why, and what would be accepted.
        why: String,
    },
    /// A limit out of range.
    #[error("configuration: {0}")]
    Limit(#[from] OutOfRange),
    /// A limit that is not written as one.
    #[error("configuration: limit {0:?}: NAME=VALUE, with a name of docs/limits.md")]
    LimitForm(String),
    /// Something that would leave the coordinator open.
    #[error("configuration: {0}")]
    Open(String),
}

impl Config {
    /// The configuration from file, variables and flags, later ones winning.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, its value and what is accepted.
    pub fn load(flags: &Flags, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut own = environment::own_values(variables, &[KEYS, &["config"]].concat())?;
        let file = flags.config.clone().or_else(|| own.remove("config").map(PathBuf::from));
        own.remove("config");
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let mut limits: Vec<String> = own.remove("limits").map(split).unwrap_or_default();
        limits.extend(flags.limits.iter().cloned());
        for limit in limits {
            let Some((name, value)) = limit.split_once('=') else { return Err(ConfigError::LimitForm(limit)) };
            if !Limits::NAMES.contains(&name.trim()) {
                return Err(ConfigError::LimitForm(limit));
            }
            builder = builder.set_override(format!("limits.{}", name.trim()), value.trim())?;
        }
        for (key, value) in own {
            builder = builder.set_override(key, value)?;
        }
        builder = flags.overrides(builder)?;
        let config: Self = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let seconds = |key, value: f64| {
            let fits = value.is_finite() && (0.05..=86_400.0).contains(&value);
            require(fits, key, value, "a number of seconds from 0.05 to 86400")
        };
        self.journal.check().map_err(|error| refused("journal", &error))?;
        self.artifacts.check().map_err(|error| refused("artifacts", &error))?;
        self.presign()?;
        let waits = (0.0..=3600.0).contains(&self.journal_patience);
        require(waits, "journal_patience", self.journal_patience, "a number of seconds from 0 to 3600")?;
        let old = (1.0..=31_536_000.0).contains(&self.orphan_age);
        require(old, "orphan_age", self.orphan_age, "a number of seconds from 1 to 31536000")?;
        seconds("lease_ttl", self.lease_ttl)?;
        seconds("heartbeat_interval", self.heartbeat_seconds())?;
        seconds("target_shard_seconds", self.target_shard_seconds)?;
        let shorter = self.heartbeat_seconds() * 2.0 <= self.lease_ttl;
        require(shorter, "heartbeat_interval", self.heartbeat_seconds(), "at most half of lease_ttl")?;
        require(self.most_shard_blocks > 0, "most_shard_blocks", self.most_shard_blocks, "at least 1")?;
        require((1..=64).contains(&self.reducers), "reducers", self.reducers, "from 1 to 64")?;
        require((1..=100).contains(&self.attempts), "attempts", self.attempts, "from 1 to 100")?;
        let late = self.copy_after == 0.0 || (1.0..=1e6).contains(&self.copy_after);
        require(late, "copy_after", self.copy_after, "from 1 to 1000000, or 0 for never")?;
        let still = self.stall_after == 0.0 || (1.0..=86_400.0).contains(&self.stall_after);
        require(still, "stall_after", self.stall_after, "a number of seconds from 1 to 86400, or 0 for never")?;
        require((1..=1024).contains(&self.uploads), "uploads", self.uploads, "from 1 to 1024")?;
        self.limits.check()?;
        self.tls()?;
        let open = self.exposed();
        if self.insecure || open.is_empty() {
            return Ok(());
        }
        let remedy = "set them (docs/security.md has the commands), listen on 127.0.0.1, or say insecure = true";
        Err(ConfigError::Open(format!("listen = {} reaches beyond this machine {open}; {remedy}", self.listen)))
    }

    /// How others reach the artifacts themselves.
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
        let lacks = |key: &str, other: &str| Err(ConfigError::Open(format!("{key} needs {other} beside it")));
        match (&self.tls_certificate, &self.tls_key, &self.tls_client_ca) {
            (Some(certificate), Some(key), client_ca) => {
                let (certificate, key, client_ca) = (certificate.clone(), key.clone(), client_ca.clone());
                Ok(Some(TlsFiles { certificate, key, client_ca }))
            }
            (Some(_), None, _) => lacks("tls_certificate", "tls_key"),
            (None, Some(_), _) => lacks("tls_key", "tls_certificate"),
            (None, None, Some(_)) => lacks("tls_client_ca", "tls_certificate"),
            (None, None, None) => Ok(None),
        }
    }

    /// What protection is missing for the address to listen on, in words; empty when nothing is.
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

    /// What is logged, and where spans go.
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
            copy_after: self.copy_after,
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

fn split(pairs: String) -> Vec<String> {
    pairs.split(',').filter(|pair| !pair.trim().is_empty()).map(str::to_owned).collect()
}

fn require(holds: bool, key: &'static str, value: impl ToString, accepted: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Value { key, value: value.to_string(), accepted }) }
}

fn refused(key: &'static str, error: &dyn std::error::Error) -> ConfigError {
    ConfigError::Url { key, why: error.to_string() }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

impl Flags {
    fn overrides(&self, builder: Builder) -> Result<Builder, config::ConfigError> {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let data = text(&self.data);
        builder
            .set_override_option("data", data)?
            .set_override_option("journal", self.journal.clone())?
            .set_override_option("journal_patience", self.journal_patience)?
            .set_override_option("artifacts", self.artifacts.clone())?
            .set_override_option("artifacts_presign", self.artifacts_presign)?
            .set_override_option("artifacts_public_endpoint", self.artifacts_public_endpoint.clone())?
            .set_override_option("orphan_age", self.orphan_age)?
            .set_override_option("adopt_artifacts", self.adopt_artifacts.then_some(true))?
            .set_override_option("listen", self.listen.clone())?
            .set_override_option("lease_ttl", self.lease_ttl)?
            .set_override_option("heartbeat_interval", self.heartbeat_interval)?
            .set_override_option("target_shard_seconds", self.target_shard_seconds)?
            .set_override_option("most_shard_blocks", self.most_shard_blocks)?
            .set_override_option("reducers", self.reducers.map(|n| n as u64))?
            .set_override_option("attempts", self.attempts)?
            .set_override_option("copy_after", self.copy_after)?
            .set_override_option("stall_after", self.stall_after)?
            .set_override_option("classes", self.classes.clone())?
            .set_override_option("uploads", self.uploads.map(|n| n as u64))?
            .set_override_option("tls_certificate", text(&self.tls_certificate))?
            .set_override_option("tls_key", text(&self.tls_key))?
            .set_override_option("tls_client_ca", text(&self.tls_client_ca))?
            .set_override_option("tokens", text(&self.tokens))?
            .set_override_option("insecure", self.insecure.then_some(true))?
            .set_override_option("log", self.log.clone())?
            .set_override_option("log_format", self.log_format.clone())?
            .set_override_option("otlp", self.otlp.clone())?
            .set_override_option("trace_sample", self.trace_sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn load(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let path = written.path().to_str().unwrap();
        let args = ["nadgrid-coordinator", "--config", path].into_iter().chain(flags.iter().copied());
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(&Flags::parse_from(args), variables)
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let file = "reducers = 2\nuploads = 2\nlease_ttl = 20.0";
        let variables = [("NADGRID_UPLOADS", "3"), ("NADGRID_LEASE_TTL", "30"), ("NADGRID_DEVICE", "cpu")];
        let config = load(file, &variables, &["--lease-ttl", "40"]).unwrap();
        assert_eq!((config.reducers, config.uploads, config.lease_ttl), (2, 3, 40.0));
        assert_eq!(config.listen, Config::default().listen);
    }

    #[test]
    fn other_programs_know_every_key() {
        let unknown: Vec<_> = KEYS.iter().filter(|key| !environment::is_known(key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |file: &str, variables: &[(&str, &str)], flags: &[&str]| {
            load(file, variables, flags).unwrap_err().to_string()
        };
        assert!(said("reducer = 2", &[], &[]).contains("reducer"));
        assert!(said("reducers = 0", &[], &[]).contains("reducers = 0: from 1 to 64"));
        assert!(said("reducers = 'many'", &[], &[]).contains("reducers"));
        assert!(said("orphan_age = 0.5", &[], &[]).contains("orphan_age = 0.5"));
        assert!(said("", &[], &["--artifacts", "nfs://x"]).contains("artifacts: "));
        for url in ["s3.example:9000", "ftp://s3.example", "https://me:hunter2@s3.example", "https://s3.example/?a=b"] {
            let refused = said("", &[], &["--artifacts-public-endpoint", url]);
            assert!(refused.contains("artifacts_public_endpoint: ") && !refused.contains("hunter2"), "{refused}");
        }
        let journal = said("", &[("NADGRID_JOURNAL", "mysql://me:hunter2@db/x")], &[]);
        assert!(journal.contains("journal: ") && !journal.contains("hunter2"), "{journal}");
        let shown = format!("{:?}", load("journal = 'postgres://me:hunter2@db/x'", &[], &[]).unwrap());
        assert!(shown.contains("postgres://me@db") && !shown.contains("hunter2"), "{shown}");
        assert!(said("", &[("NADGRID_LISTN", "x")], &[]).contains("NADGRID_LISTEN"));
        assert!(said("", &[], &["--listen", "nowhere"]).contains("listen"));
        assert!(said("", &[], &["--lease-ttl", "inf"]).contains("lease_ttl"));
        assert!(said("[limits]\nsession = 3", &[], &[]).contains("session"));
        assert!(said("", &[], &["--limit", "sessions=0"]).contains("limits.sessions = 0: from 1"));
        assert!(said("", &[], &["--limit", "session=1"]).contains("session=1"));
        assert!(said("", &[("NADGRID_LIMITS", "sessions")], &[]).contains("NAME=VALUE"));
        assert!(said("tls_key = 'k'", &[], &[]).contains("tls_key needs tls_certificate"));
        assert!(said("lease_ttl = 10.0\nheartbeat_interval = 9.0", &[], &[]).contains("half of lease_ttl"));
    }

    #[test]
    fn limits_come_from_the_file_then_the_variable_then_flags() {
        let file = "[limits]\nsessions = 1\nwatchers = 1\nreads = 1";
        let variables = [("NADGRID_LIMITS", "watchers=2, reads=2")];
        let limits = load(file, &variables, &["--limit", "reads=3"]).unwrap().limits;
        assert_eq!((limits.sessions, limits.watchers, limits.reads), (1, 2, 3));
        assert_eq!(limits.connections, Limits::default().connections);
    }

    #[test]
    fn beyond_this_machine_it_wants_tokens_and_tls() {
        let (tokens, tls) = ("tokens = 't'\n", "tls_certificate = 'c'\ntls_key = 'k'\n");
        let beyond = "listen = '0.0.0.0:7400'\n";
        let said = |file: String| load(&file, &[], &[]).unwrap_err().to_string();
        assert!(said(beyond.to_owned()).contains("without tokens (tokens) and without TLS"));
        assert!(said(format!("{beyond}{tokens}")).contains("without TLS"));
        assert!(said(format!("{beyond}{tls}")).contains("without tokens"));
        assert!(load(&format!("{beyond}{tokens}{tls}"), &[], &[]).is_ok());
        let open = load(beyond, &[], &["--insecure"]).unwrap();
        assert!(open.insecure && !open.exposed().is_empty());
        assert_eq!(load("", &[], &[]).unwrap().exposed(), "");
    }
}
