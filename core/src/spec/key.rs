//! The keys of a spec. Each is written once, in a `section!`: its name, type, meaning, what it accepts and its default.
//!
//! The macro makes the type that the reader fills in, the checks and their errors, and the [`SpecSection`]s that `nadgrid init` and
//! the tables of docs/spec.md are printed from. Deliberately absent: checks of several keys together, which are in check.rs.

use super::accepted::written;
use super::check::Checks;
use serde::Serialize;

/// A table of a spec, with its keys; the tables inside it are sections of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecSection {
    /// The path, for example `directional.training`; empty for the spec itself.
    pub path: String,
    /// The purpose, in a sentence or two.
    pub meaning: String,
    /// Its keys, in the order of their declaration.
    pub keys: Vec<SpecKey>,
}

/// A key of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecKey {
    /// The name, without its section's.
    pub name: &'static str,
    /// The value of `kind` that it belongs to, in a section whose keys depend on that.
    pub kind: Option<&'static str>,
    /// The meaning, in a sentence or two.
    pub meaning: String,
    /// Whether it may be left out.
    pub presence: Presence,
    /// The values that it accepts.
    pub accepted: String,
}

/// Whether a key may be left out. Values are TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It may not; this is an example of a value.
    Required(String),
    /// It may, and then has this value.
    Default(String),
    /// It may, and then has no value; this is an example of one.
    Optional(String),
}

impl Presence {
    pub(super) fn default(value: &impl Serialize) -> Self {
        Self::Default(written(value))
    }

    /// The default, or the example of a value.
    pub fn value(&self) -> &str {
        match self {
            Self::Required(value) | Self::Default(value) | Self::Optional(value) => value,
        }
    }
}

/// A type whose values are tables of a spec.
pub(super) trait SpecTable: Sized {
    /// Adds its section and those inside it. Of a table whose keys take their defaults from where it stands, `defaults` are these.
    fn describe(path: &str, defaults: Option<&Self>, into: &mut Vec<SpecSection>);

    /// Adds a violation for each key whose value is not accepted.
    fn check(&self, path: &str, checks: &mut Checks);
}

impl<T: SpecTable> SpecTable for Option<T> {
    fn describe(path: &str, defaults: Option<&Self>, into: &mut Vec<SpecSection>) {
        T::describe(path, defaults.and_then(Option::as_ref), into);
    }

    fn check(&self, path: &str, checks: &mut Checks) {
        if let Some(table) = self {
            table.check(path, checks);
        }
    }
}

