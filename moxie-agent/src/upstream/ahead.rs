//! A connection to the destination that was begun before anybody asked for it.
//!
//! Whoever begins one goes on listening to the client: a destination that does not answer holds nobody up who needs none.

use std::fmt;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::DialError;

/// A connection that stands, or is on its way. Dropped, it is given up.
pub struct Ahead(Stage);

enum Stage {
    Standing(TcpStream),
    Underway(BoxFuture<'static, Result<TcpStream, DialError>>),
}

impl Ahead {
    /// One that `dial` makes; it begins when it is first waited for.
    #[must_use]
    pub fn by(dial: impl Future<Output = Result<TcpStream, DialError>> + Send + 'static) -> Self {
        Self(Stage::Underway(dial.boxed()))
    }

    /// Waits until it stands. Dropping this future stops the waiting and not the dialling.
    ///
    /// # Errors
    /// It never will; there is nothing to wait for any more.
    pub async fn stands(&mut self) -> Result<(), DialError> {
        if let Stage::Underway(dial) = &mut self.0 {
            self.0 = Stage::Standing(dial.await?);
        }
        Ok(())
    }

    /// The connection if it stands, without waiting for it.
    ///
    /// # Errors
    /// It does not stand yet.
    pub fn standing(self) -> Result<TcpStream, Self> {
        match self.0 {
            Stage::Standing(stream) => Ok(stream),
            underway @ Stage::Underway(_) => Err(Self(underway)),
        }
    }

    /// The connection, waited for.
    ///
    /// # Errors
    /// As for [`Self::stands`].
    pub async fn stream(self) -> Result<TcpStream, DialError> {
        match self.0 {
            Stage::Standing(stream) => Ok(stream),
            Stage::Underway(dial) => dial.await,
        }
    }
}

impl From<TcpStream> for Ahead {
    fn from(stream: TcpStream) -> Self {
        Self(Stage::Standing(stream))
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Standing(stream) => f.debug_tuple("Standing").field(stream).finish(),
            Stage::Underway(_) => f.write_str("Underway"),
        }
    }
}
