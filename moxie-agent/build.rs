//! Builds and embeds the kernel object.

fn main() {}
