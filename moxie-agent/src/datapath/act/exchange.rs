//! The inner loop for requests that an explicit proxy's client sends in absolute-form: each goes through decide -> act -> record.

pub mod body;
pub mod session;

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;

use super::delay::Delay;
use super::{forward, respond, rewrite};
use crate::datapath::record::ExchangeLog;
use crate::journal::Protocol;
use crate::rules::set::{self, Action, Hit, normal_authority};
use body::ResponseBody;
use session::{Failure, Session};

/// Most headers of a request that are read.
const MAX_HEADERS: usize = 1024;

/// A client in the clear may close its half and still wait for the answer. Inside TLS a close means that it is gone: what is
/// under way for it ends, so that the destination sees it go, as it would have directly.
pub(super) fn http1_server(scheme: &str) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .preserve_header_case(true)
        .title_case_headers(true)
        .auto_date_header(false)
        .half_close(scheme == "http")
        .max_headers(MAX_HEADERS);
    server
}

/// Runs a connection; once `ended` it ends after what is under way.
pub(super) async fn run<C>(
    connection: C,
    close: impl Fn(std::pin::Pin<&mut C>),
    ended: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = &mut connection => return served,
        () = ended => {}
    }
    // An answer that came just before, above all the switch to another protocol, goes out as it is, without a "close" in it.
    if let Some(served) = connection.as_mut().now_or_never() {
        return served;
    }
    close(connection.as_mut());
    connection.await
}

/// Decides, acts on and records one request.
pub(super) async fn exchange(
    request: Request<Incoming>,
    session: &Arc<Session>,
) -> Result<Response<ResponseBody>, Failure> {
    let (authority, party) = (authority(&request, session.party.scheme), &session.party);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut log = party.open_log(Protocol::Http1, request.method().as_str(), &authority, target);
    let facts = set::Request {
        method: request.method().as_str(),
        scheme: party.scheme,
        authority: &authority,
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        caller: &party.caller,
    };
    match party.decide(&facts, &mut log).await {
        None => forward::exchange(request, session, log).await,
        Some(hit) => act(request, hit, session, log).await,
    }
}

async fn act(
    request: Request<Incoming>,
    hit: Hit,
    session: &Arc<Session>,
    mut log: ExchangeLog,
) -> Result<Response<ResponseBody>, Failure> {
    let delay = Delay::of(&hit);
    match hit.action {
        Action::Respond { status, .. } if status.is_informational() => {
            log.finished();
            Err(Failure::NotFinal(status))
        }
        Action::Respond { status, headers, body, .. } => {
            let bodiless = request.method() == Method::HEAD;
            respond::read_request(request.into_body(), &mut log).await?;
            waited(&mut log, delay, session).await;
            if bodiless {
                log.finished();
            }
            Ok(respond::answer(status, Arc::unwrap_or_clone(headers), body, log))
        }
        Action::Rewrite(ref rewrite)
            if let Some(status) = rewrite.status
                && status.is_informational() =>
        {
            log.finished();
            Err(Failure::NotFinal(status))
        }
        Action::Rewrite(rewrite) => {
            waited(&mut log, delay, session).await;
            rewrite::exchange(request, &rewrite, session, log).await
        }
    }
}

async fn waited(log: &mut ExchangeLog, delay: Option<Delay>, session: &Session) {
    if let Some(delay) = delay {
        log.delayed(delay.wait(&session.party.cx.rules).await);
    }
}

/// Whom the client asked: the target's own authority, else the Host header.
fn authority(request: &Request<Incoming>, scheme: &str) -> String {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let host = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    normal_authority(named.or_else(host).unwrap_or_default(), scheme)
}
