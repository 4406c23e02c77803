//! Lines of a body that arrives in pieces (NDJSON). Pure.

use bytes::{Buf, Bytes, BytesMut};

/// Longest line, in bytes; longer ones are passed over.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Parts a body into lines. It holds one line at most beyond what was fed last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: BytesMut,
    /// Up to where there is no end of line.
    looked: usize,
    /// Whether the line under way is too long.
    skips: bool,
    skipped: usize,
}

impl Lines {
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// The next line that is whole, without its end; empty ones are passed over.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.held[self.looked..]) else {
                self.looked = self.held.len();
                if self.looked > LINE_BYTES_MAX {
                    self.held.clear();
                    (self.looked, self.skips) = (0, true);
                }
                return None;
            };
            let line = self.held.split_to(self.looked + end);
            self.held.advance(1);
            self.looked = 0;
            if let Some(line) = self.kept(line) {
                return Some(line);
            }
        }
    }

    /// What stands behind the last end of a line.
    pub(super) fn last(&mut self) -> Option<Bytes> {
        let line = self.held.split();
        self.looked = 0;
        self.kept(line)
    }

    /// Lines that were too long.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    fn kept(&mut self, line: BytesMut) -> Option<Bytes> {
        if std::mem::take(&mut self.skips) || line.len() > LINE_BYTES_MAX {
            self.skipped += 1;
            return None;
        }
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        (!is_blank).then(|| line.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &[u8], piece_bytes: usize) -> (Vec<String>, usize) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in body.chunks(piece_bytes) {
            lines.feed(piece);
            while let Some(line) = lines.next() {
                found.push(String::from_utf8_lossy(&line).into_owned());
            }
            assert!(lines.held.len() <= LINE_BYTES_MAX + piece_bytes);
        }
        found.extend(lines.last().map(|line| String::from_utf8_lossy(&line).into_owned()));
        (found, lines.skipped())
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        for piece_bytes in 1..20 {
            let body = b"one\n\n  \r\ntwo\nthree";
            assert_eq!(
                lines(body, piece_bytes),
                (vec!["one".into(), "two".into(), "three".into()], 0)
            );
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_those_behind_it_count() {
        let mut body = vec![b'x'; 10 * LINE_BYTES_MAX];
        body.extend_from_slice(b"\ngood\n");
        for piece_bytes in [1000, 16 << 10, 1 << 20] {
            assert_eq!(lines(&body, piece_bytes), (vec!["good".into()], 1), "{piece_bytes}");
        }
        assert_eq!(lines(&body[..LINE_BYTES_MAX], 7).0.len(), 1);
    }
}
