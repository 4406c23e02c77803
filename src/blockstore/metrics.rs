crate::metrics! {
    /// What the blockstore did.
    pub struct Metrics {
        /// Blocks written to segments.
        written_blocks: counter("estuary_blockstore_written_blocks_total"),
        /// Bytes written to segments, headers included.
        written_bytes: counter("estuary_blockstore_written_bytes_total"),
        /// Blocks read from disk.
        read_blocks: counter("estuary_blockstore_read_blocks_total"),
        /// Bytes of the blocks read from disk.
        read_bytes: counter("estuary_blockstore_read_bytes_total"),
        /// Time to find and read a block, in seconds.
        read_seconds: histogram("estuary_blockstore_read_seconds"),
        /// Records that were read and found damaged, each counted once.
        corrupt_records: counter("estuary_blockstore_corrupt_records_total"),
        /// Fetched blocks that were not kept because writing lagged behind.
        not_cached: counter("estuary_blockstore_not_cached_total"),
        /// Cached blocks dropped to make room.
        evicted_blocks: counter("estuary_blockstore_evicted_blocks_total"),
        /// Bytes of the cached blocks dropped to make room.
        evicted_bytes: counter("estuary_blockstore_evicted_bytes_total"),
        /// Bytes copied out of half-dead segments.
        compacted_bytes: counter("estuary_blockstore_compacted_bytes_total"),
        /// Bytes of segment files given back to the file system.
        removed_bytes: counter("estuary_blockstore_removed_bytes_total"),
        /// Syncs, each for all that was written by then.
        syncs: counter("estuary_blockstore_syncs_total"),
        /// Time a sync takes, in seconds.
        sync_seconds: histogram("estuary_blockstore_sync_seconds"),
        /// Bytes of the segment files.
        disk_bytes: gauge("estuary_blockstore_disk_bytes"),
        /// Bytes of blocks that no pin covers.
        cached_bytes: gauge("estuary_blockstore_cached_bytes"),
        /// Bytes free on the file system of the segments.
        free_bytes: gauge("estuary_blockstore_free_bytes"),
    }
}
