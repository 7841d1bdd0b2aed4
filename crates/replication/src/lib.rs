//! Replication.
pub mod ebt;
