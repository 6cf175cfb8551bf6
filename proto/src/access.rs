//! The credentials of a program that connects: a bearer token, certificates, and the authorities that it trusts.
//!
//! Worker and client read the same files and report the same errors. Secrets are printed as `***`. Deliberately absent:
//! connecting (both have an endpoint of their own), and checking tokens, which the coordinator does.

use nadgrid_core::ids::Digest;
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Request, Status};

/// The metadata key of a token.
pub const AUTHORIZATION: &str = "authorization";
/// The prefix of a token in its metadata.
pub const BEARER: &str = "Bearer ";
/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 512;

/// A secret text, which neither `Debug` nor an error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text so that it is not printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The BLAKE3 digest, which is all that a coordinator knows of a token.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A file or setting cannot be used. The key is written as in configuration files; flags have dashes.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file cannot be read.
    #[error("{key}: {} cannot be read: {source}", .path.display())]
    Read {
        /// The name of the setting.
        key: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The system's error for the file.
        source: std::io::Error,
    },
    /// The content of a file or value is invalid.
    #[error("{key}: {what}")]
    Content {
        /// The name of the setting.
        key: &'static str,
        /// The flaw of the content; never the secret itself.
        what: String,
    },
    /// One setting needs another.
    #[error("{key} requires {other}")]
    Needs {
        /// The setting that was given.
        key: &'static str,
        /// The setting that is missing.
        other: &'static str,
    },
    /// A token would be sent unencrypted.
    #[error(
        "{url} is neither https:// nor on this machine: the token would be sent unencrypted; \
         use https://, or insecure_token if the network itself is protected"
    )]
    TokenInTheClear {
        /// The server's address.
        url: String,
    },
    /// The address is malformed.
    #[error("{0}")]
    Address(String),
}

/// The places of the credentials, from flags, files and variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The token itself, from the variable `NADGRID_TOKEN`; it takes precedence over the file.
    pub token: Option<Secret>,
    /// The file that contains the token.
    pub token_file: Option<PathBuf>,
    /// Whether the token may be sent over plain http to another machine.
    pub insecure_token: bool,
    /// The authorities to trust instead of the system's (PEM).
    pub tls_ca: Option<PathBuf>,
    /// This program's certificate, for mutual TLS (PEM).
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// The name in the coordinator's certificate, if it is not the URL's host.
    pub tls_domain: Option<String>,
}

/// Credentials that were read.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    token: Option<Secret>,
    insecure_token: bool,
    ca: Option<String>,
    identity: Option<(String, Secret)>,
    domain: Option<String>,
}

impl CredentialFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// [`AccessError`] names the setting.
    pub fn read(&self) -> Result<Credentials, AccessError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(check_token("NADGRID_TOKEN", token.expose())?),
            (None, Some(path)) => Some(check_token("token_file", &text("token_file", path)?)?),
            (None, None) => None,
        };
        let ca = self.tls_ca.as_deref().map(|path| pem("tls_ca", path, "CERTIFICATE")).transpose()?;
        let identity = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let key = Secret::new(pem("tls_key", key, "PRIVATE KEY")?);
                Some((pem("tls_certificate", certificate, "CERTIFICATE")?, key))
            }
            (Some(_), None) => return Err(AccessError::Needs { key: "tls_certificate", other: "tls_key" }),
            (None, Some(_)) => return Err(AccessError::Needs { key: "tls_key", other: "tls_certificate" }),
            (None, None) => None,
        };
        Ok(Credentials { token, insecure_token: self.insecure_token, ca, identity, domain: self.tls_domain.clone() })
    }
}

impl Credentials {
    /// The endpoint of `url`, with TLS if it begins with `https://`.
    ///
    /// # Errors
    /// [`AccessError`] for a malformed address, unusable certificates, or a token that would be sent unencrypted.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, AccessError> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| AccessError::Address(root_cause(&e)))?;
        if endpoint.uri().scheme_str() != Some("https") {
            let exposed = self.token.is_some() && !self.insecure_token && !is_local(endpoint.uri());
            return if exposed { Err(AccessError::TokenInTheClear { url: url.to_owned() }) } else { Ok(endpoint) };
        }
        let mut tls = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key.expose()));
        }
        if let Some(domain) = &self.domain {
            tls = tls.domain_name(domain);
        }
        let unusable = |e: tonic::transport::Error| AccessError::Content {
            key: if self.identity.is_some() { "tls_ca, tls_certificate, tls_key" } else { "tls_ca" },
            what: root_cause(&e),
        };
        endpoint.tls_config(tls).map_err(unusable)
    }

    /// An interceptor that adds the token to every request.
    pub fn bearer(&self) -> Bearer {
        let value = self.token.as_ref().and_then(|token| {
            let mut value: MetadataValue<Ascii> = format!("{BEARER}{}", token.expose()).parse().ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Bearer(value)
    }
}

/// Adds a token to every request, if there is one.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer ***" } else { "no token" })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, value.clone());
        }
        Ok(request)
    }
}

