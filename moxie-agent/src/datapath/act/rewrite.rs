//! Rewrite: the call really goes to its destination, and a rule replaces parts of the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::exchange::body::{Answered, ResponseBody};
use super::exchange::session::{Failure, Session};
use super::forward;
use crate::datapath::record::{ExchangeLog, SharedLog, lock};
use crate::rules::set::Rewrite;
use crate::upstream::link::Answer;

/// Headers that describe a body which is no longer there once it has been replaced.
pub(in crate::datapath) const OF_THE_OLD_BODY: [&str; 12] = [
    "content-length",
    "transfer-encoding",
    "trailer",
    "content-encoding",
    "content-range",
    "accept-ranges",
    "etag",
    "last-modified",
    "content-md5",
    "digest",
    "content-digest",
    "repr-digest",
];

/// The body in the real one's place; none if the real one stays. A status with a body in the place of one without gets an empty one,
/// and a status without none, nor a word of one: a 304 may say how long it would be, a 204 may not.
pub(in crate::datapath) fn new_body(real: StatusCode, status: StatusCode, rewrite: Option<&Rewrite>) -> Option<Bytes> {
    let given = rewrite.and_then(|rewrite| rewrite.body.clone());
    let is_other_kind = is_bodiless(real) != is_bodiless(status) || real != status && status == StatusCode::NO_CONTENT;
    let new = given.or_else(|| is_other_kind.then(Bytes::new))?;
    Some(if is_bodiless(status) { Bytes::new() } else { new })
}

/// Whether an answer of this status has no body, whatever its head says (RFC 9112 section 6.3).
pub(in crate::datapath) fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Sends a request on with the rule's headers and passes the answer back with the rule's parts in it.
///
/// # Errors
/// As [`forward::exchange`].
pub async fn exchange(
    mut request: Request<Incoming>,
    rewrite: &Rewrite,
    session: &Arc<Session>,
    log: ExchangeLog,
) -> Result<Response<ResponseBody>, Failure> {
    replace(request.headers_mut(), &rewrite.request_headers);
    let is_head = request.method() == Method::HEAD;
    let (answer, log) = forward::send(request, session, log).await?;
    let real = answer.response.status();
    if !rewrite.leaves_answer() {
        lock(&log).changed();
    }
    let mut response = match new_body(real, rewrite.status.unwrap_or(real), Some(rewrite)) {
        Some(body) => with_body(answer, rewrite.status.unwrap_or(real), body, is_head, log),
        None => forward::pass_on(answer, session, log),
    };
    replace(response.headers_mut(), &rewrite.response_headers);
    if let Some(status) = rewrite.status {
        *response.status_mut() = status;
        response.body().answered(status);
    }
    Ok(response)
}

/// The real body is read to its end, so that its connection can serve the next request.
fn with_body(answer: Answer, status: StatusCode, body: Bytes, is_head: bool, log: SharedLog) -> Response<ResponseBody> {
    let Answer { response, lease } = answer;
    let (mut head, real) = response.into_parts();
    tokio::spawn(async move {
        if read_to_end(real).await
            && let Some(lease) = lease
        {
            lease.give_back();
        }
    });
    drop_headers(&mut head.headers, |name| OF_THE_OLD_BODY.contains(&name.as_str()));
    if !is_bodiless(status) {
        head.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    lock(&log).answered(head.status);
    let length = u64::try_from(body.len()).ok().filter(|_| is_head && !is_bodiless(status));
    let body = if is_head { Full::default() } else { Full::new(body) };
    Response::from_parts(head, Answered::replaced(body, log).telling(length))
}

async fn read_to_end(mut body: Incoming) -> bool {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

/// Each name of `with` replaces every header of that name; a name with several values keeps them all.
fn replace(headers: &mut HeaderMap, with: &HeaderMap) {
    for name in with.keys() {
        headers.remove(name);
        for value in with.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Drops every header whose name `is_dropped`. The others keep their order, which removing one by one would change.
pub(super) fn drop_headers(headers: &mut HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) {
    let mut last = None;
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in std::mem::take(headers) {
        // Further values of a name come without it.
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| !is_dropped(name)) {
            kept.append(name.clone(), value);
        }
    }
    *headers = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_header_replaces_all_of_its_name() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        headers.append("x-b", "3".parse().unwrap());
        let mut with = HeaderMap::new();
        with.append("x-a", "4".parse().unwrap());
        with.append("x-a", "5".parse().unwrap());
        replace(&mut headers, &with);
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["4", "5"]);
        assert_eq!(headers["x-b"], "3");
    }
}
