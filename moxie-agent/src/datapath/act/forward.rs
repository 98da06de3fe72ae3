//! Forward: the request goes to its destination and the answer comes back, both streamed.

use std::sync::{Arc, Mutex};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::exchange::body::{Answered, ResponseBody, Sending};
use super::exchange::session::{Failure, Session};
use super::rewrite::drop_headers;
use crate::datapath::record::{ExchangeLog, SharedLog, lock};
use crate::upstream::link::Answer;

/// Sends a request on and passes the answer back.
///
/// # Errors
/// The destination gave no answer; nothing is invented in its place.
pub async fn exchange(
    mut request: Request<Incoming>,
    session: &Arc<Session>,
    log: ExchangeLog,
) -> Result<Response<ResponseBody>, Failure> {
    let downstream = hyper::upgrade::on(&mut request);
    let (mut answer, log) = send(request, session, log).await?;
    if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        join(downstream, hyper::upgrade::on(&mut answer.response), session);
    }
    Ok(pass_on(answer, session, log))
}

/// Sends a request and waits for the head of the answer.
///
/// # Errors
/// As [`exchange`].
pub async fn send(
    request: Request<Incoming>,
    session: &Arc<Session>,
    log: ExchangeLog,
) -> Result<(Answer, SharedLog), Failure> {
    let log = Arc::new(Mutex::new(log));
    let request = request.map(|body| Sending::new(body, Arc::clone(&log)).boxed_unsync());
    match session.link.send(request, &session.party.cx.upstream).await {
        Ok(answer) => Ok((answer, log)),
        Err(error) => {
            let failure = Failure::Upstream(error);
            session.note(&failure, &mut lock(&log));
            Err(failure)
        }
    }
}

/// The destination's answer as the client's.
#[must_use]
pub fn pass_on(answer: Answer, session: &Arc<Session>, log: SharedLog) -> Response<ResponseBody> {
    let Answer { mut response, lease } = answer;
    if response.headers().contains_key(TRANSFER_ENCODING) {
        // Its length does not count (RFC 9112 section 6.3), and hyper writes no head that has both.
        drop_headers(response.headers_mut(), |name| name == CONTENT_LENGTH);
    }
    lock(&log).answered(response.status());
    let told = response.body().is_end_stream().then(|| told_length(response.headers())).flatten();
    response.map(|body| Answered::destination(body, log, lease, session.abort.clone()).telling(told))
}

/// The one length that `Content-Length` tells.
fn told_length(headers: &HeaderMap) -> Option<u64> {
    let read = |length: &str| length.bytes().all(|byte| byte.is_ascii_digit()).then(|| length.parse().ok())?;
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|length| read(length.to_str().ok()?));
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// After "101 Switching Protocols" the two sides speak with each other, and HTTP is over.
fn join(downstream: OnUpgrade, upstream: OnUpgrade, session: &Arc<Session>) {
    let session = Arc::clone(session);
    session.party.cx.drain.clone().spawn(async move {
        let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else { return };
        let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
        if let Err(error) = copy_bidirectional(&mut downstream, &mut upstream).await {
            tracing::debug!(%error, "upgraded connection broke off");
            session.abort.request();
        }
    });
}
