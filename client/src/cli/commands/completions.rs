//! `nadgrid completions`: a script for a shell.

use crate::cli::{Cli, Failure, output};
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints the script.
pub(crate) async fn completions(shell: Shell) -> Result<(), Failure> {
    output::print(script(shell)?.trim_end())
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nadgrid", &mut bytes);
    String::from_utf8(bytes).map_err(Failure::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn every_shell_knows_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("keep-state"), "{shell}");
        }
    }

    #[test]
    fn bash_reads_its_script() {
        let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        bash.stdin.take().unwrap().write_all(script(Shell::Bash).unwrap().as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
