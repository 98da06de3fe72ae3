//! Intercept: ends TLS where there is any, and hands the HTTP inside to the exchanges.
//!
//! A destination that does not verify is left to the application: then the connection passes through after all.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::Version;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Error, gateway, passthrough};
use crate::chain::Chain;
use crate::datapath::Context;
use crate::datapath::decide;
use crate::datapath::downstream::Downstream;
use crate::datapath::http1::wire::Wire;
use crate::datapath::learned::Client;
use crate::datapath::party::Party;
use crate::datapath::sniff::client_hello::ClientHello;
use crate::datapath::sniff::{FirstBytes, Sniffed};
use crate::datapath::{http1, http2};
use crate::divert::Form;
use crate::journal::Reason;
use crate::tls::terminate::{TerminateError, terminate};
use crate::upstream::{Finding, Ready, Stream, TlsTarget, Way};

/// Serves a connection whose host some rule can name.
///
/// # Errors
/// The application or the destination broke off.
pub async fn serve(conn: Sniffed, cx: &Arc<Context>) -> Result<(), Error> {
    if conn.origin.asked.as_ref().is_some_and(|asked| asked.form == Form::Requests) {
        return gateway::serve(conn, cx).await;
    }
    match conn.first.clone() {
        FirstBytes::Tls(hello) => tls(conn, &hello, cx).await,
        FirstBytes::Http2(_) => clear(conn, Version::HTTP_2, cx).await,
        FirstBytes::Http1(_) | FirstBytes::Opaque(_) => clear(conn, Version::HTTP_11, cx).await,
    }
}

async fn clear(conn: Sniffed, version: Version, cx: &Arc<Context>) -> Result<(), Error> {
    let name = decide::clear_authority(&conn.first).unwrap_or_default();
    let client = Client::new(&conn.log.caller(), &name);
    let ready = Ready { plain: conn.dialled, tls: None };
    let party = Party::new("http", conn.origin.asked.clone(), conn.log, client, cx);
    let downstream = Downstream::new(conn.stream, party.log.bytes());
    let (way, ready) = Way::new(conn.origin, None, ready);
    serve_http(version, downstream, &party, way, ready).await
}

async fn tls(mut conn: Sniffed, hello: &ClientHello, cx: &Arc<Context>) -> Result<(), Error> {
    let name = decide::server_name(hello, &conn.origin);
    let Ok(server_name) = ServerName::try_from(name.clone()) else {
        return passthrough::relay(Box::new(conn), Reason::MintFailed, cx).await;
    };
    let target =
        TlsTarget { address: conn.origin.destination, name: server_name.clone(), alpn: http_protocols(&hello.alpn) };
    let probed = cx.upstream.probe(&target, &conn.origin, conn.dialled.take()).await;
    let alpn = match probed.finding {
        Finding::Unusable => return passthrough::relay(Box::new(conn), Reason::UpstreamUntrusted, cx).await,
        Finding::Verified(chosen) => chosen,
        Finding::Unreachable => safest(&target.alpn),
    };
    let leaf = match cx.leaves.leaf(&server_name).await {
        Ok(leaf) => leaf,
        Err(error) => {
            tracing::warn!(name, error = %Chain(&*error), "no certificate could be minted");
            return passthrough::relay(Box::new(conn), Reason::MintFailed, cx).await;
        }
    };
    end_tls(conn, Introduced { name, target, alpn, ready: probed.ready }, leaf, cx).await
}

/// A destination whose certificate the application may be spared.
struct Introduced {
    name: String,
    target: TlsTarget,
    /// What is offered in its place.
    alpn: Option<Vec<u8>>,
    ready: Ready,
}

/// Shows the application our certificate and serves what it then asks for.
async fn end_tls(
    conn: Sniffed,
    destination: Introduced,
    leaf: Arc<CertifiedKey>,
    cx: &Arc<Context>,
) -> Result<(), Error> {
    if has_hung_up(&conn.stream) {
        return Err(Error::ClientGone);
    }
    let client = Client::new(&conn.log.caller(), &destination.name);
    let downstream = Downstream::new(conn.stream, conn.log.bytes());
    let stream = terminate(downstream, leaf, destination.alpn.into_iter().collect()).await;
    let stream = stream.map_err(|error| Error::Terminate(learn_from(error, &client, cx)))?;
    let version = spoken(stream.get_ref().1.alpn_protocol());
    let party = Party::new("https", conn.origin.asked.clone(), conn.log, client, cx);
    let (way, ready) = Way::new(conn.origin, Some(destination.target), destination.ready);
    let served = serve_http(version, stream, &party, way, ready).await;
    // A client that hangs up without a request, and never made one before, has most likely refused the certificate by a check of
    // its own, after the handshake (a pin).
    party.learn_refusal();
    served
}

async fn serve_http(
    version: Version,
    client: impl Wire,
    party: &Party,
    way: Way,
    ready: Option<Stream>,
) -> Result<(), Error> {
    if version == Version::HTTP_2 {
        Box::pin(http2::serve(client, party, way, ready)).await
    } else {
        Box::pin(http1::serve(client, party, way, ready)).await
    }
}

/// A client that hangs up on our certificate refuses it, unless it is known to trust us: then it was most likely ended, as a service
/// is that restarts.
fn learn_from(error: TerminateError, client: &Client, cx: &Context) -> TerminateError {
    let error = match error {
        TerminateError::HungUp(source) if !cx.learned.trusting.contains(client) => TerminateError::Refused(source),
        other => other,
    };
    if matches!(error, TerminateError::Refused(_)) {
        cx.learned.refused.insert(client.clone());
    }
    error
}

/// A client that is gone before it has seen a certificate has refused none: it lost patience while the destination was asked.
fn has_hung_up(stream: &TcpStream) -> bool {
    stream.ready(Interest::READABLE).now_or_never().is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
}

/// What of the client's offer can be spoken here, in its order.
fn http_protocols(offered: &[Vec<u8>]) -> Vec<Vec<u8>> {
    offered.iter().filter(|protocol| *protocol == b"h2" || *protocol == b"http/1.1").cloned().collect()
}

/// What to offer for a destination that cannot be asked: HTTP/1.1 is what every one speaks.
fn safest(offered: &[Vec<u8>]) -> Option<Vec<u8>> {
    offered.iter().find(|protocol| *protocol == b"http/1.1").or(offered.first()).cloned()
}

fn spoken(protocol: Option<&[u8]>) -> Version {
    if protocol == Some(b"h2") { Version::HTTP_2 } else { Version::HTTP_11 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(protocols: &[&str]) -> Vec<Vec<u8>> {
        protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
    }

    #[test]
    fn only_http_is_offered_on_and_in_the_clients_order() {
        assert_eq!(http_protocols(&list(&["h2", "spdy/3", "http/1.1"])), list(&["h2", "http/1.1"]));
        assert_eq!(http_protocols(&[]), list(&[]));
    }

    #[test]
    fn an_unreachable_destination_is_spoken_for_with_http_1() {
        assert_eq!(safest(&list(&["h2", "http/1.1"])), Some(b"http/1.1".to_vec()));
        assert_eq!(safest(&list(&["h2"])), Some(b"h2".to_vec()));
        assert_eq!(safest(&[]), None);
    }
}
