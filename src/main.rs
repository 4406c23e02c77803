//! Estuary.

fn main() {}
