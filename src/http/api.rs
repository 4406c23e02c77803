//! The API: the same rooms for programs with a key and for the operator.

pub mod operator;
