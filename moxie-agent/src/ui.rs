//! The web UI. To be written.
