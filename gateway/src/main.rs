//! Arguments, config, tracing, signals, exit codes.
fn main() {}
