//! TLS toward the application. To be written.
