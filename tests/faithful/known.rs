//! The differences that are known, each where it is seen and as what; `docs/differences.md` tells users of each by its id.

use crate::script::Layer;
use crate::stage::Tier;

/// One difference at one place.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its row in `docs/differences.md`.
    pub id: &'static str,
    pub case: &'static str,
    pub layers: &'static [Layer],
    pub tiers: &'static [Tier],
    /// Exactly what is seen.
    pub what: &'static [&'static str],
}

impl Known {
    /// Whether this is about a cell of the table.
    pub fn is_at(&self, case: &str, layer: Layer, tier: Tier) -> bool {
        self.case == case && self.layers.contains(&layer) && self.tiers.contains(&tier)
    }
}

const ON_PATH: &[Tier] = &[Tier::Passed, Tier::Interpreted];
const FIRED: &[Tier] = &[Tier::Fired];
const LOOKED_INTO: &[Tier] = &[Tier::Interpreted];
const ANY: &[Layer] = &[Layer::Clear, Layer::Secret];
const CLEAR: &[Layer] = &[Layer::Clear];
const SECRET: &[Layer] = &[Layer::Secret];

/// The destination is reached only when there is something to ask of it.
const WAITS: &str = "origin: silence instead of \"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00\"";

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        id: "connect-succeeds",
        case: "connection-refused",
        layers: CLEAR,
        tiers: ON_PATH,
        what: &["client: Reset instead of ConnectionRefused"],
    },
    Known {
        id: "asked-first",
        case: "answered-after-a-body",
        layers: SECRET,
        tiers: FIRED,
        what: &["origin: 2 connections instead of 1 connections"],
    },
    Known {
        id: "asked-first",
        case: "answered-head",
        layers: SECRET,
        tiers: FIRED,
        what: &["origin: 2 connections instead of 1 connections"],
    },
    Known {
        id: "h2-introduction",
        case: "h2-client-that-waits-for-settings",
        layers: CLEAR,
        tiers: &[Tier::Passed],
        what: &[WAITS],
    },
    Known {
        id: "h2-introduction",
        case: "h2-client-that-waits-for-settings",
        layers: ANY,
        tiers: LOOKED_INTO,
        what: &[WAITS],
    },
];
