//! Into the kernel: the host's fitness, the embedded object, its maps and its log.

use std::error::Error;
use std::fmt;

use aya::maps::{Array, Map, MapData, MapError};
use aya::{Ebpf as Object, EbpfLoader};
use aya_log::EbpfLogger;
use moxie_common::names;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::EbpfOptions;
use super::release::{Fitness, fitness};
use crate::divert::{DivertError, PortSet};

/// Global of the kernel half: lines of a level above this are not logged, and the verifier drops what makes them.
const LOG_LEVEL: &str = aya_log::LEVEL;
/// The map that log lines go through.
const LOG_MAP: &str = "AYA_LOGS";
/// The smallest ring the kernel makes, for when nothing is logged.
const SMALLEST_RING: u32 = 4096;

/// Refuses a kernel without the hooks, and makes room for maps on those that count them as locked memory (before 5.11).
pub(super) fn check_host() -> Result<(), DivertError> {
    check_release(&release())?;
    // Where this is refused, so is the loading that follows, with a message of its own.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    Ok(())
}

/// A release that cannot be compared is tried: what is missing then says so itself.
fn check_release(release: &str) -> Result<(), DivertError> {
    match fitness(release) {
        Fitness::TooOld => Err(DivertError::KernelTooOld { found: release.to_owned() }),
        Fitness::BestEffort | Fitness::Supported | Fitness::Unknown => Ok(()),
    }
}

/// Why the hook that copies DNS answers must not be attached here; `None` where it may be.
pub(super) fn hints_obstacle() -> Option<String> {
    hints_obstacle_of(&release())
}

fn hints_obstacle_of(release: &str) -> Option<String> {
    (fitness(release) != Fitness::Supported).then(|| {
        format!("Linux {release} is too old for DNS hints, which take 5.15; boot that or a newer one, or set `divert.dns_hints` to false")
    })
}

fn release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "of unknown release".into(), |name| name.release().display().to_string())
}

/// The kernel object with its maps made and its programs not yet loaded.
pub(super) fn object(options: &EbpfOptions) -> Result<Object, DivertError> {
    let bytes = embedded()?;
    let level: u8 = if options.kernel_log { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader.override_global(LOG_LEVEL, &level, true);
    loader.map_max_entries(names::HANDSHAKES, options.handshakes);
    if !options.kernel_log {
        loader.map_max_entries(LOG_MAP, SMALLEST_RING);
    }
    loader.load(bytes).map_err(|error| refused("the object", error))
}

#[cfg(feature = "ebpf")]
#[expect(clippy::unnecessary_wraps, reason = "a build without the kernel half fails here")]
fn embedded() -> Result<&'static [u8], DivertError> {
    Ok(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/moxie-ebpf.o")))
}

#[cfg(not(feature = "ebpf"))]
fn embedded() -> Result<&'static [u8], DivertError> {
    Err(DivertError::NoKernelHalf)
}

/// Takes a map out of the object, as the type that it is used as.
pub(super) fn take_map<T: TryFrom<Map, Error = MapError>>(
    object: &mut Object,
    name: &'static str,
) -> Result<T, DivertError> {
    let map = object.take_map(name).ok_or(DivertError::WrongObject { name })?;
    T::try_from(map).map_err(|source| DivertError::Load { what: name, source: source.into() })
}

/// Tells the kernel half which ports are wanted.
pub(super) fn write_ports(object: &mut Object, ports: &PortSet) -> Result<(), DivertError> {
    // Not taken: the programs are loaded with its descriptor, which must stay open until then.
    let map = object.map_mut(names::PORTS).ok_or(DivertError::WrongObject { name: names::PORTS })?;
    let mut map: Array<&mut MapData, u64> =
        map.try_into().map_err(|source: MapError| DivertError::Load { what: names::PORTS, source: source.into() })?;
    for (index, word) in (0..).zip(ports.bitmap()) {
        map.set(index, word, 0).map_err(|source| DivertError::Map {
            operation: "write",
            map: names::PORTS,
            source: source.into(),
        })?;
    }
    Ok(())
}

/// What the kernel refused: a privilege, or the thing itself.
pub(super) fn refused(what: &'static str, error: impl Error + Send + Sync + 'static) -> DivertError {
    if is_permission(&error) {
        let operation = format!("load {what} into the kernel");
        return DivertError::NotPermitted { operation, source: error.into() };
    }
    DivertError::Load { what, source: error.into() }
}

/// Whether EPERM is the cause. EACCES is not: it is how the verifier refuses a program.
pub(super) fn is_permission(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Lines that the kernel half logs; the `log` crate's logger gets them, and `tracing` from it.
pub(super) struct KernelLog(Box<dyn FnMut() + Send>);

impl KernelLog {
    pub(super) fn new(object: &mut Object) -> Result<Self, DivertError> {
        let mut logger = EbpfLogger::init(object)
            .map_err(|source| DivertError::Load { what: "the kernel log", source: source.into() })?;
        Ok(Self(Box::new(move || logger.flush())))
    }

    /// Forwards what has come since the last call.
    pub(super) fn flush(&mut self) {
        (self.0)();
    }
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelLog")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_refused_with_what_would_do() {
        let refused = check_release("5.4.0-216-generic").unwrap_err();
        assert_eq!((hints_obstacle_of("5.15.0"), hints_obstacle_of("6.1.0-9-amd64")), (None, None));
        assert!(
            hints_obstacle_of("5.14.0-427.el9").is_some_and(|why| why.starts_with("Linux 5.14.0-427.el9 is too old"))
        );
        let expected = "Linux 5.4.0-216-generic is too old to divert with eBPF: 5.10 is the oldest that works, 5.15 the oldest supported";
        assert_eq!(refused.to_string(), expected);
    }

    #[test]
    fn any_other_kernel_is_tried() {
        for release in ["5.10.0-32-cloud-amd64", "6.1.0", "7.2.13", "of unknown release"] {
            assert!(check_release(release).is_ok(), "{release}");
        }
    }
}
