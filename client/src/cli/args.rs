//! The command line: arguments and their help. Every flag has a variable of the same name, `NADGRID_...`.

use super::Failure;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use nadgrid_client::access::{CredentialFiles, Secret};
use nadgrid_client::{Address, Error};
use nadgrid_configuration::{PREFIX, Variables};
use nadgrid_core::scheduler::FairShare;
use nadgrid_core::spec::Experiment;
use nadgrid_core::text::nearest;
use nadgrid_telemetry::Tracer;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// The address where a coordinator listens by default.
const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7400";

/// The variable that may hold a token; a flag would show it to everybody on the machine.
pub(crate) const TOKEN: &str = "NADGRID_TOKEN";

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    failed: a file, a figure, a damaged payload, an unknown sweep, a problem that doctor found
  2    usage error or invalid spec, including the files it names
  3    the coordinator cannot be reached
  4    the sweep failed, is incomplete or was cancelled
  5    a verified block differs from its committed result
  6    access denied: no token, or one without permission
  130  interrupted

Every flag can also be set by an environment variable, for example NADGRID_COORDINATOR, NADGRID_OUT, NADGRID_JSON=1.
The token comes from --token-file or from NADGRID_TOKEN.
Results go to stdout, progress and errors to stderr. NO_COLOR=1 turns colours off.";

const JSON_HELP: &str = "\
With --json every change is a line of JSON on stdout: {\"event\": \"sweep\", ...} has the keys of `status --json`, and in
`progress` members, members_done, members_in_flight, members_per_second, seconds_left (null while unknown) and at_least.";

const RUN_HELP: &str = "\
With --json every change is a line of JSON on stdout: {\"event\": \"sweep\", ...} as in `watch --json`. The last one is
{\"event\": \"summary\", ...} with out, slots, jobs, notes and record, once the files are written.";

const TOP_HELP: &str = "\
Keys: arrows or j, k select; Tab switches between sweeps and workers; p pauses, r resumes, c cancels the sweep, each after a
question; ? shows the keys; q quits. If stdout is not a terminal, or with --once, the tables are printed once.";

const DOCTOR_HELP: &str = "\
Each line is ok, a warning (it works, with limitations) or a problem (it will not work), with the next step. With --coordinator,
that coordinator is checked too: whether it answers, its version, its clock, and what it permits. The exit code is 1 if there
is a problem.";

const COMPLETIONS_HELP: &str = "\
  bash  nadgrid completions bash > ~/.local/share/bash-completion/completions/nadgrid
  zsh   nadgrid completions zsh > DIR/_nadgrid, where DIR is in $fpath
  fish  nadgrid completions fish > ~/.config/fish/completions/nadgrid.fish";

/// Measures neural anisotropy directions of neural-network architectures, on this machine or on a cluster.
#[derive(Debug, Parser)]
#[command(name = "nadgrid", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// The coordinator's address [default: http://127.0.0.1:7400]
    #[arg(long, global = true, env = "NADGRID_COORDINATOR", value_name = "URL", hide_env_values = true)]
    pub(crate) coordinator: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The subcommand's name.
    #[arg(skip)]
    name: String,
}

/// The credentials for a coordinator, and the authorities to trust.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// File with the token
    #[arg(long, global = true, env = "NADGRID_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
    /// Certificate authorities to trust for https://, instead of the system's (PEM)
    #[arg(long, global = true, env = "NADGRID_TLS_CA", value_name = "FILE", hide_env_values = true)]
    tls_ca: Option<PathBuf>,
    /// Client certificate, if the coordinator requires one (PEM)
    #[arg(long, global = true, env = "NADGRID_TLS_CERTIFICATE", value_name = "FILE", hide_env_values = true)]
    tls_certificate: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, global = true, env = "NADGRID_TLS_KEY", value_name = "FILE", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// Host name in the coordinator's certificate [default: that of the address]
    #[arg(long, global = true, env = "NADGRID_TLS_DOMAIN", value_name = "NAME", hide_env_values = true)]
    tls_domain: Option<String>,
    /// Allow sending the token to another machine over unencrypted http
    #[arg(long, global = true, env = "NADGRID_INSECURE_TOKEN", hide_env_values = true)]
    insecure_token: bool,
}

