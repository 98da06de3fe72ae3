//! TLS on both sides: the local authority and its leaves toward the application, verification toward the destination.

pub mod authority;
pub mod leaf_cache;
pub mod originate;
pub mod terminate;
pub mod trust;
