//! The admin API. To be written.
