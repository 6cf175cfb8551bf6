//! The place of a journal: a URL, which may contain a password. Its `Debug` and `Display` never do.

use super::JournalError;
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use url::Url;

/// The URLs that are accepted.
pub(crate) const ACCEPTED: &str = "nothing (SQLite in the data folder), sqlite:PATH or postgres://USER@HOST/DATABASE";
/// The file's name in the data folder.
const FILE: &str = "journal.sqlite";
/// The accepted parameters. sqlx would ignore others, and log their values.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The journal's URL as it was configured; empty for the default, a file in the data folder.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct JournalUrl(String);

/// A parsed URL.
pub(super) enum JournalTarget {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl From<&str> for JournalUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for JournalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target(Path::new("")) {
            Ok(target) => write!(f, "{target}"),
            Err(_) => f.write_str("a journal's URL"),
        }
    }
}

impl JournalUrl {
    /// Checks the URL.
    ///
    /// # Errors
    /// [`JournalError::Url`] if it does not name a journal. The error does not contain the URL.
    pub fn check(&self) -> Result<(), JournalError> {
        self.target(Path::new("")).map(drop)
    }

    /// The journal that the URL names, where `data` is the data folder.
    pub(super) fn target(&self, data: &Path) -> Result<JournalTarget, JournalError> {
        let refused = |why: &str| JournalError::Url { why: why.to_owned() };
        if self.0.is_empty() {
            return Ok(JournalTarget::Sqlite(data.join(FILE)));
        }
        if let Some(path) = self.0.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(refused("sqlite: names no file"))
            } else {
                Ok(JournalTarget::Sqlite(path.into()))
            };
        }
        let url = Url::parse(&self.0).map_err(|error| refused(&error.to_string()))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) {
            return Err(refused("its scheme is neither sqlite nor postgres"));
        }
        let known = |key: &str| PARAMETERS.contains(&key) || key.starts_with("options[");
        if let Some((key, _)) = url.query_pairs().find(|(key, _)| !known(key)) {
            return Err(refused(&format!("the parameter {key:?} is unknown")));
        }
        let options = PgConnectOptions::from_str(&self.0).map_err(|_| refused("a part of it is malformed"))?;
        Ok(JournalTarget::Postgres(Box::new(options)))
    }
}

impl fmt::Display for JournalTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = match self {
            Self::Sqlite(path) => return write!(f, "{}", path.display()),
            Self::Postgres(options) => options,
        };
        let user = options.get_username();
        let host = options.get_host();
        let port = options.get_port();
        let host = options.get_socket().map_or_else(|| host.to_owned(), |socket| socket.display().to_string());
        write!(f, "postgres://{user}@{host}:{port}/{}", options.get_database().unwrap_or(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<String, String> {
        JournalUrl::from(url).target(Path::new("/data")).map(|p| p.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn urls_name_files_and_databases() {
        assert_eq!(shown("").unwrap(), "/data/journal.sqlite");
        assert_eq!(shown("sqlite:kept/here.sqlite").unwrap(), "kept/here.sqlite");
        assert_eq!(shown("sqlite:///var/x").unwrap(), "/var/x");
        assert_eq!(shown("postgres://me@db.example:5433/grid").unwrap(), "postgres://me@db.example:5433/grid");
        assert_eq!(shown("postgresql://me@h:1/grid?host=/run/pg").unwrap(), "postgres://me@/run/pg:1/grid");
    }

    #[test]
    fn no_password_is_ever_shown() {
        let urls = [
            "postgres://me:hunter2@db/grid",
            "postgres://me@db/grid?password=hunter2",
            "postgres://me@db/grid?pasword=hunter2",
            "postgres://me:hunter2@db:port/grid",
            "postgres://me:hunter2@db/grid?sslmode=hunter2",
            "mysql://me:hunter2@db/grid",
            "me:hunter2@db/grid",
            "hunter2",
        ];
        for url in urls {
            let shown = format!("{:?} {:?}", shown(url), JournalUrl::from(url));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let refused = |url| JournalUrl::from(url).check().unwrap_err().to_string();
        assert!(refused("postgres://me@db/grid?pasword=hunter2").contains("pasword"));
        assert!(refused("mysql://db/grid").contains("sqlite:PATH or postgres://"));
        assert!(refused("sqlite:").contains("names no file"));
    }
}
