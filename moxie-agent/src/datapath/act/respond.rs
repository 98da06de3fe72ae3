//! Respond: a rule's answer in the destination's place.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::exchange::body::{Answered, ResponseBody};
use super::exchange::session::Failure;
use super::rewrite::is_bodiless;
use crate::datapath::record::ExchangeLog;
use crate::journal::ExchangeError;

/// Reads the request to its end, as a real server would, so that the client is done sending when the answer comes.
///
/// # Errors
/// The client went away.
pub async fn read_request(mut body: Incoming, log: &mut ExchangeLog) -> Result<(), Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            log.broke(ExchangeError::ClientGone);
            Failure::Client(error)
        })?;
        log.received(frame.data_ref().map_or(0, |data| data.len() as u64));
    }
    Ok(())
}

/// The rule's answer, byte for byte: no header is added but the framing that HTTP itself needs.
#[must_use]
pub fn answer(status: StatusCode, headers: HeaderMap, body: Bytes, mut log: ExchangeLog) -> Response<ResponseBody> {
    log.answered(status);
    let body = if is_bodiless(status) { Bytes::new() } else { body };
    let length = body.len();
    let mut response = Response::new(Answered::rule(Full::new(body), log));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !is_bodiless(status) {
        // Hyper adds it too, but not to the answer to a HEAD.
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}
