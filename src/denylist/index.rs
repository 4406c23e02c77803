//! The rules of one list in little memory: 20 bytes for each that names one thing, so that ten
//! million of them take 200 MB and one is found in a few reads of memory.

use super::keys::{Key, Question, key_of, prefix_subject};
use super::line::{Reach, Rule, Subject, Verdict};

/// Lines of a list: what a mark can count.
pub(super) const LINES_MAX: u32 = (1 << 30) - 1;
/// Rules that share the first bits of their key, on the average.
const RULES_PER_BUCKET: usize = 8;

/// Which line says what: later lines are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u32);

impl Mark {
    fn new(line: u32, verdict: Verdict) -> Self {
        Self(line << 2 | verdict as u32)
    }

    pub(super) fn line(self) -> u32 {
        self.0 >> 2
    }

    pub(super) fn verdict(self) -> Verdict {
        match self.0 & 3 {
            0 => Verdict::Allowed,
            1 => Verdict::Gone,
            _ => Verdict::Legal,
        }
    }
}

/// A rule that names one thing.
#[derive(Debug, Clone, Copy)]
struct Exact {
    key: Key,
    mark: Mark,
}

/// A rule about all paths of a subject that begin so.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    subject: Key,
    /// Where its text is among the texts.
    from: u32,
    length: u32,
    mark: Mark,
}

/// Kinds of rules that a list has, and so what must be worked out of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Some hold all of a subject: `/*`.
    pub(super) whole: bool,
    /// Some hold paths by how they begin.
    pub(super) prefixes: bool,
    /// Hash functions of those that hold hashes of multihashes.
    pub(super) functions: Vec<u64>,
    /// Some hold hashes of CIDs.
    pub(super) legacy: bool,
}

impl Kinds {
    /// Adds those of another list.
    pub(super) fn merge(&mut self, other: &Self) {
        self.whole |= other.whole;
        self.prefixes |= other.prefixes;
        self.legacy |= other.legacy;
        for function in &other.functions {
            self.function(*function);
        }
    }

    fn function(&mut self, code: u64) {
        if !self.functions.contains(&code) {
            self.functions.push(code);
        }
    }
}

/// Takes rules, in the order of their lines.
#[derive(Debug, Default)]
pub(super) struct Builder {
    exact: Vec<Exact>,
    prefixes: Vec<Prefix>,
    texts: Vec<u8>,
    kinds: Kinds,
}

impl Builder {
    /// Adds the rule of a line. The error says why it cannot be held.
    pub(super) fn add(&mut self, line: u32, rule: &Rule) -> Result<(), &'static str> {
        let mark = Mark::new(line, rule.verdict);
        match &rule.subject {
            Subject::Hashed(hash) => self.kinds.function(hash.code()),
            Subject::HashedLegacy(_) => self.kinds.legacy = true,
            _ => {}
        }
        match &rule.reach {
            Reach::Below(path) if !path.is_empty() => {
                let full = "the list's paths take more than 4 GiB";
                let from = u32::try_from(self.texts.len()).map_err(|_| full)?;
                let length = u32::try_from(path.len()).map_err(|_| full)?;
                self.texts.extend_from_slice(path.as_bytes());
                let subject = prefix_subject(&rule.subject);
                self.prefixes.push(Prefix { subject, from, length, mark });
                self.kinds.prefixes = true;
                return Ok(());
            }
            Reach::Below(_) => self.kinds.whole = true,
            Reach::Exactly(_) => {}
        }
        self.exact.push(Exact { key: key_of(&rule.subject, &rule.reach), mark });
        Ok(())
    }

    /// The rules, in the order in which they are searched.
    pub(super) fn finish(self) -> Index {
        let Self { mut exact, mut prefixes, mut texts, kinds } = self;
        // Of several about one thing the last one counts.
        exact.sort_unstable_by_key(|rule| (rule.key, std::cmp::Reverse(rule.mark)));
        exact.dedup_by_key(|rule| rule.key);
        exact.shrink_to_fit();
        prefixes.sort_unstable_by_key(|rule| (rule.subject, rule.mark));
        prefixes.shrink_to_fit();
        texts.shrink_to_fit();
        let bits = (exact.len() / RULES_PER_BUCKET).max(1).ilog2();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, rule) in exact.iter().enumerate() {
            while starts.len() <= bucket(&rule.key, bits) {
                starts.push(at as u32);
            }
        }
        starts.resize((1 << bits) + 1, exact.len() as u32);
        Index { exact, starts, bits, prefixes, texts, kinds }
    }
}

/// The first bits of a key, which are as good as random.
fn bucket(key: &Key, bits: u32) -> usize {
    let [a, b, c, d, ..] = *key;
    (u64::from(u32::from_be_bytes([a, b, c, d])) << bits >> 32) as usize
}

/// The rules of one list.
#[derive(Debug)]
pub(super) struct Index {
    /// By key; each key once.
    exact: Vec<Exact>,
    /// Where the rules with these first bits begin.
    starts: Vec<u32>,
    bits: u32,
    /// By subject.
    prefixes: Vec<Prefix>,
    texts: Vec<u8>,
    pub(super) kinds: Kinds,
}

impl Index {
    /// How many rules there are.
    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }

    /// The last line that says something of this.
    pub(super) fn find(&self, question: &Question<'_>) -> Option<Mark> {
        let exact = question.keys.iter().filter_map(|key| self.exact(key)).max();
        if !self.kinds.prefixes {
            return exact;
        }
        let subjects = question.subject.iter();
        let prefixes = subjects.filter_map(|key| self.prefix(key, &question.path)).max();
        exact.max(prefixes)
    }

    fn exact(&self, key: &Key) -> Option<Mark> {
        let bucket = bucket(key, self.bits);
        let range = *self.starts.get(bucket)? as usize..*self.starts.get(bucket + 1)? as usize;
        let rules = self.exact.get(range)?;
        let at = rules.binary_search_by_key(key, |rule| rule.key).ok()?;
        rules.get(at).map(|rule| rule.mark)
    }

    fn prefix(&self, subject: &Key, path: &str) -> Option<Mark> {
        let from = self.prefixes.partition_point(|rule| rule.subject < *subject);
        let own = self.prefixes.get(from..)?.iter().take_while(|rule| rule.subject == *subject);
        let begins = |rule: &&Prefix| {
            let range = rule.from as usize..(rule.from + rule.length) as usize;
            self.texts.get(range).is_some_and(|text| path.as_bytes().starts_with(text))
        };
        own.filter(begins).map(|rule| rule.mark).max()
    }
}
