//! The node's key: an Ed25519 key in a file that only its owner may read.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use libp2p_identity::Keypair;

use super::Error;

/// Reads the identity at `path`, libp2p's protobuf of a private key; makes one where there is none.
pub fn load_or_make(path: &Path) -> Result<Keypair, Error> {
    let failed = |reason: String| Error::Identity { path: path.to_owned(), reason };
    match std::fs::read(path) {
        Ok(bytes) => {
            let mode = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.permissions();
            if mode.mode() & 0o077 != 0 {
                return Err(failed("others may read it; chmod 600 it".to_owned()));
            }
            Keypair::from_protobuf_encoding(&bytes).map_err(|e| failed(e.to_string()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make(path).map_err(|e| failed(e.to_string()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Makes a key, and has it on disk before anybody hears of it.
fn make(path: &Path) -> std::io::Result<Keypair> {
    let key = Keypair::generate_ed25519();
    let bytes = key.to_protobuf_encoding().map_err(std::io::Error::other)?;
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(key)
}
