//! A seeded network in virtual time around the real engine.
