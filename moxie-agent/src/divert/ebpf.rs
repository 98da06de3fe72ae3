//! The eBPF way. To be written.

use super::DivertError;

/// What can be chosen about the eBPF way.
#[derive(Clone, Debug, Default)]
pub struct EbpfOptions {}

/// The eBPF way, loaded.
#[derive(Debug)]
pub struct Ebpf {}

impl Ebpf {
    /// Loads.
    ///
    /// # Errors
    /// Refused.
    pub fn load(options: &EbpfOptions) -> Result<Self, DivertError> {
        let _ = options;
        todo!()
    }
}
