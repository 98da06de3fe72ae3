//! Configuration. To be written.
