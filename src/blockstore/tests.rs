//! Tests of the store: what it promises, whatever happens.

mod basics;
mod fixture;
