//! Whatever happens to the agent, a service's calls go as they would have gone directly.
//!
//! One fault a test, under load, with direct traffic as the oracle: what a call comes to through Moxie must be what a call could
//! come to without it, save what `docs/differences.md` lists. `MOXIE_LONG` (seconds) makes the waits longer.

mod containers;
mod descriptors;
mod ending;
mod flood;
mod foreign;
mod load;
mod memory;
mod namespace;
mod refused;
mod short;
mod upgrade;
