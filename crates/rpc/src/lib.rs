//! mux-rpc: packets, sessions, method registry and client