/// The path of a key: `nads.networks`, or `seed` where the section has no name.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Defines a table of a spec:
///
/// ```text
/// section! {
///     /// What the section is for.
///     pub struct Name {
///         /// What the key means, as users read it.
///         key: Type, [what it accepts], presence;
///     }
/// }
/// ```
///
/// `[table]` stands for a table inside. The presence is `required("an example")`, `default(value)` or `optional("an example")`, of
/// an `Option`; of tables `required`, `optional`, `empty` (as if written empty) or `over(defaults)`. `when |table| ...` says when a
/// value is checked at all, `unwritten if "is_zero"` which value is left out of the canonical text.
macro_rules! section {
    ($(#[doc = $section:literal])+ pub struct $table:ident {
        $($(#[doc = $meaning:literal])+
        $key:ident: $type:ty, [$($accepted:tt)+], $presence:ident $(($value:expr))?
            $(, when $condition:expr)? $(, unwritten if $skip:literal)?;)+
    }) => {
        $(#[doc = $section])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $table {
            $($(#[doc = $meaning])+ $(#[serde(skip_serializing_if = $skip)])? pub $key: $type,)+
        }

        impl<'de> serde::Deserialize<'de> for $table {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields, expecting = "a table")]
                struct WrittenTable {
                    $($key: Option<$crate::spec::key::section!(@written $presence $type)>,)+
                }
                let written = WrittenTable::deserialize(deserializer)?;
                Ok(Self {
                    $($key: $crate::spec::key::section!(@read $presence $(($value))?, written, $key, D::Error),)+
                })
            }
        }

        impl $crate::spec::key::SpecTable for $table {
            fn describe(path: &str, _: Option<&Self>, into: &mut Vec<$crate::spec::key::SpecSection>) {
                let meaning = concat!($($section),+).trim().to_owned();
                let place = into.len();
                into.push($crate::spec::key::SpecSection { path: path.to_owned(), meaning, keys: Vec::new() });
                $($crate::spec::key::section!(
                    @describe [$($accepted)+] $presence $(($value))?, path, place, into, $key: $type, concat!($($meaning),+)
                );)+
            }

            fn check(&self, path: &str, checks: &mut $crate::spec::check::Checks) {
                $($crate::spec::key::section!(
                    @check [$($accepted)+] $presence, self, path, checks, $key $(, $condition)?
                );)+
            }
        }
    };

    (@written over $type:ty) => { <$type as $crate::spec::recipe::Over>::Written };
    (@written $presence:ident $type:ty) => { $type };

    (@read required $(($value:expr))?, $written:ident, $key:ident, $error:ty) => {
        match $written.$key {
            Some(value) => value,
            None => return Err(<$error as serde::de::Error>::missing_field(stringify!($key))),
        }
    };
    (@read default ($value:expr), $written:ident, $key:ident, $error:ty) => { $written.$key.unwrap_or_else(|| $value) };
    (@read optional $(($value:expr))?, $written:ident, $key:ident, $error:ty) => { $written.$key.flatten() };
    (@read empty, $written:ident, $key:ident, $error:ty) => {
        match $written.$key {
            Some(value) => value,
            None => {
                let nothing = std::iter::empty::<(&str, &str)>();
                serde::Deserialize::deserialize(serde::de::value::MapDeserializer::<_, $error>::new(nothing))?
            }
        }
    };
    (@read over ($defaults:expr), $written:ident, $key:ident, $error:ty) => {
        $crate::spec::recipe::Over::over($defaults, $written.$key)
    };

    (@describe [table] over ($defaults:expr), $path:ident, $place:ident, $into:ident, $key:ident: $type:ty, $meaning:expr) => {
        let path = $crate::spec::key::join($path, stringify!($key));
        <$type as $crate::spec::key::SpecTable>::describe(&path, Some(&$defaults), $into);
    };
    (@describe [table] $presence:ident, $path:ident, $place:ident, $into:ident, $key:ident: $type:ty, $meaning:expr) => {
        let path = $crate::spec::key::join($path, stringify!($key));
        <$type as $crate::spec::key::SpecTable>::describe(&path, None, $into);
    };
    (@describe [$accepted:expr] $presence:ident ($value:expr), $path:ident, $place:ident, $into:ident, $key:ident: $type:ty,
        $meaning:expr) => {
        $into[$place].keys.push($crate::spec::key::SpecKey {
            name: stringify!($key),
            kind: None,
            meaning: $meaning.trim().to_owned(),
            presence: $crate::spec::key::section!(@presence $presence ($value) $type),
            accepted: $accepted.to_string(),
        });
    };

    (@presence required ($example:expr) $type:ty) => { $crate::spec::key::Presence::Required($example.into()) };
    (@presence optional ($example:expr) $type:ty) => { $crate::spec::key::Presence::Optional($example.into()) };
    (@presence default ($value:expr) $type:ty) => {{
        let value: $type = $value;
        $crate::spec::key::Presence::default(&value)
    }};

    (@check [table] $presence:ident, $self:ident, $path:ident, $checks:ident, $key:ident) => {
        $crate::spec::key::SpecTable::check(&$self.$key, &$crate::spec::key::join($path, stringify!($key)), $checks);
    };
    (@check [$accepted:expr] optional, $self:ident, $path:ident, $checks:ident, $key:ident) => {
        if let Some(value) = &$self.$key {
            $checks.key($crate::spec::key::join($path, stringify!($key)), value, &$accepted);
        }
    };
    (@check [$accepted:expr] $presence:ident, $self:ident, $path:ident, $checks:ident, $key:ident $(, $condition:expr)?) => {
        let applies: &[fn(&Self) -> bool] = &[$($condition)?];
        if applies.iter().all(|applies| applies($self)) {
            $checks.key($crate::spec::key::join($path, stringify!($key)), &$self.$key, &$accepted);
        }
    };
}
pub(super) use section;
