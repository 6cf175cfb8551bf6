//! The server's side of TLS. Certificates are read again when their files change, so that renewing them needs no restart.
//!
//! It uses rustls with ring, as tonic does. The handshake is done here and not by tonic, so that failed handshakes are
//! logged and long ones are ended.

use super::RELOAD_EVERY;
use super::tokens::FileStamp;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The certificates cannot be used.
#[derive(Debug, Error)]
#[error("{key}: {what}")]
pub struct TlsError {
    key: &'static str,
    what: String,
}

/// The paths of the certificates' files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate authority of the clients, for mutual TLS.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Accepts handshakes with the certificates in force.
pub(crate) struct ServerTls {
    files: TlsFiles,
    /// The state of the files before they were first read.
    stamps: [Option<FileStamp>; 3],
    config: RwLock<Arc<ServerConfig>>,
}

impl TlsFiles {
    fn stamps(&self) -> [Option<FileStamp>; 3] {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .map(|file| file.map(|file| FileStamp::of(file)))
    }
}

impl ServerTls {
    /// Reads the files.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let config = read(&files)?;
        Ok(Self { files, stamps, config: RwLock::new(Arc::new(config)) })
    }

    /// Does one handshake. A failure is rustls' error, with the connection, on which the alert is being sent.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, (std::io::Error, TcpStream)> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(stream).into_fallible().await
    }

    /// Checks the files every few seconds, until `stop`.
    pub(crate) async fn refresh(self: Arc<Self>, stop: CancellationToken) {
        let files = &self.files;
        let mut seen = self.stamps.clone();
        while stop.run_until_cancelled(tokio::time::sleep(RELOAD_EVERY)).await.is_some() {
            let now = files.stamps();
            if now == seen {
                continue;
            }
            seen = now;
            match read(files) {
                Ok(config) => {
                    info!("the certificates have changed");
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                }
                Err(problem) => error!("{problem}; the previous certificates stay in force"),
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| TlsError { key: "tls_certificate", what: e.to_string() })?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |what: String| TlsError { key: "tls_client_ca", what: format!("{}: {what}", path.display()) };
            let mut roots = RootCertStore::empty();
            for authority in certificates("tls_client_ca", path)? {
                roots.add(authority).map_err(|e| wrong(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| wrong(e.to_string()))?)
        }
    };
    let chain = certificates("tls_certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|e| TlsError { key: "tls_key", what: format!("{}: {e}", files.key.display()) })?;
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|e| TlsError { key: "tls_certificate, tls_key", what: e.to_string() })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |what: String| TlsError { key, what: format!("{}: {what}", path.display()) };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() { Err(wrong("contains no certificate in PEM".to_owned())) } else { Ok(found) }
}
