//! The certificates of one listener.
//!
//! **Invariant:** a certificate is shown only when it and its key go together; until then the one
//! before it is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Error, Pair, expiry};
use crate::http::metrics::CertificateMetrics;

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The permission of everybody to read a file.
const READABLE_BY_OTHERS: u32 = 0o004;

#[derive(Debug)]
pub(super) struct Certificates {
    files: Mutex<Vec<Watched>>,
    /// In the order of the files.
    shown: RwLock<Vec<Shown>>,
    provider: Arc<CryptoProvider>,
    metrics: CertificateMetrics,
}

/// Files, and how they looked when they were last read.
#[derive(Debug)]
struct Watched {
    pair: Pair,
    stamps: [Option<Stamp>; 2],
}

/// What changes with a file's content, and with who may read it: its number, its size, when it was
/// written, and when it was changed in any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, (i64, i64), (i64, i64));

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    expires: i64,
}

impl Certificates {
    pub(super) fn load(
        pairs: Vec<Pair>,
        provider: Arc<CryptoProvider>,
        metrics: CertificateMetrics,
    ) -> Result<Self, Error> {
        let (mut files, mut shown) = (Vec::new(), Vec::new());
        for pair in pairs {
            // Before they are read: what changes meanwhile is seen to have changed.
            let stamps = stamps(&pair);
            shown.push(read(&pair, &provider)?);
            files.push(Watched { pair, stamps });
        }
        let (files, shown) = (Mutex::new(files), RwLock::new(shown));
        let certificates = Self { files, shown, provider, metrics };
        certificates.note_expiry();
        Ok(certificates)
    }

    /// Reads what has changed since it was read last.
    pub(super) fn look(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, Watched { pair, stamps: seen }) in files.iter_mut().enumerate() {
            let now = stamps(pair);
            if now == *seen {
                continue;
            }
            *seen = now;
            let certificate = pair.certificate.display();
            match read(pair, &self.provider) {
                Ok(new) => {
                    let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
                    if let Some(shown) = shown.get_mut(place) {
                        *shown = new;
                    }
                    self.metrics.reloaded.inc();
                    tracing::info!(%certificate, "a new certificate is shown from now on");
                }
                Err(error) => {
                    self.metrics.reload_failed.inc();
                    tracing::warn!(%certificate, %error, "the certificate before it is kept");
                }
            }
        }
        drop(files);
        self.note_expiry();
    }

    fn note_expiry(&self) {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let first = shown.iter().map(|shown| shown.expires).min();
        self.metrics.expiry.set(first.unwrap_or(0));
    }

    /// The first certificate for this name; the first of all where there is none.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |shown: &&Shown| match (&name, shown.key.end_entity_cert()) {
            (Some(name), Ok(certificate)) => ParsedCertificate::try_from(certificate)
                .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok()),
            _ => false,
        };
        let chosen = if shown.len() == 1 { None } else { shown.iter().find(fits) };
        chosen.or_else(|| shown.first()).map(|shown| Arc::clone(&shown.key))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

fn stamps(pair: &Pair) -> [Option<Stamp>; 2] {
    [&pair.certificate, &pair.key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        let (written, changed) =
            ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Some(Stamp(file.ino(), file.size(), written, changed))
    })
}

fn read(pair: &Pair, provider: &CryptoProvider) -> Result<Shown, Error> {
    let pem = |path: &Path, what| Error::Pem { path: path.to_owned(), what };
    let text = contents(&pair.certificate)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| pem(&pair.certificate, "certificate"))?;
    let expires = chain.first().and_then(|first| expiry::not_after(first));
    let expires = expires.ok_or_else(|| pem(&pair.certificate, "certificate"))?;

    let key = PrivateKeyDer::from_pem_slice(&contents(&pair.key)?)
        .map_err(|_| pem(&pair.key, "private key"))?;
    warn_if_readable(&pair.key);
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| Error::Pair { pair: pair.clone(), source })?;
    Ok(Shown { key: Arc::new(key), expires })
}

fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let mut contents = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents))
        .and_then(|read| match read as u64 > FILE_BYTES_MAX {
            true => Err(io::Error::other("it is longer than 1 MiB")),
            false => Ok(()),
        });
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(contents)
}

fn warn_if_readable(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|file| file.mode() & READABLE_BY_OTHERS != 0) {
        let key = key.display();
        tracing::warn!(%key, "everybody on this machine can read this private key: chmod o-r it");
    }
}

#[cfg(test)]
mod tests;
