//! Wiring. To be written.
