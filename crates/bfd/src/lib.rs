//! The RFC 5880 BFD state machine, free of I/O.
