//! The front door.

pub mod api;
pub mod auth;
mod console;
