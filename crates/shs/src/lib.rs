//! Secret handshake and box stream
