//! The eBPF way. To be written.
