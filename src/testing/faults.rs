//! A disk that fails when it is told to.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::db::Disk;

/// What is asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Reading.
    Read,
    /// Writing so many bytes.
    Write(usize),
    /// Changing the length to so many bytes.
    SetLen(u64),
    /// Syncing.
    Sync,
}

/// Decides, call by call, what fails.
pub type Rule = Arc<dyn Fn(Call) -> io::Result<()> + Send + Sync>;

/// A file before which stands a rule.
pub struct Faulty {
    file: File,
    rule: Rule,
}

impl Faulty {
    /// The file behind this rule.
    #[must_use]
    pub fn new(file: File, rule: Rule) -> Self {
        Self { file, rule }
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}

impl Disk for Faulty {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        (self.rule)(Call::Read)?;
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        (self.rule)(Call::Write(data.len()))?;
        self.file.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (self.rule)(Call::SetLen(len))?;
        Disk::set_len(&self.file, len)
    }

    fn sync(&self) -> io::Result<()> {
        // The kernel's own copy is enough here.
        (self.rule)(Call::Sync)
    }
}
