//! Hop-layer cryptography: peer keys, key schedule, signatures, metadata encryption, replay windows.
