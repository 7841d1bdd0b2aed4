//! The `sbot` command.

fn main() {}
