//! End to end, in network namespaces.
fn main() {}
