//! A key of a configuration, written once.

use crate::{ConfigurationError, Variables};
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;

/// A key of a configuration: of the file, as a variable and as a flag.
#[derive(Clone, Debug)]
pub struct ConfigurationKey {
    /// The name in the file; the flag and the variable follow from it.
    pub name: &'static str,
    /// The meaning, in a sentence or two.
    pub meaning: String,
    /// The name of a value in `--help`; empty for a flag without a value.
    pub value_name: &'static str,
    /// The default in words; empty where there is none.
    pub default: String,
    /// Whether a flag's value can be one.
    pub parse_flag: fn(&str) -> Result<String, String>,
}

impl ConfigurationKey {
    /// The name of its flag, without the dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// A configuration whose keys are written in a [`configuration!`](crate::configuration).
pub trait Configuration: DeserializeOwned {
    /// Keys of the file and variables that are no flags of the same name.
    const OTHERS: &'static [&'static str];

    /// Variables that are neither flags nor keys of the file.
    const VARIABLES: &'static [&'static str];

    /// Every key that is a flag, a variable and a key of the file.
    fn keys() -> Vec<ConfigurationKey>;

    /// Requires numbers to be in their ranges.
    ///
    /// # Errors
    /// [`ConfigurationError::Value`] names the first that is not.
    fn check_ranges(&self) -> Result<(), ConfigurationError>;

    /// The names of all keys.
    fn names() -> Vec<&'static str> {
        Self::keys().iter().map(|key| key.name).chain(Self::OTHERS.iter().copied()).collect()
    }

    /// The program's own variables among all.
    fn variables(all: impl IntoIterator<Item = (OsString, OsString)>) -> Variables {
        let own: Vec<&str> =
            Self::names().into_iter().chain(Self::VARIABLES.iter().copied()).chain(["config"]).collect();
        Variables::read(all, &own)
    }
}

/// The value of a flag as it was typed, if it can be read as a `T`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_flag<T: FromStr<Err: Display>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Defines the configuration of a program:
///
/// ```text
/// configuration! {
///     /// What the struct is.
///     pub struct Name {
///         /// What the key means, as users read it.
///         key: Type, presence, "VALUE", [what it accepts];
///     }
///     besides {
///         /// What a key of the file means that is no flag.
///         key: Type;
///     }
///     variables {
///         /// What a variable means that is neither a flag nor a key; the program sets the field.
///         key: Type;
///     }
/// }
/// ```
///
/// The presence is `default(value)`, shown as it displays; `shown("words", value)`, shown in these words; `absent("words")` for an
/// `Option` that is `None` and what that means; or `switch` for a flag without a value. What a number accepts is a
/// [`Range`](crate::Range), anything else `any`. `as Type` says what a flag's value must read as, where that is another type, and
/// `with "path"` names a function that deserializes the value.
#[macro_export]
macro_rules! configuration {
    ($(#[doc = $about:literal])+ $visibility:vis struct $config:ident {
        $($(#[doc = $meaning:literal])+
        $key:ident: $type:ty $(as $flag:ty)?, $presence:ident $(($($value:tt)+))?, $value_name:literal, [$($check:tt)+]
            $(, with $with:literal)?;)+
    } besides {
        $($(#[doc = $other_meaning:literal])+ $other:ident: $other_type:ty;)*
    } variables {
        $($(#[doc = $variable_meaning:literal])+ $variable:ident: $variable_type:ty;)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        $visibility struct $config {
            $($(#[doc = $meaning])+ $(#[serde(deserialize_with = $with)])? $visibility $key: $type,)+
            $($(#[doc = $other_meaning])+ $visibility $other: $other_type,)*
            $($(#[doc = $variable_meaning])+ #[serde(skip)] $visibility $variable: $variable_type,)*
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($key: $crate::configuration!(@value $presence $(($($value)+))?),)+
                    $($other: <$other_type>::default(),)*
                    $($variable: <$variable_type>::default(),)*
                }
            }
        }

        impl $crate::Configuration for $config {
            const OTHERS: &'static [&'static str] = &[$(stringify!($other)),*];
            const VARIABLES: &'static [&'static str] = &[$(stringify!($variable)),*];

            fn keys() -> Vec<$crate::ConfigurationKey> {
                vec![$($crate::ConfigurationKey {
                    name: stringify!($key),
                    meaning: concat!($($meaning),+).trim().to_owned(),
                    value_name: $value_name,
                    default: $crate::configuration!(@shown $presence $(($($value)+))?),
                    parse_flag: $crate::configuration!(@parser $type $(as $flag)?),
                },)+]
            }

            fn check_ranges(&self) -> Result<(), $crate::ConfigurationError> {
                $($crate::configuration!(@check self, $key, [$($check)+]);)+
                Ok(())
            }
        }
    };

    (@value default ($value:expr)) => { $value };
    (@value shown ($words:literal, $value:expr)) => { $value };
    (@value absent ($words:literal)) => { None };
    (@value switch) => { false };

    (@shown default ($value:expr)) => { $value.to_string() };
    (@shown shown ($words:literal, $value:expr)) => { $words.to_owned() };
    (@shown absent ($words:literal)) => { $words.to_owned() };
    (@shown switch) => { String::new() };

    (@parser $type:ty as $flag:ty) => { $crate::parse_flag::<$flag> };
    (@parser $type:ty) => { $crate::parse_flag::<$type> };

    (@check $self:ident, $key:ident, [any]) => {};
    (@check $self:ident, $key:ident, [$range:expr]) => {
        $crate::ConfigurationError::require(stringify!($key), &$self.$key, &$range)?;
    };
}
