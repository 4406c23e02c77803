//! CAR files: blocks in a row, each with its CID, behind a header that names the roots.

mod read;
pub mod walk;
mod write;

pub use read::{CarEvent, CarReader, Header, Limits, Unverified};
pub use write::{header_v1, put_section_prefix, section_bytes, section_prefix};

/// Longest CAR header we read, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most roots we read.
pub const ROOTS_MAX: usize = 32;
