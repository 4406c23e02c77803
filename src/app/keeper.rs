//! What of the store is provided.

use crate::block::{Cid, StoreError};
use crate::blockstore::Store;
use crate::routing::{Keeper, Kept};

/// The roots of pins, each under its CID.
pub(super) struct Roots(pub(super) Store);

/// Every block, each under its multihash.
pub(super) struct Blocks(pub(super) Store);

impl Keeper for Roots {
    fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let after = after.and_then(|name| Cid::try_from(name).ok());
        let pins = self.0.pins(after.as_ref(), limit)?.into_iter();
        Ok(pins
            .map(|pin| Kept { name: pin.cid.to_bytes(), key: pin.cid.hash().to_bytes() })
            .collect())
    }

    fn keeps(&self, name: &[u8]) -> Result<bool, StoreError> {
        let Ok(cid) = Cid::try_from(name) else { return Ok(false) };
        Ok(self.0.pinned(&cid)?.is_some())
    }
}

impl Keeper for Blocks {
    fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let hashes = self.0.hashes(after, limit)?.into_iter();
        Ok(hashes.map(|hash| Kept { name: hash.clone(), key: hash }).collect())
    }

    fn keeps(&self, name: &[u8]) -> Result<bool, StoreError> {
        // A root that was pinned just now came under its CID.
        let name = Cid::try_from(name).map_or(name.to_vec(), |cid| cid.hash().to_bytes());
        self.0.has_hash(&name)
    }
}
