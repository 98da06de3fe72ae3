//! The dice of `percentage`: the n-th draw of a rule depends on nothing but the seed, the rule and n, so a run can be repeated.

use super::spec::{Methods, RuleSpec};

/// What tells one rule's draws from another's; the same in every run and on every host.
pub(super) fn key(spec: &RuleSpec, seed: u64) -> u64 {
    let methods = match &spec.methods {
        Methods::Any => "*".to_owned(),
        Methods::These(methods) => methods.join(","),
    };
    let text = format!("{methods} {}", spec.url.source());
    // FNV-1a: stable, which the standard hasher does not promise to be.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mixed(hash ^ mixed(seed))
}

/// Whether draw `n` of the rule with `key` falls into `percentage`.
pub(super) fn falls(key: u64, n: u64, percentage: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    let share = (mixed(key.wrapping_add(n)) >> 11) as f64 / (1u64 << 53) as f64;
    share * 100.0 < percentage
}

/// The output step of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
