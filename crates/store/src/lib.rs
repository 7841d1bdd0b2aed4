//! The append-only message log, its indexes, live tails and the blobs' bytes
