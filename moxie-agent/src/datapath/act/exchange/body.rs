//! The bodies of an exchange: streamed, counted into its record, and telling when and how they ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::datapath::downstream::Abort;
use crate::datapath::record::{ExchangeLog, SharedLog, lock};
use crate::journal::ExchangeError;
use crate::upstream::link::Lease;

/// The body of an answer to the client.
pub type ResponseBody = Answered;

/// A request body on its way to the destination.
#[derive(Debug)]
pub struct Sending {
    inner: Incoming,
    log: SharedLog,
}

impl Sending {
    /// Counts `inner` into `log`.
    #[must_use]
    pub fn new(inner: Incoming, log: SharedLog) -> Self {
        Self { inner, log }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => lock(&self.log).received(data_length(frame)),
            Some(Err(_)) => lock(&self.log).left(),
            None => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body; ends its record when it is through or dropped.
#[derive(Debug)]
pub struct Answered {
    inner: Inner,
    log: SharedLog,
    lease: Option<Lease>,
    /// What `Content-Length` says in the head of an answer that has no body, which hyper would leave out or move.
    told: Option<u64>,
    /// Resets the client, should the answer break off: HTTP/1 has no other way to say so.
    abort: Option<Abort>,
}

#[derive(Debug)]
enum Inner {
    Own(Full<Bytes>),
    Destination(Incoming),
}

impl Answered {
    /// The body of a rule's answer.
    #[must_use]
    pub fn rule(body: Full<Bytes>, log: ExchangeLog) -> Self {
        Self::replaced(body, Arc::new(Mutex::new(log)))
    }

    /// A rule's body in a real answer.
    #[must_use]
    pub fn replaced(body: Full<Bytes>, log: SharedLog) -> Self {
        Self { inner: Inner::Own(body), log, lease: None, told: None, abort: None }
    }

    /// The destination's own body; `lease` is given back when it is through.
    #[must_use]
    pub fn destination(body: Incoming, log: SharedLog, lease: Option<Lease>, abort: Abort) -> Self {
        Self { inner: Inner::Destination(body), log, lease, told: None, abort: Some(abort) }
    }

    /// A body that there is none of, though the head tells its length.
    #[must_use]
    pub fn telling(mut self, length: Option<u64>) -> Self {
        self.told = length;
        self
    }

    /// Notes the status that goes to the client instead of the destination's.
    pub fn answered(&self, status: StatusCode) {
        lock(&self.log).answered(status);
    }

    fn is_through(&self) -> bool {
        match &self.inner {
            Inner::Own(body) => body.is_end_stream(),
            Inner::Destination(body) => body.is_end_stream(),
        }
    }

    fn end(&mut self) {
        lock(&self.log).finished();
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn break_off(&mut self) {
        lock(&self.log).broke(ExchangeError::UpstreamBroke);
        if let Some(abort) = &self.abort {
            abort.request();
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = match &mut self.inner {
            Inner::Own(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}))
            }
            Inner::Destination(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        match &frame {
            // Nothing follows trailers, and nobody asks whether anything does.
            Some(Ok(frame)) if frame.is_trailers() => self.end(),
            Some(Ok(frame)) => lock(&self.log).sent(data_length(frame)),
            Some(Err(_)) => self.break_off(),
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.told.is_none() && self.is_through()
    }

    fn size_hint(&self) -> SizeHint {
        match (self.told, &self.inner) {
            (Some(length), _) => SizeHint::with_exact(length),
            (None, Inner::Own(body)) => body.size_hint(),
            (None, Inner::Destination(body)) => body.size_hint(),
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // A body whose length is known is not asked again after its last byte.
        if self.is_through() {
            self.end();
        }
    }
}

fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
