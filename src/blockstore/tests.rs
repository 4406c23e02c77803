//! Tests of the store: what it promises, whatever happens.

mod basics;
mod check;
mod crash;
mod faults;
mod fixture;
mod model;
mod races;
