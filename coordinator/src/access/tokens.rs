//! The file of tokens: a table `[[token]]` with name, role and BLAKE3 hash for each.
//!
//! Changes take effect within seconds, so removing an entry revokes its token; a file that became invalid changes nothing.
//! Deliberately absent: the tokens themselves, which only their holders have.

use super::{Caller, RELOAD_EVERY, Right};
use nadgrid_proto::status::Reason;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The longest name of a token, in bytes.
const MAX_NAME: usize = 64;

/// The file of tokens cannot be used.
#[derive(Debug, Error)]
#[error("tokens: {}: {what}", .path.display())]
pub struct TokensError {
    path: PathBuf,
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    role: TokenRole,
    blake3: String,
    expires: Option<Expiry>,
    #[serde(default)]
    admin: bool,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TokenRole {
    User,
    Worker,
}

/// A time as a date of TOML or as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expiry {
    Date(toml::value::Datetime),
    Text(String),
}

#[derive(Clone)]
struct Granted {
    hash: blake3::Hash,
    expires: Option<SystemTime>,
    caller: Caller,
}

impl Granted {
    fn is_same(&self, other: &Self) -> bool {
        let a = &self.caller;
        let b = &other.caller;
        self.hash == other.hash && self.expires == other.expires && a.name == b.name && a.right == b.right
    }

    fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// All tokens in force. Without a file there is no access control.
pub(crate) struct Tokens {
    path: Option<PathBuf>,
    /// The state of the file before it was first read.
    stamp: Option<FileStamp>,
    granted: RwLock<Arc<Vec<Granted>>>,
}

impl Tokens {
    /// Reads the file. Without one, every caller may do everything.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, TokensError> {
        let stamp = path.map(FileStamp::of);
        let granted = path.map(read).transpose()?.unwrap_or_default();
        Ok(Self { path: path.map(Path::to_owned), stamp, granted: RwLock::new(Arc::new(granted)) })
    }

    /// The holder of a token.
    ///
    /// # Errors
    /// `TOKEN_MISSING`, `TOKEN_UNKNOWN`, `TOKEN_EXPIRED`. Without a file it does not fail.
    pub(crate) fn find(&self, token: Option<&[u8]>, now: SystemTime) -> Result<Caller, (Reason, String)> {
        if self.path.is_none() {
            return Ok(Caller::anybody());
        }
        let Some(token) = token else {
            let message = "a token is required: `authorization: Bearer TOKEN` (token_file, or NADGRID_TOKEN)";
            return Err((Reason::TokenMissing, message.to_owned()));
        };
        let hash = blake3::hash(token);
        // Comparing BLAKE3 hashes takes constant time, and how many entries are compared reveals nothing about other tokens.
        let found = self.granted().iter().rfind(|granted| granted.hash == hash).cloned();
        match found {
            None => Err((Reason::TokenUnknown, "the token is unknown or was revoked".to_owned())),
            Some(granted) if granted.has_expired(now) => {
                Err((Reason::TokenExpired, format!("the token of {} has expired", granted.caller.name)))
            }
            Some(granted) => Ok(granted.caller),
        }
    }

    fn granted(&self) -> Arc<Vec<Granted>> {
        self.granted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts new entries in force. Callers whose entry stays keep their streams, others lose them.
    fn replace(&self, mut new: Vec<Granted>) {
        let old = self.granted();
        let mut revoked = Vec::new();
        for granted in old.iter() {
            match new.iter_mut().find(|other| other.is_same(granted)) {
                Some(same) => same.caller.revoked = granted.caller.revoked.clone(),
                None => revoked.push(&granted.caller),
            }
        }
        // The tokens are replaced before any stream ends, so that a client that reconnects finds its token unknown.
        *self.granted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        for caller in revoked {
            info!(name = %caller.name, "token revoked");
            caller.revoked.cancel();
        }
    }

    fn end_expired(&self, now: SystemTime) {
        let granted = self.granted();
        granted.iter().filter(|granted| granted.has_expired(now)).for_each(|granted| granted.caller.revoked.cancel());
    }
}

/// Checks the file every few seconds, until `stop`.
pub(crate) async fn refresh(tokens: Arc<Tokens>, stop: CancellationToken) {
    let Some(path) = tokens.path.clone() else { return };
    // It was taken before the file was read, so a change since then is noticed.
    let mut seen = tokens.stamp.clone();
    while stop.run_until_cancelled(tokio::time::sleep(RELOAD_EVERY)).await.is_some() {
        tokens.end_expired(SystemTime::now());
        let now = Some(FileStamp::of(&path));
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path) {
            Ok(new) => {
                info!(tokens = new.len(), "the file of tokens has changed");
                tokens.replace(new);
            }
            Err(problem) => error!("{problem}; the previous tokens stay in force"),
        }
    }
}

/// The state of a file, which shows whether it has changed: time, size and inode.
#[derive(Clone, PartialEq)]
pub(super) struct FileStamp(Option<(SystemTime, u64, u64)>);

impl FileStamp {
    pub(super) fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(path).ok();
        Self(found.and_then(|found| Some((found.modified().ok()?, found.len(), found.ino()))))
    }
}

