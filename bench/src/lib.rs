//! What the benchmarks and the soak share: figures, and what `/proc` says about processors and processes.
//!
//! Three programs stand on it: `bench` (targets side by side), `load` (what makes the traffic and measures it) and `soak`
//! (mixed traffic with faults). `cargo xtask bench` and `cargo xtask soak` build and run them.

pub mod figures;
pub mod processes;
pub mod processors;
pub mod report;
