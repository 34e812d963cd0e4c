//! The service and tenant FIB: immutable snapshots that decide every session.
