//! The flags of a program's keys.

use crate::{Configuration, ConfigurationKey};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, Id};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;

/// The flags that a command line gave: `--config FILE`, and one for each key of a configuration.
#[derive(Clone, Debug)]
pub struct KeyFlags<C> {
    /// The configuration file.
    pub file: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
    configuration: PhantomData<C>,
}

impl<C> Default for KeyFlags<C> {
    fn default() -> Self {
        Self { file: None, values: BTreeMap::new(), configuration: PhantomData }
    }
}

impl<C> KeyFlags<C> {
    /// Sets a key, as if its flag were given.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.values.insert(key, value.into());
        self
    }

    /// The flags that were given, by key.
    pub fn values(&self) -> &BTreeMap<&'static str, String> {
        &self.values
    }
}

fn argument(key: &ConfigurationKey) -> Arg {
    let default = if key.default.is_empty() { String::new() } else { format!(" [default: {}]", key.default) };
    // clap takes names that live as long as the program.
    let flag: &'static str = key.flag().leak();
    let argument = Arg::new(key.name).long(flag).help(format!("{}{default}", key.meaning));
    if key.value_name.is_empty() {
        argument.action(ArgAction::SetTrue)
    } else {
        argument.value_name(key.value_name).value_parser(key.parse_flag)
    }
}

impl<C: Configuration> Args for KeyFlags<C> {
    fn group_id() -> Option<Id> {
        None
    }

    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("FILE").help("Configuration file (TOML)");
        let file = file.value_parser(clap::value_parser!(PathBuf));
        command.arg(file).args(C::keys().iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Configuration> FromArgMatches for KeyFlags<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self { file: matches.get_one("config").cloned(), ..Self::default() };
        for key in C::keys() {
            let value = if key.value_name.is_empty() {
                matches.get_flag(key.name).then(|| "true".to_owned())
            } else {
                matches.get_one::<String>(key.name).cloned()
            };
            flags.values.extend(value.map(|value| (key.name, value)));
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