/// The export of spans, also of the programs that `run` starts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Traces")]
struct TelemetryArgs {
    /// Collector to send spans to, OTLP over gRPC, for example http://127.0.0.1:4317
    #[arg(long, global = true, env = "NADGRID_OTLP", value_name = "URL")]
    otlp: Option<String>,
    /// Fraction of traces to record, from 0 to 1 [default: 1]
    #[arg(long, global = true, env = "NADGRID_TRACE_SAMPLE", value_name = "X")]
    trace_sample: Option<f64>,
}

impl Cli {
    /// Reads the command line, and ends the program if it is invalid or asks for help.
    pub(crate) fn read() -> Self {
        let matches = with_booleans(Self::command()).get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.name = matches.subcommand_name().unwrap_or_default().to_owned();
        cli
    }

    /// Returns the name of the span of the whole command.
    pub(crate) fn span_name(&self) -> String {
        format!("nadgrid {}", self.name)
    }

    /// Starts the tracer of this command.
    pub(crate) fn tracer(&self) -> Result<Tracer, Failure> {
        let TelemetryArgs { otlp, trace_sample } = &self.telemetry;
        let started = Tracer::start("nadgrid", otlp.as_deref(), trace_sample.unwrap_or(1.0));
        started.map_err(|error| Failure::Usage(error.to_string()))
    }

    /// Returns the same settings as arguments for programs that this one starts.
    pub(crate) fn telemetry_arguments(&self) -> Vec<String> {
        let TelemetryArgs { otlp, trace_sample } = &self.telemetry;
        let otlp = otlp.iter().map(|url| format!("--otlp={url}"));
        otlp.chain(trace_sample.iter().map(|share| format!("--trace-sample={share}"))).collect()
    }

    /// Returns the coordinator's address, given or default, with the credentials. `token` is the variable's value.
    pub(crate) fn address(&self, token: Option<String>) -> Result<Address, Error> {
        let access = &self.access;
        let files = CredentialFiles {
            token: token.map(Secret::new),
            token_file: access.token_file.clone(),
            insecure_token: access.insecure_token,
            tls_ca: access.tls_ca.clone(),
            tls_certificate: access.tls_certificate.clone(),
            tls_key: access.tls_key.clone(),
            tls_domain: access.tls_domain.clone(),
        };
        let url = self.coordinator.clone().unwrap_or_else(|| DEFAULT_COORDINATOR.to_owned());
        Ok(Address { url, credentials: files.read()?, trace: None })
    }
}

/// The variables that stand for flags. They are meant for this command, not for programs that it starts.
pub(crate) fn variables() -> Vec<String> {
    fn collect(command: &clap::Command, into: &mut BTreeSet<String>) {
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        into.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|subcommand| collect(subcommand, into));
    }
    let mut variables = BTreeSet::from([TOKEN.to_owned()]);
    collect(&Cli::command(), &mut variables);
    variables.into_iter().collect()
}

