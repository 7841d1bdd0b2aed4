//! Starts the JavaScript peers and clients that the tests talk to.
