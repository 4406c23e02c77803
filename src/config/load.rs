//! Assembling a configuration from its sources, so that every complaint names the key, the value
//! and where it was set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, Environment, check};

/// Keys whose values no complaint repeats.
const SECRET: &[&str] = &["gateway.signing_keys"];

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// By this environment variable.
    Variable(String),
    /// By this option of the command line.
    Option(&'static str),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Option(name) => f.write_str(name),
            Self::Default => f.write_str("by default"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value makes no sense.
    #[error("{key} = {value} ({origin}): {why}")]
    Value {
        /// The key, with its section.
        key: String,
        /// What it was set to.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file is not TOML.
    #[error("{}: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: toml::de::Error,
    },
    /// Nobody said where the data is.
    #[error("there is no HOME to keep data in: say where with --data-dir or ESTUARY_DATA_DIR")]
    NoDataDir,
}

/// What a command line says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The data directory.
    pub data_dir: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Whether the network is not to be touched.
    pub offline: bool,
}

/// A configuration, and what it is for.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
}

/// Reads the configuration of a process from its command line, its environment, and the file that
/// these name or that lies in the data directory.
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded, Error> {
    let data_dir = overrides
        .data_dir
        .clone()
        .or_else(|| environment.path("ESTUARY_DATA_DIR"))
        .or_else(|| environment.data_dir())
        .ok_or(Error::NoDataDir)?;
    let data_dir = std::path::absolute(&data_dir)
        .map_err(|error| Error::File { path: data_dir.clone(), error })?;
    let mut settings = Settings::default();
    match &overrides.config {
        Some(path) => settings.read_file(path)?,
        None => settings.read_file_if_there(&data_dir.join("config.toml"))?,
    }
    settings.read_environment(environment)?;
    if overrides.offline {
        settings.set("offline", [Value::Boolean(true)], Origin::Option("--offline"))?;
    }
    Ok(Loaded { config: settings.finish()?, data_dir })
}

/// A configuration that grows value by value; each must fit when it is set.
#[derive(Debug, Default)]
struct Settings {
    table: Table,
    config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Settings {
    fn read_file_if_there(&mut self, path: &Path) -> Result<(), Error> {
        match self.read_file(path) {
            Err(Error::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::File { path: path.to_owned(), error })?;
        let file: Table =
            text.parse().map_err(|error| Error::Syntax { path: path.to_owned(), error })?;
        for (name, value) in file {
            let origin = || Origin::File(path.to_owned());
            match value {
                Value::Table(section) => {
                    for (key, value) in section {
                        self.set(&format!("{name}.{key}"), [value], origin())?;
                    }
                }
                value => self.set(&name, [value], origin())?,
            }
        }
        Ok(())
    }

    /// `IPFS_NS_MAP`, `ESTUARY_SECTION__KEY`, and `ESTUARY_OFFLINE`. Others with our prefix are left alone: those
    /// who run containers set some of their own.
    fn read_environment(&mut self, environment: &Environment) -> Result<(), Error> {
        if let Some((variable, entries)) = environment.name_map() {
            let origin = Origin::Variable(variable.to_owned());
            self.set("routing.names", [list(&entries.to_string_lossy())], origin)?;
        }
        for (variable, name, value) in environment.own() {
            let name = name.to_ascii_lowercase();
            let key = match name.split_once("__") {
                Some((section, key)) => format!("{section}.{key}"),
                None if name == "offline" => name,
                None => continue,
            };
            // An empty list is one; of other keys nothing is said.
            if value.is_empty() && !self.is_list(&key) {
                continue;
            }
            let mut readings = readings(value);
            // Of a list, what is wrong with an item says most.
            if self.is_list(&key) {
                readings.retain(Value::is_array);
            }
            let origin = Origin::Variable(variable.to_owned());
            self.set(&key, readings, origin)?;
        }
        Ok(())
    }

    /// Whether the value of a key is a list.
    fn is_list(&self, key: &str) -> bool {
        let Ok(config) = Value::try_from(&self.config) else { return false };
        let mut at = Some(&config);
        for part in key.split('.') {
            at = at.and_then(|value| value.get(part));
        }
        at.is_some_and(Value::is_array)
    }

    /// Sets a key to the first of these values that fits it.
    fn set(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = Value>,
        origin: Origin,
    ) -> Result<(), Error> {
        let mut complaint = None;
        for value in values {
            let mut table = self.table.clone();
            put(&mut table, key, value.clone());
            match Value::Table(table.clone()).try_into() {
                Ok(config) => {
                    self.config = config;
                    self.table = table;
                    self.origins.insert(key.to_owned(), origin);
                    return Ok(());
                }
                // What is wrong with the likeliest reading says most.
                Err(error) => {
                    complaint.get_or_insert((value, error));
                }
            }
        }
        let Some((value, error)) = complaint else { return Ok(()) };
        let why = error.message().to_owned();
        let value = if SECRET.contains(&key) { "…".to_owned() } else { value.to_string() };
        Err(Error::Value { key: key.to_owned(), value, origin, why })
    }

    fn finish(self) -> Result<Config, Error> {
        check::check(&self.config).map_err(|wrong| {
            let origin = self.origins.get(wrong.key).cloned().unwrap_or(Origin::Default);
            Error::Value { key: wrong.key.into(), value: wrong.value, origin, why: wrong.why }
        })?;
        Ok(self.config)
    }
}

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, key)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), value);
            }
        }
    }
}

/// What the text of a variable may mean, the likeliest first.
fn readings(text: &OsString) -> Vec<Value> {
    let text = text.to_string_lossy();
    let mut readings = Vec::new();
    if let Ok(number) = text.parse() {
        readings.push(Value::Integer(number));
    }
    match &*text {
        "1" | "true" => readings.push(Value::Boolean(true)),
        "0" | "false" => readings.push(Value::Boolean(false)),
        _ => {}
    }
    readings.push(Value::String(text.clone().into_owned()));
    readings.push(list(&text));
    readings
}

/// What stands between commas.
fn list(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| Value::String(item.to_owned())).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests;
