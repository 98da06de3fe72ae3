//! What the agent tells the kernel half at run time (heartbeat, switches) and what that counts.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::Ebpf as Object;
use aya::maps::{Array, MapData, PerCpuArray};
use moxie_common::{Control, Counter, names};
use nix::time::{ClockId, clock_gettime};

use super::{EbpfOptions, load, lock};
use crate::divert::DivertError;

/// The control element and the counters.
pub(super) struct Controls {
    element: Mutex<Element>,
    enabled: AtomicBool,
    counters: PerCpuArray<MapData, u64>,
    first_port: u16,
}

struct Element {
    value: Control,
    map: Array<MapData, Control>,
}

impl Element {
    fn write(&mut self, change: impl FnOnce(&mut Control)) -> Result<(), DivertError> {
        let mut value = self.value;
        change(&mut value);
        self.map.set(0, value, 0).map_err(|source| DivertError::Map {
            operation: "write",
            map: names::CONTROL,
            source: source.into(),
        })?;
        self.value = value;
        Ok(())
    }
}

impl Controls {
    /// Switched on, and not beating yet.
    pub(super) fn new(
        object: &mut Object,
        options: &EbpfOptions,
        first_port: u16,
        agent_cgroup: u64,
    ) -> Result<Self, DivertError> {
        let map = load::take_map(object, names::CONTROL)?;
        let counters = load::take_map(object, names::COUNTERS)?;
        let mut element = Element { value: Control::default(), map };
        element.write(|control| {
            control.max_age_ns = u64::try_from(options.max_beat_age.as_nanos()).unwrap_or(u64::MAX);
            control.enabled = 1;
            control.agent_cgroup = agent_cgroup;
            control.first_port = first_port.into();
            control.handshakes = room(options.handshakes);
        })?;
        Ok(Self { element: Mutex::new(element), enabled: AtomicBool::new(true), counters, first_port })
    }

    pub(super) fn beat(&self) -> Result<(), DivertError> {
        let now = monotonic_ns();
        lock(&self.element).write(|control| control.last_beat_ns = now)
    }

    /// As if there had never been a beat.
    pub(super) fn rest(&self) -> Result<(), DivertError> {
        lock(&self.element).write(|control| control.last_beat_ns = 0)
    }

    pub(super) fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        let mut element = lock(&self.element);
        element.write(|control| control.enabled = enabled.into())?;
        self.enabled.store(enabled, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a generation of the address lists the one that counts.
    pub(super) fn set_lists(&self, generation: u32, unlisted: u32) -> Result<(), DivertError> {
        lock(&self.element).write(|control| {
            control.generation = generation;
            control.unlisted = unlisted;
        })
    }

    /// Makes a generation of hints the one that counts.
    pub(super) fn set_hints(&self, generation: u64) -> Result<(), DivertError> {
        lock(&self.element).write(|control| control.hints = generation)
    }

    /// How many handshakes the agent has taken out of their map so far.
    pub(super) fn set_forgotten(&self, forgotten: u64) -> Result<(), DivertError> {
        lock(&self.element).write(|control| control.forgotten = forgotten)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(super) fn first_port(&self) -> u16 {
        self.first_port
    }

    /// The sum over all CPUs; 0 if the map cannot be read, which cannot happen for an index in range.
    pub(super) fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |counts| counts.iter().sum())
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").field("control", &lock(&self.element).value).finish_non_exhaustive()
    }
}

/// Whether an agent that says so diverts, as the kernel half looks at it.
pub(super) fn diverts(control: &Control) -> bool {
    control.enabled != 0 && monotonic_ns().saturating_sub(control.last_beat_ns) <= control.max_age_ns
}

/// How many handshakes are let begin where there is room for `size`: the rest is for those that begin at the same moment, or were
/// forgotten and go on after all.
fn room(size: u32) -> u64 {
    u64::from(size - size / 16)
}

/// The lower half of the same clock in milliseconds.
pub(super) fn monotonic_ms() -> u32 {
    let milliseconds = monotonic_ns() / 1_000_000;
    u32::try_from(milliseconds & u64::from(u32::MAX)).unwrap_or_default()
}

/// The clock that `bpf_ktime_get_ns` reads; it stands still while the host is suspended, as the agent does.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
