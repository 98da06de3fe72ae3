//! SQLite. To be written.
