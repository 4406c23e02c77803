//! Names that the configuration fixes: no record and no DNS is asked about them.

use std::collections::HashMap;

use super::Error;
use super::name::{Name, Value};

/// Names and what they stand for.
#[derive(Debug, Clone, Default)]
pub struct NameMap(HashMap<Name, Value>);

impl NameMap {
    /// Reads entries of the form `name:/ipfs/{cid}[/path]` or `name:/ipns/{name}[/path]`.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        entries
            .into_iter()
            .map(|entry| Self::entry(entry.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn entry(text: &str) -> Result<(Name, Value), Error> {
        let wrong = |reason| Error::Malformed { name: text.into(), reason };
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| wrong("an entry is `name:/ipfs/…` or `name:/ipns/…`"))?;
        Ok((Name::parse(name.trim())?, Value::parse(value.trim()).map_err(wrong)?))
    }

    /// What a name stands for.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Value> {
        self.0.get(name)
    }
}
