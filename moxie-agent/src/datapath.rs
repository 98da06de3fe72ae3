//! The spine: one connection through the stages, in order.

pub mod sniff;
