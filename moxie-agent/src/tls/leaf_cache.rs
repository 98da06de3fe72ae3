//! Leaves by name: bounded, and minted once however many connections ask at the same time.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use super::authority::{Authority, AuthorityError};
use crate::clock::Clock;

/// The cache.
#[derive(Debug)]
pub struct LeafCache {}

impl LeafCache {
    /// A cache of at most `capacity` leaves.
    #[must_use]
    pub fn new(authority: Arc<Authority>, capacity: usize, clock: Clock) -> Self {
        let _ = (authority, capacity, clock);
        todo!()
    }

    /// The leaf for `name`, from the cache unless it is missing or near its end. Minting runs off the data path's threads.
    ///
    /// # Errors
    /// As [`Authority::mint`].
    pub async fn leaf(&self, name: &ServerName<'static>) -> Result<Arc<CertifiedKey>, Arc<AuthorityError>> {
        let _ = name;
        todo!()
    }
}
