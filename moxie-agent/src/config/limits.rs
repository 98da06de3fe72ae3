//! `[limits]`: how much the agent takes on before it lets new connections go direct.

use super::Problem;
use super::raw::Section;
use super::units::Size;

/// Connections at once unless set.
const CONNECTIONS: u64 = 16_384;
/// An agent does not start in less.
const LEAST_MEMORY: u64 = 32 << 20;

/// How much the agent takes on before it lets new connections go direct.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `connections`: how many may be open in the agent at once; 16384 unless set.
    pub connections: u64,
    /// `memory`: how much memory the agent may have, in bytes, if that is less than its cgroup may; no limit of its own unless set.
    pub memory: Option<u64>,
}

impl TryFrom<Section> for Limits {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let connections = raw.take("connections").unwrap_or(CONNECTIONS);
        let memory = raw.take("memory").map(|Size(bytes)| bytes);
        if connections == 0 {
            raw.refuse("connections", "must be at least 1; `moxie off` lets every connection go direct");
        }
        if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            raw.refuse("memory", "must be at least \"32MiB\"");
        }
        raw.finish(Self { connections, memory })
    }
}