fn read(path: &Path) -> Result<Vec<Granted>, TokensError> {
    let wrong = |what: String| TokensError { path: path.to_owned(), what };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<Granted>, String> {
    // The parser's full message would show the line, which may contain a token by mistake.
    let file: TokensFile = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    let granted = file.token.into_iter().enumerate().map(|(index, entry)| grant(index, entry));
    let granted = granted.collect::<Result<Vec<_>, _>>()?;
    let mut holders = HashMap::new();
    for (index, one) in granted.iter().enumerate() {
        if let Some(other) = holders.insert(one.hash, index) {
            return Err(format!("token[{index}].blake3 is the same as that of token[{other}]"));
        }
    }
    Ok(granted)
}

fn grant(index: usize, entry: TokenEntry) -> Result<Granted, String> {
    let TokenEntry { name, role, blake3, expires, admin } = entry;
    let right = match role {
        TokenRole::User => Right::User { admin },
        TokenRole::Worker if admin => return Err(format!("token[{index}].admin = true: accepted for users only")),
        TokenRole::Worker => Right::Worker,
    };
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "token[{index}].name = {name:?}: 1 to {MAX_NAME} printable ASCII characters without spaces"
        ));
    }
    let hash = blake3::Hash::from_hex(&blake3)
        .map_err(|_| format!("token[{index}].blake3: 64 hexadecimal digits, as `nadgrid token new` prints them"))?;
    let expires = expires.map(|expires| instant(index, &expires)).transpose()?;
    let caller = Caller { name: name.into(), right, revoked: CancellationToken::new() };
    Ok(Granted { hash, expires, caller })
}

fn instant(index: usize, expires: &Expiry) -> Result<SystemTime, String> {
    let text = match expires {
        Expiry::Date(date) => date.to_string(),
        Expiry::Text(text) => text.clone(),
    };
    let parsed = humantime::parse_rfc3339(&text);
    parsed.map_err(|_| format!("token[{index}].expires = {text:?}: a time such as 2026-12-31T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(name: &str, role: &str, token: &str, more: &str) -> String {
        let hash = blake3::hash(token.as_bytes());
        format!("[[token]]\nname = '{name}'\nrole = '{role}'\nblake3 = '{hash}'\n{more}\n")
    }

    fn tokens(text: &str) -> Tokens {
        Tokens { path: Some("tokens.toml".into()), stamp: None, granted: RwLock::new(Arc::new(parse(text).unwrap())) }
    }

    #[test]
    fn a_token_is_found_by_its_hash_until_it_expires() {
        let expiring = entry("ada", "user", "one", "expires = 2026-01-01T00:00:00Z\nadmin = true");
        let tokens = tokens(&(expiring + &entry("lab", "worker", "two", "expires = '2027-01-01T00:00:00Z'")));
        let before = humantime::parse_rfc3339("2025-12-31T23:59:59Z").unwrap();
        let ada = tokens.find(Some(b"one"), before).unwrap();
        assert_eq!((&*ada.name, ada.right), ("ada", Right::User { admin: true }));
        assert_eq!(tokens.find(Some(b"two"), before).unwrap().right, Right::Worker);
        let after = before + Duration::from_secs(1);
        let refused = |token| tokens.find(token, after).unwrap_err().0;
        assert_eq!(refused(Some(b"one")), Reason::TokenExpired);
        assert_eq!(refused(Some(b"three")), Reason::TokenUnknown);
        assert_eq!(refused(None), Reason::TokenMissing);
        tokens.end_expired(after);
        assert!(ada.revoked.is_cancelled());
    }

    #[test]
    fn what_stays_keeps_its_streams_and_what_goes_loses_them() {
        let ada = entry("ada", "user", "one", "");
        let lab = entry("lab", "worker", "two", "");
        let tokens = tokens(&(ada + &lab));
        let now = SystemTime::now();
        let one = tokens.find(Some(b"one"), now).unwrap();
        let two = tokens.find(Some(b"two"), now).unwrap();
        tokens.replace(parse(&lab).unwrap());
        assert!(one.revoked.is_cancelled() && !two.revoked.is_cancelled());
        assert!(tokens.find(Some(b"one"), now).is_err());
        tokens.replace(Vec::new());
        assert!(two.revoked.is_cancelled());
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named() {
        let said = |text: &str| parse(text).err().unwrap();
        assert!(said(&entry("a b", "user", "x", "")).contains("token[0].name"));
        assert!(said(&entry("ada", "root", "x", "")).contains("root"));
        assert!(said(&entry("ada", "worker", "x", "admin = true")).contains("token[0].admin"));
        assert!(said(&entry("ada", "user", "x", "expires = 'soon'")).contains("\"soon\""));
        assert!(said(&entry("ada", "user", "x", "token = 'x'")).contains("unknown field `token`"));
        let twice = entry("ada", "user", "x", "") + &entry("bob", "user", "x", "");
        assert!(said(&twice).contains("token[1].blake3 is the same as that of token[0]"));
        let raw = "[[token]]\nname = 'ada'\nrole = 'user'\nblake3 = 'the-token-itself'";
        assert!(said(raw).contains("64 hexadecimal") && !said(raw).contains("itself"));
    }
}
