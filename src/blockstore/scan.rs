//! The records of a segment file, one after the other.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, HEADER_BYTES, Header, Key, RECORD_BYTES_MAX};

/// Bytes read at once: at least one record of any size.
const WINDOW_BYTES: usize = 2 * RECORD_BYTES_MAX;

/// A record that is intact.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offset: u32,
    pub(super) key: Key,
    pub(super) data: Bytes,
}

/// Goes through a file. What is damaged is skipped up to the next record that is intact.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<File>,
    at: u32,
    end: u32,
    window: Bytes,
    window_at: u32,
}

impl Scan {
    pub(super) fn new(file: Arc<File>, end: u32) -> Self {
        Self { file, at: 0, end, window: Bytes::new(), window_at: 0 }
    }

    /// The next record. Blocks.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        while self.at < self.end {
            let bytes = self.peek(HEADER_BYTES)?;
            if let Some(header) = Header::parse(&bytes) {
                let length = header.record_bytes();
                let whole = self.peek(length as usize)?;
                if let Some((key, data)) = record::open(&whole) {
                    let offset = self.at;
                    self.at += length;
                    return Ok(Some(Found { offset, key, data }));
                }
            }
            self.at += 1;
        }
        Ok(None)
    }

    /// Up to `length` bytes from where it is.
    fn peek(&mut self, length: usize) -> io::Result<Bytes> {
        let length = length.min((self.end - self.at) as usize);
        let from = (self.at - self.window_at) as usize;
        if from + length > self.window.len() {
            let mut window = vec![0; WINDOW_BYTES.min((self.end - self.at) as usize)];
            let mut read = 0;
            while read < window.len() {
                match self.file.read_at(&mut window[read..], u64::from(self.at) + read as u64) {
                    Ok(0) => break,
                    Ok(n) => read += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            window.truncate(read);
            if read == 0 {
                // The file is shorter than it should be.
                self.end = self.at;
            }
            self.window = window.into();
            self.window_at = self.at;
        }
        let from = (self.at - self.window_at) as usize;
        Ok(self.window.slice(from..self.window.len().min(from + length)))
    }
}
