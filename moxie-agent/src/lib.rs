//! Moxie: diverts the outbound calls of chosen services on one Linux host, and passes them on or answers them by rules.
//!
//! The way of one connection is the way through [`datapath`]:
//! accept -> original destination -> sniff -> decide -> act -> record. Around it: [`divert`] (how connections get here),
//! [`scope`] (whose), [`rules`] (what to do), [`http1`] (its bytes), [`tls`] and [`upstream`] (the two sides), [`journal`] and [`store`] (what remains),
//! [`admin`] and [`cli`] (how people talk to it), [`app`] (wiring).

pub mod admin;
pub mod app;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod datapath;
pub mod descriptors;
pub mod divert;
pub mod drain;
pub mod events;
pub mod handover;
pub mod http1;
pub mod journal;
pub mod namespace;
pub mod netlink;
pub mod paths;
pub mod peek;
pub mod rulebook;
pub mod rules;
pub mod scope;
pub mod sock_diag;
pub mod socket_options;
pub mod store;
pub mod switchboard;
pub mod telemetry;
pub mod tls;
pub mod turn;
pub mod ui;
pub mod unused;
pub mod upstream;
