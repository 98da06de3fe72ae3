//! From argv to an exit code.

fn main() {}
