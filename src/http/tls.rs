//! TLS: certificates from files, chosen by the name that a client asks for, and read anew when the
//! files change.

mod certificates;
mod expiry;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

use certificates::Certificates;

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Sessions that are remembered for clients of TLS 1.2 that take no tickets.
const SESSIONS_MAX: usize = 1024;
/// What is spoken over TLS, the preferred first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those between it and its authority; PEM.
    pub certificate: PathBuf,
    /// Its key; PEM.
    pub key: PathBuf,
}

impl Pair {
    /// Certificates and keys, each with the one at its place in the other list.
    pub fn of(certificates: &[PathBuf], keys: &[PathBuf]) -> Vec<Self> {
        let pairs = certificates.iter().zip(keys);
        pairs.map(|(c, k)| Self { certificate: c.clone(), key: k.clone() }).collect()
    }
}

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} that can be read; PEM is wanted", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate and a key that do not go together, or are of a kind that is not known here.
    #[error("{} and {} cannot be used together: {source}", pair.certificate.display(), pair.key.display())]
    Pair {
        /// The files.
        pair: Pair,
        /// Why not.
        source: rustls::Error,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    SetUp(#[from] rustls::Error),
}

/// What a listener shows those who speak TLS to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files of at least one certificate.
    pub fn load(
        pairs: Vec<Pair>,
        listener: &'static str,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let metrics = metrics.certificates(listener);
        let certificates = Certificates::load(pairs, Arc::clone(&provider), metrics)?;
        let certificates = Arc::new(certificates);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Self { certificates, config: Arc::new(config) })
    }

    /// Looks at the files now and then, until `stop`. What is new and right is shown from the next
    /// connection on; what is wrong is said, and the certificate before it is kept.
    pub async fn watch(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_PERIOD) => {}
            }
            let certificates = Arc::clone(&self.certificates);
            let looked = tokio::task::spawn_blocking(move || certificates.look());
            if looked.await.is_err() {
                tracing::error!("certificates are no longer looked at: this is a bug");
                return;
            }
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}
