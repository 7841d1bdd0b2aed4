//! Multiserver addresses and transports
