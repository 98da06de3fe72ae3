//! The destination's side: dialling it, checking who it is, and speaking HTTP with it.
//!
//! One downstream connection has its own upstream connections and shares them with nobody, so that keep-alive races,
//! connection state and credentials stay the service's own.

pub mod ahead;
pub mod dial;
pub mod link;
pub mod probe;
pub mod stream;

pub use ahead::Ahead;
pub use dial::{DialError, Upstream};
pub use link::{Link, LinkError};
pub use probe::{Finding, Probed, Ready, TlsTarget};
pub use stream::{Stream, Way};
