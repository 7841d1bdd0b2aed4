//! In-process nodes, networks and message generators for tests
