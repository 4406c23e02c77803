//! Stories: a real node on loopback, spoken to as anyone would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are all tests")]

mod api;
mod command;
mod config;
mod console;
mod denylist;
mod dht;
#[path = "../../src/testing/dns.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is the fake of the unit tests")]
mod dns_server;
mod encoding;
mod harness;
mod hosts;
mod keys;
mod limits;
mod listeners;
mod metrics;
mod names;
mod network;
mod operator;
mod shutdown;
mod signed;
mod swarm;
mod tls;
mod upload;
