//! The process' environment, and the platform's place for data.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variables of a process, as an argument, so that nothing below `main` asks for
/// them.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let named = |(name, value): (OsString, _)| Some((name.into_string().ok()?, value));
        Self(variables.into_iter().filter_map(named).collect())
    }
}

impl Environment {
    /// The path in a variable, unless it is absent or empty.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The variables of ours, with their values, without the prefix.
    pub(super) fn own(&self) -> impl Iterator<Item = (&str, &str, &OsString)> {
        self.0.iter().filter_map(|(name, value)| {
            let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
            prefix.eq_ignore_ascii_case(PREFIX).then_some((name.as_str(), rest, value))
        })
    }

    /// The names that other gateways take from the environment as well, and their variable.
    pub(super) fn name_map(&self) -> Option<(&str, &OsString)> {
        let (name, value) = self.0.get_key_value(NAME_MAP)?;
        (!value.is_empty()).then_some((name.as_str(), value))
    }

    /// Where this platform keeps a user's data.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        if cfg!(target_os = "macos") {
            return Some(self.path("HOME")?.join("Library/Application Support/estuary"));
        }
        // A relative one is to be ignored, says the XDG specification.
        let data = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        Some(data.or(self.path("HOME").map(|home| home.join(".local/share")))?.join("estuary"))
    }
}

/// What the names of our variables begin with.
const PREFIX: &str = "ESTUARY_";
/// Names and what they stand for, with commas between.
const NAME_MAP: &str = "IPFS_NS_MAP";
