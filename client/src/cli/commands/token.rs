//! `nadgrid token new`: a token for a person or a machine, made where it is typed.
//!
//! The coordinator learns its hash only. Deliberately absent: keeping it, here or there.

use crate::cli::args::{NewTokenArgs, TokenCommand, TokenRole};
use crate::cli::{Failure, output};
use nadgrid_client::access::Secret;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// The prefix of a token, so that it is recognised where it should not be.
const PREFIX: &str = "nadgrid_";
/// Random bytes of a token.
const BYTES: usize = 32;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Prints a token on stdout, and its entry on stderr.
pub(crate) async fn token(command: TokenCommand) -> Result<(), Failure> {
    let TokenCommand::New(args) = command;
    let token = fresh()?;
    output::note("# this entry belongs into the coordinator's file of tokens; the token itself is not shown again");
    output::note(&entry(&args, &token, SystemTime::now()));
    output::print(token.expose())
}

fn fresh() -> Result<Secret, Failure> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|e| Failure::other(format!("the system provides no random numbers: {e}")))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(format!("{PREFIX}{hex}")))
}

fn entry(args: &NewTokenArgs, token: &Secret, now: SystemTime) -> String {
    let role = match args.role {
        TokenRole::User => "user",
        TokenRole::Worker => "worker",
    };
    let mut entry = format!("[[token]]\nname = \"{}\"\nrole = \"{role}\"\nblake3 = \"{}\"", args.name, token.digest());
    if let Some(days) = args.days {
        let expires = humantime::format_rfc3339_seconds(now + days * DAY);
        let _ = write!(entry, "\nexpires = \"{expires}\"");
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_hash_and_not_the_token() {
        let token = fresh().unwrap();
        let other = fresh().unwrap();
        assert!(token != other && token.expose().len() == PREFIX.len() + 2 * BYTES);
        let args = NewTokenArgs { name: "ada".into(), role: TokenRole::User, days: Some(2) };
        let entry = entry(&args, &token, SystemTime::UNIX_EPOCH);
        assert!(entry.contains("role = \"user\"") && entry.contains("expires = \"1970-01-03T00:00:00Z\""), "{entry}");
        assert!(entry.contains(&token.digest().to_string()) && !entry.contains(token.expose()), "{entry}");
    }
}
