//! The page's own token, for coordinators without tokens.
//!
//! Without access control everybody who reaches the port may do everything, but a browser also acts for every other page
//! that is open in it. Therefore changes from the page require this token, which another page cannot know, and all requests,
//! gRPC's included, require a host name that another page cannot have pointed at this machine. The token is kept with the
//! data, so that an open page continues to work after a restart.

use http::{HeaderMap, Uri, header};
use nadgrid_proto::status::Reason;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tonic::Status;

const FILE: &str = "page-token";

/// A random word that nobody can guess.
#[derive(Clone)]
pub(crate) struct PageToken {
    word: String,
    /// Whether any host name is accepted.
    any_host: bool,
}

impl PageToken {
    /// Reads the token of this data folder, or creates one.
    ///
    /// # Errors
    /// The system's, if the file can be neither read nor written.
    pub(crate) fn open(data: &Path, any_host: bool) -> io::Result<Self> {
        let path = data.join(FILE);
        if let Ok(word) = std::fs::read_to_string(&path)
            && word.len() == 32
        {
            return Ok(Self { word, any_host });
        }
        let word = uuid::Uuid::new_v4().simple().to_string();
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut file, word.as_bytes())?;
        Ok(Self { word, any_host })
    }

    /// The token as it is written in the page's address.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Checks the host that a request names: an address, or `localhost`. A coordinator without tokens listens beyond its
    /// machine only with `insecure`, and then accepts any name.
    ///
    /// # Errors
    /// `ROLE_WRONG` for a host name that another page may have pointed at this machine.
    pub(crate) fn admits_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Status> {
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = uri.host().map(str::to_owned).or_else(|| {
            let authority = named?.parse::<http::uri::Authority>().ok()?;
            Some(authority.host().to_owned())
        });
        let host = host.unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if self.any_host || address || host.eq_ignore_ascii_case("localhost") || host.is_empty() {
            return Ok(());
        }
        let message = format!(
            "host = {host:?}: without tokens, a coordinator accepts only addresses and localhost; configure tokens or `insecure`"
        );
        Err(Reason::RoleWrong.status(message))
    }

    /// Checks the token of a request that changes something.
    ///
    /// # Errors
    /// `TOKEN_MISSING`, `TOKEN_UNKNOWN`.
    pub(crate) fn admits_write(&self, token: Option<&[u8]>) -> Result<(), Status> {
        let hint = "open the page at the address that the coordinator printed at start-up, or with the content of \
                    `page-token` in its data folder";
        match token {
            None => Err(Reason::TokenMissing.status(format!("a token is required to change anything: {hint}"))),
            // Comparing hashes takes the same time wherever the words differ.
            Some(token) if blake3::hash(token) == blake3::hash(self.word.as_bytes()) => Ok(()),
            Some(_) => Err(Reason::TokenUnknown.status(format!("the token is not this coordinator's: {hint}"))),
        }
    }

    /// Whether this is the page's token.
    pub(crate) fn is(&self, token: Option<&[u8]>) -> bool {
        self.admits_write(token).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_with_the_data_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = PageToken::open(folder.path(), false).unwrap();
        assert_eq!(PageToken::open(folder.path(), false).unwrap().word(), first.word());
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.is(Some(first.word().as_bytes())) && !first.is(Some(b"x")) && !first.is(None));
    }

    #[test]
    fn host_names_of_other_pages_are_refused() {
        let token = PageToken { word: "w".into(), any_host: false };
        let admits = |token: &PageToken, host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            token.admits_host(&Uri::from_static("/api/sweeps"), &headers).is_ok()
        };
        for fine in ["127.0.0.1:7400", "localhost:7400", "LocalHost", "[::1]:7400", "192.0.2.7"] {
            assert!(admits(&token, fine), "{fine}");
        }
        for other in ["evil.example:7400", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!admits(&token, other), "{other}");
        }
        // In HTTP/2 the host is a part of the URI.
        let of_http2 = Uri::from_static("http://evil.example:7400/nadgrid.v1.SweepService/List");
        assert!(token.admits_host(&of_http2, &HeaderMap::new()).is_err());
        assert!(admits(&PageToken { any_host: true, ..token }, "grid.example"));
    }
}
