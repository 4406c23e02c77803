//! Stories: a real node on loopback, spoken to as anyone would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are all tests")]

mod api;
mod command;
mod config;
mod console;
mod encoding;
mod harness;
mod keys;
mod limits;
mod listeners;
mod metrics;
mod operator;
mod shutdown;
mod tls;
mod upload;