/// A warning for each variable that is nearly one of this command's.
pub(crate) fn misspelt_variables(all: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<String> {
    let own: Vec<String> = variables().iter().map(|name| name.replacen(PREFIX, "", 1).to_lowercase()).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    Variables::read(all, &own).warnings().to_vec()
}

/// The command, the variables of whose switches take 1, yes and true alike.
fn with_booleans(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| match argument.get_action() {
        ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
        _ => argument,
    });
    command.mut_subcommands(with_booleans)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a spec to start from, with every key explained
    Init(InitArgs),
    /// Check this machine and, with --coordinator, a coordinator
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Compute a sweep on this machine: starts a coordinator and workers, and stops them afterwards
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Estimate a sweep's work and time without running it: on the coordinator's workers, or on this machine
    Plan(PlanArgs),
    /// Submit a sweep and print its id
    Submit(SubmitArgs),
    /// List the newest sweeps
    List(ListArgs),
    /// Show one sweep
    Status(SweepArgs),
    /// Follow a sweep until it ends
    #[command(after_help = JSON_HELP)]
    Watch(WatchArgs),
    /// Watch a whole cluster: its sweeps and workers, with keys to pause, resume and cancel
    #[command(after_help = TOP_HELP)]
    Top(TopArgs),
    /// Cancel a sweep
    Cancel(SweepArgs),
    /// Pause a sweep: running shards finish, no new ones start
    Pause(SweepArgs),
    /// Resume a paused sweep
    Resume(SweepArgs),
    /// Show the state of a sweep, a job or a block, and why it does not run
    Explain(ExplainArgs),
    /// Recompute random blocks of a complete sweep and compare them bit for bit
    Verify(VerifyArgs),
    /// Download the files of a complete sweep and draw its figures
    Fetch(FetchArgs),
    /// Compare two sets of NADs, subspace by subspace
    Compare(CompareArgs),
    /// Draw pictures of a result folder: maps, curves, spectra, single NADs
    Plot(PlotArgs),
    /// List the coordinator's workers
    Workers(WorkersArgs),
    /// Make tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Print a shell script that completes commands and flags
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it once, with its entry for the coordinator's token file
    New(NewTokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewTokenArgs {
    /// Name of the holder, who owns the sweeps submitted with the token
    #[arg(value_parser = holder)]
    pub(crate) name: String,
    /// Role of the token
    #[arg(long, env = "NADGRID_ROLE", value_enum)]
    pub(crate) role: TokenRole,
    /// Days until the token expires [default: never]
    #[arg(long, env = "NADGRID_DAYS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: Option<u32>,
}

/// The role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// Submit, follow and fetch sweeps
    User,
    /// Compute shards
    Worker,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// The spec, a TOML file; `-` reads standard input. Relative paths in it are resolved against its own folder first, then
    /// the current one
    #[arg(value_name = "SPEC")]
    pub(crate) file: PathBuf,
    /// Set a key of the spec, for example `--set nads.networks=256` or `--set cifar10.path=DIR`; repeatable
    #[arg(long, env = "NADGRID_SET", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long, env = "NADGRID_JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PatienceArgs {
    /// Seconds to keep retrying while the coordinator is unreachable
    #[arg(long, env = "NADGRID_PATIENCE", value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Idempotency key: submitting again with the same key returns the same sweep [default: a new key]
    #[arg(long, env = "NADGRID_KEY", value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) share: ShareArgs,
    /// Follow the sweep until it ends
    #[arg(long, env = "NADGRID_WATCH")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Number of sweeps to list at most
    #[arg(long, env = "NADGRID_LIMIT", value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The sweep's id, as `submit` printed it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// SWEEP, SWEEP/JOB or SWEEP/JOB/BLOCK; a job is its index in `nadgrid status`, from 0, or its name, for example nads/lenet
    #[arg(value_name = "TASK")]
    pub(crate) task: String,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The sweep's id, as `submit` printed it
    pub(crate) id: String,
    /// Number of blocks to draw; the shards that hold them are recomputed
    #[arg(long, env = "NADGRID_SAMPLE", value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) sample: u32,
    /// The same seed draws the same blocks [default: a new one]
    #[arg(long, env = "NADGRID_SEED", value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// A sweep's claim to the slots that it shares with others.
#[derive(Debug, Args)]
pub(crate) struct ShareArgs {
    /// Priority from -100 to 100; sweeps of a higher priority go first
    #[arg(long, env = "NADGRID_PRIORITY", value_name = "N", default_value_t = 0, allow_hyphen_values = true,
          value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub(crate) priority: i32,
    /// Weight from 0.01 to 100; sweeps of equal priority share the slots in proportion
    #[arg(long, env = "NADGRID_WEIGHT", value_name = "X", default_value_t = 1.0)]
    pub(crate) weight: f64,
}

impl ShareArgs {
    pub(crate) fn share(&self) -> FairShare {
        FairShare { priority: self.priority, weight: self.weight }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The sweep's id, as `submit` printed it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// The sweep's id, as `submit` printed it
    pub(crate) id: String,
    /// The folder to write to; created if it does not exist
    #[arg(long, env = "NADGRID_OUT", value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// The folder to write to; created if it does not exist
    #[arg(long, env = "NADGRID_OUT", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Workers to start; they share this machine's cores
    #[arg(long, env = "NADGRID_WORKERS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) workers: u32,
    /// Device of the workers: auto, cpu, cuda or cuda:N
    #[arg(long, env = "NADGRID_DEVICE", value_name = "DEVICE", default_value = "auto", value_parser = device)]
    pub(crate) device: String,
    /// Keep the coordinator's state and all logs, and print where they are
    #[arg(long, env = "NADGRID_KEEP_STATE")]
    pub(crate) keep_state: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to write it; `-` writes to stdout
    #[arg(default_value = "sweep.toml")]
    pub(crate) file: PathBuf,
    /// An experiment; may be given again [default: nads]
    #[arg(long, env = "NADGRID_EXPERIMENT", value_name = "EXPERIMENT", value_delimiter = ',', value_parser = experiment)]
    pub(crate) experiment: Vec<Experiment>,
    /// An architecture; may be given again [default: lenet]
    #[arg(long, env = "NADGRID_ARCHITECTURE", value_name = "NAME", value_delimiter = ',', value_parser = architecture)]
    pub(crate) architecture: Vec<String>,
    /// Replace the file if it is there
    #[arg(long, env = "NADGRID_FORCE")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print the tables once, even on a terminal
    #[arg(long, env = "NADGRID_ONCE")]
    pub(crate) once: bool,
    /// Print one JSON document
    #[arg(long, env = "NADGRID_JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A folder `DIR/nads/ARCHITECTURE`, or a .npy file whose rows are NADs
    pub(crate) a: PathBuf,
    /// The NADs to compare with, given in the same way
    pub(crate) b: PathBuf,
    /// Number of networks behind A, if there is no sweep.json; singular values are compared only if both are known
    #[arg(long, env = "NADGRID_NETWORKS_A", value_name = "N")]
    pub(crate) networks_a: Option<u64>,
    /// Number of networks behind B
    #[arg(long, env = "NADGRID_NETWORKS_B", value_name = "N")]
    pub(crate) networks_b: Option<u64>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArgs {
    /// A result folder, as `run` and `fetch` fill it
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The folder to write to; created if it does not exist [default: DIR]
    #[arg(long, env = "NADGRID_OUT", value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Draw only this picture of --list, or one NAD as `nads/lenet/nad_12`, or two architectures as
    /// `nads/lenet_beside_vgg11`; repeatable [default: all of --list]
    #[arg(long, env = "NADGRID_ONLY", value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Background to draw for; the names of dark pictures end in _dark
    #[arg(long = "theme", env = "NADGRID_THEME", value_enum, default_value_t = Paper::Light)]
    pub(crate) paper: Paper,
    /// File formats to write for each picture
    #[arg(long, env = "NADGRID_FORMAT", value_enum, default_value_t = PictureFormat::Both)]
    pub(crate) format: PictureFormat,
    /// List the pictures of the folder without drawing them
    #[arg(long, env = "NADGRID_LIST")]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// The background that a picture is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Paper {
    /// White paper
    Light,
    /// Dark pages
    Dark,
}

/// The file formats of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PictureFormat {
    /// A vector graphic
    Svg,
    /// Pixels, two to a unit of the SVG
    Png,
    /// One of each
    Both,
}

#[derive(Debug, Args)]
pub(crate) struct WorkersArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

fn holder(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && !text.contains(['"', '\\']) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 printable ASCII characters without spaces and quotes".into())
    }
}

fn experiment(text: &str) -> Result<Experiment, String> {
    let all = Experiment::ALL.map(Experiment::as_str);
    Experiment::find(text).ok_or_else(|| format!("expected {}{}", all.join(", "), meant(text, all)))
}

fn architecture(text: &str) -> Result<String, String> {
    let known: Vec<&str> = nadgrid_core::architecture::names().collect();
    let unknown = || format!("expected {}{}", known.join(", "), meant(text, known.iter().copied()));
    if known.contains(&text) { Ok(text.to_owned()) } else { Err(unknown()) }
}

fn meant<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(text, known).map_or(String::new(), |name| format!("; did you mean {name}?"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, for example nads.networks=256")?;
    let key = key.trim();
    let value = value.trim();
    if key.split('.').any(str::is_empty) {
        return Err(format!("{key:?} is no key; keys look like name or nads.networks"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn device(text: &str) -> Result<String, String> {
    let numbered = text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u16>().is_ok());
    let known = matches!(text, "auto" | "cpu" | "cuda") || numbered;
    if known { Ok(text.to_owned()) } else { Err("expected auto, cpu, cuda or cuda:N".into()) }
}

#[cfg(test)]
mod tests;
