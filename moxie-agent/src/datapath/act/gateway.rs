//! Gateway: requests that a client sends to an explicit proxy in absolute-form, each to the destination that it names.
//!
//! A destination that gives no answer is a 502 or 504, as a proxy's client expects; what a rule asked for is what it is everywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::Error;
use super::exchange::body::ResponseBody;
use super::exchange::session::{Failure, Session};
use super::exchange::{self, http1_server};
use super::rewrite::drop_headers;
use crate::datapath::Context;
use crate::datapath::downstream::{Abort, Downstream};
use crate::datapath::learned::Client;
use crate::datapath::party::Party;
use crate::datapath::record::ConnectionLog;
use crate::datapath::sniff::Sniffed;
use crate::divert::proxy::{self, Refusal};
use crate::divert::{Asked, Form, Origin};
use crate::rules::set::normal_authority;
use crate::upstream::Link;

/// Destinations of one client connection that keep their connections; one more, and all of them begin anew.
const MAX_SESSIONS: usize = 64;

type Answer = Response<Either<ResponseBody, Full<Bytes>>>;

/// One client connection and the destinations that its requests have named.
struct Gateway {
    cx: Arc<Context>,
    log: Arc<ConnectionLog>,
    abort: Abort,
    /// Who asks, and what for first.
    origin: Origin,
    sessions: Mutex<HashMap<(String, u16), Arc<Session>>>,
    closed: Arc<Notify>,
}

/// Serves the requests of a client connection until it ends.
///
/// # Errors
/// The client broke off.
pub async fn serve(conn: Sniffed, cx: &Arc<Context>) -> Result<(), Error> {
    let Sniffed { stream, origin, log, .. } = conn;
    let downstream = Downstream::new(stream, log.bytes());
    let (abort, closed) = (downstream.abort(), Arc::<Notify>::default());
    let gateway = Gateway { cx: Arc::clone(cx), log, abort, origin, sessions: Mutex::default(), closed };
    let gateway = Arc::new(gateway);
    let handler = Arc::clone(&gateway);
    let service = service_fn(move |request| answer(request, Arc::clone(&handler)));
    let connection = http1_server("http").serve_connection(TokioIo::new(downstream), service).with_upgrades();
    let ended = async {
        tokio::select! {
            () = cx.drain.started() => {}
            () = gateway.closed.notified() => {}
        }
    };
    exchange::run(connection, |conn| conn.graceful_shutdown(), ended).await.map_err(Error::Serve)
}

async fn answer(mut request: Request<Incoming>, gateway: Arc<Gateway>) -> Result<Answer, Failure> {
    let session = match gateway.session(request.uri()).await {
        Ok((session, authority)) => {
            to_origin(&mut request, &authority);
            session
        }
        Err(refusal) => return Ok(told(&refusal)),
    };
    match exchange::exchange(request, &session).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(failure) => match session.refusal(&failure) {
            Some(refusal) => Ok(told(&refusal)),
            None => {
                gateway.abort.request();
                Err(failure)
            }
        },
    }
}

impl Gateway {
    /// What serves the destination that `uri` names, and how it is spelt.
    async fn session(&self, uri: &Uri) -> Result<(Arc<Session>, Authority), Refusal> {
        let authority = proxy::destination(uri)?.clone();
        let (host, port) = proxy::split(&authority, Form::Requests)?;
        let key = (host.to_lowercase(), port);
        let known = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let session = match known {
            Some(session) => session,
            None => self.introduce(host, port, key).await?,
        };
        Ok((session, authority))
    }

    async fn introduce(&self, host: String, port: u16, key: (String, u16)) -> Result<Arc<Session>, Refusal> {
        let first = self.origin.asked.as_ref().filter(|asked| (&asked.host, asked.port) == (&host, port));
        let addresses = match first {
            Some(asked) => asked.addresses.clone(),
            None => self.cx.divert.find(&host, port).await,
        };
        if addresses.iter().any(|address| self.cx.upstream.is_own(*address)) {
            return Err(Refusal::OwnSocket);
        }
        let asked = Asked { form: Form::Requests, host, port, addresses };
        let name = normal_authority(&format!("{}:{port}", asked.url_host()), "http");
        let origin = Origin { destination: asked.destination(), asked: Some(asked), ..self.origin.clone() };
        let client = Client::new(&self.log.caller(), &name);
        let party = Party::new("http", origin.asked.clone(), Arc::clone(&self.log), client, &self.cx);
        let link = Link::new(origin).telling(&self.closed);
        let session = Session::new(party, self.abort.clone(), link);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS {
            sessions.clear();
        }
        sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }
}

/// A request as its destination wants it: origin-form, the Host that the target names (RFC 9112 section 3.2.2), and none of the
/// headers that were for the proxy.
fn to_origin(request: &mut Request<Incoming>, authority: &Authority) {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    set_host(request.headers_mut(), authority);
    drop_headers(request.headers_mut(), is_for_proxy);
}

fn set_host(headers: &mut HeaderMap, authority: &Authority) {
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    // What was parsed as an authority is a header's value too.
    if let Ok(host) = HeaderValue::from_str(host)
        && headers.get(HOST) != Some(&host)
    {
        headers.insert(HOST, host);
    }
}

fn is_for_proxy(name: &HeaderName) -> bool {
    name.as_str().starts_with("proxy-")
}

/// A refusal as an answer.
fn told(refusal: &Refusal) -> Answer {
    let mut response = Response::new(Either::Right(Full::from(format!("moxie: {refusal}\n"))));
    *response.status_mut() = refusal.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_for_the_proxy_stays_here_and_the_rest_is_as_it_was() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "other.example"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("authorization", "Bearer x"),
            ("connection", "keep-alive"),
            ("cookie", "a"),
            ("cookie", "b"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        set_host(&mut headers, &Authority::from_static("user@plain.example:8080"));
        drop_headers(&mut headers, is_for_proxy);
        let left: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            left,
            [
                ("host", "plain.example:8080"),
                ("authorization", "Bearer x"),
                ("connection", "keep-alive"),
                ("cookie", "a"),
                ("cookie", "b")
            ]
        );
    }
}
