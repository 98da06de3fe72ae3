//! Leaves by name: bounded, and minted once however many connections ask at the same time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::authority::{Authority, AuthorityError, Leaf, display_name};
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// A leaf this close to its end is minted again, so that none ends between the lookup and the handshake, not even for an application
/// whose clock runs ahead by most of a day.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(24);

/// The cache.
#[derive(Debug)]
pub struct LeafCache {
    authority: Arc<Authority>,
    leaves: Cache<String, Cached>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

#[derive(Clone, Debug)]
struct Cached {
    certified: Arc<CertifiedKey>,
    renew_at: Timestamp,
}

impl LeafCache {
    /// A cache of at most `capacity` leaves.
    #[must_use]
    pub fn new(authority: Arc<Authority>, capacity: usize, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self { authority, leaves: Cache::new(capacity), metrics, clock }
    }

    /// The leaf for `name`, from the cache unless it is missing or near its end. Minting runs off the data path's threads.
    ///
    /// # Errors
    /// As [`Authority::mint`]. An error is told to the caller that met it and not kept.
    pub async fn leaf(&self, name: &ServerName<'static>) -> Result<Arc<CertifiedKey>, Arc<AuthorityError>> {
        let now = self.clock.now();
        self.leaf_or(name, now, self.mint(name.clone(), now)).await.map_err(Arc::new)
    }

    async fn leaf_or(
        &self,
        name: &ServerName<'static>,
        now: Timestamp,
        mint: impl Future<Output = Result<Leaf, AuthorityError>>,
    ) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let key = display_name(name);
        if let Some(cached) = self.leaves.get(&key) {
            if now < cached.renew_at {
                return Ok(cached.certified);
            }
            // Only what is still old: another caller may have renewed it since the look above.
            self.leaves.remove_if(&key, |cached| cached.renew_at <= now);
        }
        let cached = self.leaves.get_or_insert_async(&key, async { mint.await.map(|leaf| cache_entry(leaf, now)) });
        cached.await.map(|cached| cached.certified)
    }

    async fn mint(&self, name: ServerName<'static>, now: Timestamp) -> Result<Leaf, AuthorityError> {
        let authority = Arc::clone(&self.authority);
        let shown = display_name(&name);
        let began = Instant::now();
        let minted = tokio::task::spawn_blocking(move || authority.mint(&name, now)).await;
        self.metrics.minted(began.elapsed());
        minted.unwrap_or_else(|source| Err(AuthorityError::Interrupted { name: shown, source }))
    }
}

/// A leaf cut short by the end of its authority is used for half of the time it has, not minted anew for every connection.
fn cache_entry(leaf: Leaf, now: Timestamp) -> Cached {
    let half = leaf.not_after.duration_since(now) / 2;
    Cached { renew_at: leaf.not_after - half.min(RENEW_BEFORE), certified: leaf.certified }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn name(name: &str) -> ServerName<'static> {
        ServerName::try_from(name.to_owned()).unwrap()
    }

    fn cache(capacity: usize) -> (Arc<LeafCache>, Arc<Mutex<Timestamp>>) {
        let now = Arc::new(Mutex::new(Timestamp::now()));
        let told = Arc::clone(&now);
        let clock = Clock::from_fn(move || *told.lock().unwrap());
        (Arc::new(LeafCache::new(Arc::new(Authority::ephemeral().unwrap()), capacity, Arc::default(), clock)), now)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_that_ask_at_once_get_one_mint() {
        let (cache, now) = cache(8);
        let (minted, now) = (Arc::new(AtomicUsize::new(0)), *now.lock().unwrap());
        let asks: Vec<_> = (0..64)
            .map(|_| (Arc::clone(&cache), Arc::clone(&minted)))
            .map(|(cache, minted)| {
                tokio::spawn(async move {
                    let mint = async {
                        minted.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        cache.mint(name("a.example"), now).await
                    };
                    cache.leaf_or(&name("A.example."), now, mint).await.unwrap()
                })
            })
            .collect();
        let mut leaves = Vec::new();
        for ask in asks {
            leaves.push(ask.await.unwrap());
        }
        assert_eq!(minted.load(Ordering::SeqCst), 1);
        assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
    }

    #[tokio::test]
    async fn a_leaf_is_minted_again_near_its_end() {
        let (cache, now) = cache(8);
        let first = cache.leaf(&name("a.example")).await.unwrap();
        *now.lock().unwrap() += SignedDuration::from_hours(4 * 24 - 1);
        assert!(Arc::ptr_eq(&first, &cache.leaf(&name("a.example")).await.unwrap()));
        *now.lock().unwrap() += SignedDuration::from_hours(1);
        let second = cache.leaf(&name("a.example")).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &cache.leaf(&name("a.example")).await.unwrap()));
    }

    #[tokio::test]
    async fn the_last_leaves_of_an_authority_are_cached_too() {
        let (cache, now) = cache(8);
        *now.lock().unwrap() += SignedDuration::from_hours(2 * 365 * 24 - 4);
        let first = cache.leaf(&name("a.example")).await.unwrap();
        *now.lock().unwrap() += SignedDuration::from_hours(1);
        assert!(Arc::ptr_eq(&first, &cache.leaf(&name("a.example")).await.unwrap()));
    }

    #[tokio::test]
    async fn no_more_than_the_capacity_is_kept() {
        let (cache, _) = cache(16);
        for host in 0..100 {
            cache.leaf(&name(&format!("{host}.example"))).await.unwrap();
        }
        assert!((1..=16).contains(&cache.leaves.len()), "{}", cache.leaves.len());
    }

    #[tokio::test]
    async fn an_error_is_not_kept() {
        let (cache, now) = cache(8);
        let start = *now.lock().unwrap();
        *now.lock().unwrap() += SignedDuration::from_hours(3 * 365 * 24);
        let error = cache.leaf(&name("a.example")).await.unwrap_err();
        assert!(matches!(*error, AuthorityError::Expired { .. }));
        *now.lock().unwrap() = start;
        cache.leaf(&name("a.example")).await.unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_mint_to_the_next() {
        let (cache, now) = cache(8);
        let now = *now.lock().unwrap();
        let asked = name("a.example");
        let gone = cache.leaf_or(&asked, now, std::future::pending());
        assert!(futures_util::FutureExt::now_or_never(gone).is_none());
        cache.leaf(&name("a.example")).await.unwrap();
    }
}
