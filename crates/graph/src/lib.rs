//! The social graph: follows, blocks, and hops from any root
