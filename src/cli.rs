//! The commands: each is a call to the running node over its unix socket or, where none runs, to
//! the same service over a store opened for the one task.
//!
//! Standard output carries results only; everything else goes to standard error.

mod add;
pub mod args;
mod client;
mod denylist;
mod error;
mod find;
mod get;
mod keep;
mod key;
mod name;
mod output;
mod read;
mod sign;
mod swarm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::Config;
use args::{Args, Command, Denylist};
pub use client::{Local, Node};
pub use error::{Error, exit};
use output::Output;

/// What a command line asks the process to be.
#[derive(Debug)]
pub enum Asked {
    /// A node that serves until it is told to stop.
    Serve(Box<Args>),
    /// A check of the configuration.
    CheckConfig(Box<Args>),
    /// One command against a node.
    Command(Box<Args>),
    /// Nothing more: help, a version, completions or a usage error were printed.
    Done(ExitCode),
}

/// Reads a command line. What needs no node is answered at once.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Asked {
    let args = match Args::try_parse_from(line) {
        Ok(args) => Box::new(args),
        Err(told) => {
            // Help and version go to standard output, errors to standard error.
            let printed = told.print();
            return Asked::Done(match (told.exit_code(), printed) {
                (0, Ok(())) => ExitCode::SUCCESS,
                _ => ExitCode::from(error::USAGE),
            });
        }
    };
    match &args.command {
        None | Some(Command::Serve) => Asked::Serve(args),
        Some(Command::CheckConfig) => Asked::CheckConfig(args),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "estuary", &mut script);
            Asked::Done(error::exit(&Output::new(false).bytes(&script)))
        }
        Some(_) => Asked::Command(args),
    }
}

/// Runs a command that needs the configuration alone, and says how the process ends; `None` for
/// others.
#[must_use]
pub fn run_alone(args: &Args, config: &Config) -> Option<ExitCode> {
    let out = Output::new(args.json);
    let outcome = match args.command.as_ref()? {
        Command::Denylist { command: Denylist::Check { path } } => {
            denylist::check(config, path, out)
        }
        Command::Sign(asked) => sign::sign(config, asked, out),
        _ => return None,
    };
    Some(error::exit(&outcome))
}

/// Runs a command against `node` and says how the process ends.
pub async fn run(args: Args, node: Node) -> ExitCode {
    error::exit(&dispatch(args, &node).await)
}

async fn dispatch(args: Args, node: &Node) -> Result<(), Error> {
    let out = Output::new(args.json);
    match args.command.unwrap_or(Command::Serve) {
        Command::Add(options) => add::add(node, &options, out).await,
        Command::Import(options) => add::import(node, &options, out).await,
        Command::Cat(options) => read::cat(node, &options, out).await,
        Command::Ls { path } => read::ls(node, &path, out).await,
        Command::Export { path, output } => read::export(node, &path, output, out).await,
        Command::Get(options) => get::get(node, &options, out).await,
        Command::Find { cid } => find::find(node, &cid, out).await,
        Command::Pin { command } => keep::pin(node, command, out).await,
        Command::Gc { all } => keep::gc(node, all, out).await,
        Command::Fsck { repair } => keep::fsck(node, repair, out).await,
        Command::Scrub => keep::scrub(node, out).await,
        Command::Backup { dir } => keep::backup(node, &dir, out).await,
        Command::Key { command } => key::key(node, command, out).await,
        Command::Name { command } => name::name(node, command, out).await,
        Command::Swarm { command } => swarm::swarm(node, command, out).await,
        Command::Ping(asked) => swarm::ping(node, &asked, out).await,
        Command::Status => keep::status(node, out).await,
        // These need no node, and went elsewhere.
        Command::Serve | Command::CheckConfig | Command::Completions { .. } => Ok(()),
        Command::Denylist { .. } | Command::Sign(_) => Ok(()),
    }
}

/// A path in the file system that a person gave, made absolute for a node that runs elsewhere.
fn absolute(path: &std::path::Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| Error::file(path, error))
}
