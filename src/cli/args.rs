//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

/// An IPFS gateway in one binary: serves, imports and pins content.
#[derive(Debug, Parser)]
#[command(name = "estuary", version, about, max_term_width = 100)]
pub struct Args {
    /// Where the node keeps its data [default: the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The configuration file [default: config.toml in the data directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Never touch the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; without it, serve
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (the default)
    Serve,
    /// Check the configuration and end
    CheckConfig,
    /// Add files and folders, and pin them
    Add(Add),
    /// Import a CAR file, and pin its whole roots
    Import(Import),
    /// Write a file or folder to disk; goes on with a file that is partly there
    Get(Get),
    /// Write a file to standard output
    Cat(Cat),
    /// List a directory
    Ls {
        /// A CID, or /ipfs/CID/path
        path: String,
    },
    /// Write a whole DAG as a CAR file (version 1)
    Export {
        /// A CID, or /ipfs/CID/path
        path: String,
        /// The file to write [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Look for providers of content, and print them as they are found
    Find {
        /// A CID
        cid: String,
    },
    /// List, add and remove pins
    Pin {
        /// What to do with pins
        #[command(subcommand)]
        command: Pin,
    },
    /// Drop cached blocks over the bound and give their space back
    Gc {
        /// Drop every block that no pin covers
        #[arg(long)]
        all: bool,
    },
    /// Check that the index, the pins and the segment files agree
    Fsck {
        /// Mend what can be mended; needs the store alone
        #[arg(long)]
        repair: bool,
    },
    /// Hash every block again and name the bad ones
    Scrub,
    /// Show how many bytes went which way, and for which content
    Traffic {
        /// Days back from now, today included
        #[arg(long, default_value_t = 1, value_name = "DAYS")]
        days: u32,
        /// Roots shown, those with the most bytes
        #[arg(long, default_value_t = 20, value_name = "ROOTS")]
        limit: usize,
    },
    /// Copy the store to a new directory; the node may go on
    Backup {
        /// The directory to make
        dir: PathBuf,
    },
    /// Make, list and revoke API keys
    Key {
        /// What to do with keys
        #[command(subcommand)]
        command: Key,
    },
    /// Put, show and remove records of names (IPNS), and resolve names
    Name {
        /// What to do with names
        #[command(subcommand)]
        command: Name,
    },
    /// Say what the configured denylists block
    Denylist {
        /// What to do with them
        #[command(subcommand)]
        command: Denylist,
    },
    /// Sign a URL, so that it may be read until it expires
    Sign(Sign),
    /// Show the peers of the running node, connect with one, or part from one
    Swarm {
        /// What to do with peers
        #[command(subcommand)]
        command: Swarm,
    },
    /// Measure how far a peer is
    Ping(Ping),
    /// Say how the running node does
    Status,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Whether it makes sense where there is no store yet, and so makes one.
    #[must_use]
    pub fn makes_store(&self) -> bool {
        matches!(
            self,
            Self::Add(_)
                | Self::Import(_)
                | Self::Key { command: Key::Create { .. } }
                | Self::Name { command: Name::Put { .. } | Name::Publish { key: Some(_), .. } }
        )
    }

    /// Whether it reads content, which is fetched from others where it is not held here.
    #[must_use]
    pub fn fetches(&self) -> bool {
        matches!(self, Self::Cat(_) | Self::Get(_) | Self::Ls { .. } | Self::Export { .. })
    }
}

/// Options of `add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Files and folders; `-` or none for standard input
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How content becomes blocks: unixfs-v1-2025 or unixfs-v0-2015
    #[arg(long, default_value = "unixfs-v1-2025")]
    pub profile: String,
    /// How files are cut: size-N, N in bytes [default: the profile's]
    #[arg(long, value_name = "size-N")]
    pub chunker: Option<String>,
    /// What to call it in the list of uploads [default: the file's name]
    #[arg(long)]
    pub name: Option<String>,
}

/// Options of `import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// CAR files; `-` or none for standard input
    #[arg(value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Do not pin the roots
    #[arg(long)]
    pub no_pin: bool,
}

/// Options of `get`.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// A CID, or /ipfs/CID/path
    pub path: String,
    /// Where to write [default: the last name of the path, here]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
}

