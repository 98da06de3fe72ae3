//! The whole agent on loopback with real peers and a way on path that needs no kernel half, so no root.

mod agent;
mod clear;
mod origin;
mod secure;
