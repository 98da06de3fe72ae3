//! `GET /api/v1/events`: what happens, as it happens (server-sent events).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event as SseEvent, KeepAlive};
use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use crate::events::Event;

/// A comment is sent after this much silence, so that proxies and readers see that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn router() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows what happens
///
/// Server-sent events from now on, until either side ends. The event name is the kind (`exchange`, `connection`, `rule`, `scope`, `divert`),
/// the data its JSON as the API shows it, or `{"id": …, "removed": true}`. A reader that falls too far behind gets `missed` with the number of events it lost: read the listings again.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "traffic", operation_id = "followEvents",
    responses((status = 200, description = "The stream", body = String, content_type = "text/event-stream"))
)]
async fn follow(State(state): State<Arc<AdminState>>) -> Sse<impl Stream<Item = Result<SseEvent, Infallible>>> {
    let events = BroadcastStream::new(state.events.subscribe()).map(|event| Ok(sse(event)));
    // The comment tells the reader that it is subscribed: what happens from here on will be told.
    let hello = futures_util::stream::once(async { Ok(SseEvent::default().comment("following")) });
    let drain = state.drain.clone();
    let end = Box::pin(async move { drain.started().await });
    Sse::new(hello.chain(events).take_until(end)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn sse(event: Result<Event, BroadcastStreamRecvError>) -> SseEvent {
    match event {
        Ok(event) => SseEvent::default().event(event.kind.as_str()).data(event.data.to_string()),
        Err(BroadcastStreamRecvError::Lagged(missed)) => SseEvent::default().event("missed").data(missed.to_string()),
    }
}
