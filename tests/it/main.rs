//! Integration tests: the real program, real sockets, an upstream of ours.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod configuration;
mod delivery;
mod durability;
mod isolation;
mod preparation;
mod structure;
mod submission;
