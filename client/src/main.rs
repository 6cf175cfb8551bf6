//! The `nadgrid` command. It reads the command line and turns what happened into an exit code; the rest is in [`cli`].

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Cli::read();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let tracer = match arguments.tracer() {
        Ok(tracer) => tracer,
        Err(failure) => return cli::conclude(Err(failure)),
    };
    let outcome = runtime.block_on(cli::dispatch(arguments, &tracer));
    // A picture that is still being drawn after Ctrl-C is not waited for.
    runtime.shutdown_background();
    tracer.shutdown();
    cli::conclude(outcome)
}
