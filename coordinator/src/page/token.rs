//! The page's own token, where the coordinator has none.
//!
//! Without access control whoever reaches the port may do everything, but a browser also acts for every page that is open in
//! it: writes then want this token, which another page cannot know, and requests, gRPC's as well, a host name that another page
//! cannot have made to mean this machine. It is kept with the data, so that a page goes on after a restart.

use http::{HeaderMap, Uri, header};
use nadgrid_proto::status::Reason;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tonic::Status;

const FILE: &str = "page-token";

/// A word that nobody can guess.
#[derive(Clone)]
pub(crate) struct PageToken {
    word: String,
    /// Whether any host name may lead here.
    any_host: bool,
}

impl PageToken {
    /// The token of this data folder, made if need be.
    ///
    /// # Errors
    /// The system's, when the file can be neither read nor written.
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

    /// As it stands in the page's address.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Whether a request names a host that it may: an address, or `localhost`. A coordinator without tokens listens beyond
    /// the machine only when it is told so (`insecure`), and then any name may lead to it.
    ///
    /// # Errors
    /// `ROLE_WRONG` for a host name that may be another page's doing.
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
            "host = {host:?}: without tokens a coordinator is reached by an address or as localhost; give it tokens, or `insecure`"
        );
        Err(Reason::RoleWrong.status(message))
    }

    /// Whether a write may be done.
    ///
    /// # Errors
    /// `TOKEN_MISSING`, `TOKEN_UNKNOWN`.
    pub(crate) fn admits_write(&self, token: Option<&[u8]>) -> Result<(), Status> {
        let hint = "open the page by the address that the coordinator printed at its start, or with what `page-token` in its \
                    data folder holds";
        match token {
            None => Err(Reason::TokenMissing.status(format!("a token is needed to change anything: {hint}"))),
            // Equality of hashes takes the same time wherever words differ.
            Some(token) if blake3::hash(token) == blake3::hash(self.word.as_bytes()) => Ok(()),
            Some(_) => Err(Reason::TokenUnknown.status(format!("the token is not this coordinator's: {hint}"))),
        }
    }

    /// Whether this is it.
    pub(crate) fn is(&self, token: Option<&[u8]>) -> bool {
        self.admits_write(token).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_with_the_data_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = PageToken::open(folder.path(), false).unwrap();
        assert_eq!(PageToken::open(folder.path(), false).unwrap().word(), first.word());
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.is(Some(first.word().as_bytes())) && !first.is(Some(b"x")) && !first.is(None));
    }

    #[test]
    fn another_pages_names_do_not_lead_here() {
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
        // HTTP/2 has the name in the address.
        let of_http2 = Uri::from_static("http://evil.example:7400/nadgrid.v1.SweepService/List");
        assert!(token.admits_host(&of_http2, &HeaderMap::new()).is_err());
        assert!(admits(&PageToken { any_host: true, ..token }, "grid.example"));
    }
}