/// Options of `cat`.
#[derive(Debug, clap::Args)]
pub struct Cat {
    /// A CID, or /ipfs/CID/path
    pub path: String,
    /// First byte to write
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub offset: u64,
    /// How many bytes to write [default: to the end]
    #[arg(long, value_name = "BYTES")]
    pub length: Option<u64>,
}

/// What can be done with pins.
#[derive(Debug, Subcommand)]
pub enum Pin {
    /// List pins
    Ls,
    /// Pin a DAG that the store holds whole
    Add {
        /// CIDs
        #[arg(required = true)]
        cids: Vec<String>,
    },
    /// Remove pins; their blocks go when space is wanted
    Rm {
        /// CIDs
        #[arg(required = true)]
        cids: Vec<String>,
    },
}

/// What can be done with denylists.
#[derive(Debug, Subcommand)]
pub enum Denylist {
    /// Say whether something is blocked, and by which line
    Check {
        /// /ipfs/CID/path or /ipns/NAME/path, a CID, or a name
        path: String,
    },
}

/// Options of `sign`.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// A URL of the gateway, or /ipfs/CID/path
    #[arg(value_name = "URL")]
    pub url: String,
    /// For how long it holds, such as 90s, 15m, 1h or 7d
    #[arg(long, value_name = "TIME")]
    pub expires: String,
    /// The key that signs [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Sign a directory with all below it
    #[arg(long)]
    pub prefix: bool,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key; its text is shown once
    Create {
        /// What it may do: upload, user or admin
        #[arg(long, default_value = "user")]
        scope: String,
        /// What to call it
        #[arg(long, default_value = "")]
        label: String,
        /// How many days it lasts [default: until it is revoked]
        #[arg(long, value_name = "DAYS")]
        days: Option<u32>,
    },
    /// List keys
    Ls,
    /// End a key at once
    Revoke {
        /// The key's id, or its text
        key: String,
    },
}

/// What can be done with names.
#[derive(Debug, Subcommand)]
pub enum Name {
    /// Keep a signed record, so that its name resolves here
    Put {
        /// The name: k51…, 12D3…, or another form of the key
        name: String,
        /// The record's file; `-` for standard input
        file: PathBuf,
    },
    /// Sign what a name stands for, and publish it: by the node's own key, or another
    Publish {
        /// /ipfs/CID/path, or /ipns/NAME
        path: String,
        /// A private key: libp2p's protobuf, as `ipfs key export` writes it
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// For how long the record holds, such as 48h or 7d
        #[arg(long, default_value = "48h", value_name = "TIME")]
        lifetime: String,
        /// For how long others may keep it before they ask again, such as 5m
        #[arg(long, default_value = "5m", value_name = "TIME")]
        ttl: String,
    },
    /// Write a record as it is
    Get {
        /// The name
        name: String,
        /// The file to write [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List records: name, sequence, end, value
    Ls,
    /// Forget a record, its sequence too
    Rm {
        /// The name
        name: String,
    },
    /// Say what content a name stands for
    Resolve {
        /// A name: a key, or a domain with a DNSLink
        name: String,
    },
}

/// What can be done with peers.
#[derive(Debug, Subcommand)]
pub enum Swarm {
    /// List the peers connected, the most valuable first
    Peers {
        /// Show what each speaks as well
        #[arg(short, long)]
        verbose: bool,
    },
    /// Connect with a peer; private addresses may be named
    Connect {
        /// An address with the peer's id, /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…, or its id alone
        address: String,
    },
    /// End the connections with a peer
    Disconnect {
        /// Its peer id, or an address with it
        peer: String,
    },
}

/// Options of `ping`.
#[derive(Debug, clap::Args)]
pub struct Ping {
    /// A peer id, or an address with it
    #[arg(value_name = "PEER")]
    pub peer: String,
    /// How many times
    #[arg(short = 'n', long, default_value_t = 5, value_name = "TIMES",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [["estuary", "--json", "status"], ["estuary", "status", "--json"]] {
            let args = Args::try_parse_from(line).unwrap();
            assert!(args.json && matches!(args.command, Some(Command::Status)));
        }
        assert!(Args::try_parse_from(["estuary"]).unwrap().command.is_none());
    }
}
