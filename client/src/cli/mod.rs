//! The command line on top of the client library.
//!
//! ```text
//! args      what can be typed            commands/   one file per group of subcommands
//! spec_file a spec and its files         upload      the files on their way to a coordinator
//! failure   errors and exit codes        local/      `run`: coordinator and workers as processes of its own
//! output    stdout that may close        progress/   a sweep's live view, with rate and time left
//! interrupt Ctrl-C                       top/        a whole cluster on a full screen
//! ink       words with a tone            tables      text tables; summary: those that close `run` and `fetch`
//! ```
//! Results go to stdout, everything else to stderr. Absent: configuration files (the programs it talks to have them).

mod args;
mod commands;
mod failure;
mod interrupt;
mod local;
mod output;
mod progress;
mod spec_file;
mod styled;
mod summary;
mod tables;
mod top;
mod upload;

pub(crate) use args::Cli;
pub(crate) use failure::{Failure, conclude};

use args::Command;
use interrupt::Interrupt;
use nadgrid_client::Address;
use nadgrid_telemetry::{Span, SpanKind, TraceContext, Tracer};

/// Does what the command line says, until it is done or interrupted.
pub(crate) async fn dispatch(cli: Cli, tracer: &Tracer) -> Result<(), Failure> {
    for warning in args::misspelt_variables(std::env::vars_os()) {
        output::note(&format!("warning: {warning}"));
    }
    let mut span = tracer.is_on().then(|| tracer.span(cli.span_name(), SpanKind::Client, None));
    let outcome = perform(cli, span.as_ref().map(Span::context)).await;
    if let (Some(span), Err(failure)) = (&mut span, &outcome) {
        span.fail(failure.to_string());
    }
    outcome
}

async fn perform(cli: Cli, trace: Option<TraceContext>) -> Result<(), Failure> {
    let interrupt = Interrupt::install().map_err(|e| Failure::other(format!("cannot listen for signals: {e}")))?;
    let remote = cli.coordinator.is_some();
    // What needs no coordinator needs no credentials either.
    let needs_none = match &cli.command {
        Command::Run(_) | Command::Compare(_) | Command::Plot(_) | Command::Token { .. } => true,
        Command::Init(_) | Command::Completions { .. } => true,
        Command::Doctor(_) => !remote,
        _ => false,
    };
    let telemetry = cli.telemetry_arguments();
    let at = if needs_none { Address::default() } else { cli.address(std::env::var(args::TOKEN).ok())? };
    let at = Address { trace, ..at };
    match cli.command {
        Command::Init(args) => interrupt.guard(commands::init(args)).await,
        Command::Completions { shell } => interrupt.guard(commands::completions(shell)).await,
        Command::Doctor(args) => interrupt.guard(commands::doctor(remote.then_some(at), args)).await,
        Command::Top(args) => interrupt.guard(top::top(at, args)).await,
        Command::Plan(args) => interrupt.guard(commands::plan(remote.then_some(at), args)).await,
        Command::Submit(args) => interrupt.guard(commands::submit(at, args)).await,
        Command::List(args) => interrupt.guard(commands::list(at, args)).await,
        Command::Status(args) => interrupt.guard(commands::status(at, args)).await,
        Command::Watch(args) => interrupt.guard(commands::watch(at, args)).await,
        Command::Cancel(args) => interrupt.guard(commands::cancel(at, args)).await,
        Command::Pause(args) => interrupt.guard(commands::pause(at, args)).await,
        Command::Resume(args) => interrupt.guard(commands::resume(at, args)).await,
        Command::Explain(args) => interrupt.guard(commands::explain(at, args)).await,
        Command::Verify(args) => interrupt.guard(commands::verify(at, args)).await,
        Command::Fetch(args) => interrupt.guard(commands::fetch(at, args)).await,
        Command::Compare(args) => interrupt.guard(commands::compare(args)).await,
        Command::Plot(args) => interrupt.guard(commands::plot(args)).await,
        Command::Workers(args) => interrupt.guard(commands::workers(at, args)).await,
        Command::Token { command } => interrupt.guard(commands::token(command)).await,
        // It has processes to end, so it listens for itself.
        Command::Run(args) => commands::run(args, telemetry, trace, &interrupt).await,
    }
}