/// Explains the root cause of a broken connection if TLS is at fault; otherwise returns it unchanged.
pub fn explain(cause: &str) -> String {
    const MEANINGS: &[(&str, &str)] = &[
        (
            "peer certificate: UnknownIssuer",
            "its certificate was issued by an authority that is not trusted here (tls_ca)",
        ),
        ("peer certificate: certificate expired", "its certificate has expired"),
        ("peer certificate: Expired", "its certificate has expired"),
        ("peer certificate: certificate not valid yet", "its certificate is not valid yet"),
        ("peer certificate: certificate not valid for name", "its certificate is for another host name (tls_domain)"),
        ("alert: CertificateRequired", "it requires a client certificate (tls_certificate, tls_key)"),
        ("alert: UnknownCA", "it does not know the authority of this program's certificate"),
        ("alert: CertificateExpired", "this program's certificate has expired"),
        ("alert: BadCertificate", "it rejects this program's certificate"),
        ("alert: DecryptError", "it rejects this program's certificate"),
        ("corrupt message", "it does not speak TLS on this port; use an address with http://"),
    ];
    match MEANINGS.iter().find(|(sign, _)| cause.contains(sign)) {
        Some((_, meaning)) => format!("{meaning}: {cause}"),
        None => cause.to_owned(),
    }
}

/// Whether an address is on this machine, so that nobody else can read what is sent.
fn is_local(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn text(key: &'static str, path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(|source| AccessError::Read { key, path: path.to_owned(), source })
}

fn pem(key: &'static str, path: &Path, kind: &str) -> Result<String, AccessError> {
    let content = text(key, path)?;
    let holds = content.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind));
    let what = || format!("{} contains no {} in PEM", path.display(), kind.to_lowercase());
    if holds { Ok(content) } else { Err(AccessError::Content { key, what: what() }) }
}

fn check_token(key: &'static str, text: &str) -> Result<Secret, AccessError> {
    let token = text.trim();
    let fits = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let what = || format!("a token is one word of 1 to {MAX_TOKEN} printable ASCII characters");
    if fits { Ok(Secret::new(token)) } else { Err(AccessError::Content { key, what: what() }) }
}

/// The innermost source of an error: transports wrap "connection refused" three times.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("nadgrid_0123");
        let files = CredentialFiles { token: Some(secret.clone()), ..CredentialFiles::default() };
        let read = files.read().unwrap();
        for shown in [format!("{secret:?}"), format!("{files:?}"), format!("{read:?}"), format!("{:?}", read.bearer())]
        {
            assert!(!shown.contains("0123") && shown.contains("***"), "{shown}");
        }
        let request = read.bearer().call(Request::new(())).unwrap();
        assert!(!format!("{request:?}").contains("0123"));
        assert_eq!(request.metadata().get(AUTHORIZATION).unwrap(), "Bearer nadgrid_0123");
    }

    #[test]
    fn a_token_is_sent_unencrypted_only_to_this_machine_or_by_choice() {
        let files = CredentialFiles { token: Some(Secret::new("t")), ..CredentialFiles::default() };
        let read = files.read().unwrap();
        for local in ["http://127.0.0.1:7400", "http://localhost:1", "http://[::1]:7400"] {
            assert!(read.endpoint(local).is_ok(), "{local}");
        }
        let error = read.endpoint("http://grid.example:7400").unwrap_err().to_string();
        assert!(error.contains("grid.example") && error.contains("insecure_token"), "{error}");
        assert!(Credentials::default().endpoint("http://grid.example:7400").is_ok());
        let told = CredentialFiles { insecure_token: true, ..files };
        assert!(told.read().unwrap().endpoint("http://grid.example:7400").is_ok());
    }

    #[test]
    fn errors_in_a_file_are_reported_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "hush hush\n").unwrap();
        let said = |files: CredentialFiles| files.read().unwrap_err().to_string();
        let none = CredentialFiles::default();
        let token = said(CredentialFiles { token_file: Some(file.clone()), ..none.clone() });
        assert!(token.contains("token_file") && token.contains("one word") && !token.contains("hush"), "{token}");
        let ca = said(CredentialFiles { tls_ca: Some(file.clone()), ..none.clone() });
        assert!(ca.contains("tls_ca") && ca.contains("no certificate"), "{ca}");
        let alone = said(CredentialFiles { tls_key: Some(file), ..none.clone() });
        assert!(alone.contains("tls_key requires tls_certificate"), "{alone}");
        let gone = said(CredentialFiles { token_file: Some("/no/such/file".into()), ..none });
        assert!(gone.contains("/no/such/file"), "{gone}");
    }
}
