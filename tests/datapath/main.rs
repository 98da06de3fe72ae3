//! The whole agent on loopback with real peers and a way on path that needs no kernel half, so no root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "a test program is nobody's library")]

mod agent;
mod answers;
mod clear;
mod floods;
mod frames;
mod grpc;
mod http2;
mod late;
mod origin;
mod proxied;
mod relay;
mod secure;
mod unsound;
