//! The session engine: classification, handshake, rewrite and expiry, free of I/O.
