//! Stage 3 of 6: a bounded, timed look at the first bytes. In: `Located`. Out: `Sniffed`. Never: consumes a byte.

pub mod client_hello;
pub mod http1;
pub mod http2;

/// How far a parser came with the bytes seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// Recognised.
    Done(T),
    /// A good beginning; more bytes are needed.
    Partial,
    /// Not this protocol.
    Other,
}
