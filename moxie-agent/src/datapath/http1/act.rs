//! Does what a rule wants done with a request: answers it, or lets it go with changes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, timeout};

use super::answer::{self, CONTINUE, Stay};
use super::exchange::{Asking, Ruled};
use super::requests::{Leaves, poll_watch};
use super::wire::{Destination, End, Wire, end_of, poll_end};
use super::{Broken, Relay};
use crate::datapath::act::delay::Delay;
use crate::datapath::record::ExchangeLog;
use crate::http1::{Awaited, Body, Doubt, Edit};
use crate::rules::set::{Action, Rewrite};

/// How long a client that was told that its connection ends may take to end it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A rule's answer.
struct Answer {
    status: StatusCode,
    lines: Bytes,
    body: Bytes,
    delay: Option<Delay>,
}

impl<C: Wire, D: Destination> Relay<'_, C, D> {
    /// Acts on the held request. Everything before it is through.
    pub(super) async fn act(&mut self) -> Result<(), Broken> {
        let Asking::Ruled(ruled) = std::mem::replace(&mut self.asking, Asking::Head) else { return Ok(()) };
        let Ruled { hit, mut log } = *ruled;
        let delay = Delay::of(&hit);
        match hit.action {
            Action::Respond { status, .. } if status.is_informational() => {
                log.finished();
                Err(Broken::Asked)
            }
            Action::Respond { status, lines, body, .. } => {
                self.respond(Answer { status, lines, body, delay }, log).await
            }
            Action::Rewrite(rewrite) if rewrite.status.is_some_and(|status| status.is_informational()) => {
                log.finished();
                Err(Broken::Asked)
            }
            Action::Rewrite(rewrite) => {
                self.wait(delay, &mut log).await?;
                self.rewrite(rewrite, log);
                Ok(())
            }
        }
    }

    /// Answers in the destination's place, once the request has been read to its end, as a real server would.
    async fn respond(&mut self, answer: Answer, mut log: ExchangeLog) -> Result<(), Broken> {
        if !self.is_used {
            // A mock needs no destination, and an origin may serve one connection at a time.
            self.upstream = None;
            self.destination.release();
        }
        let awaited = Awaited::by(&self.request, self.requests.held());
        let persists = self.request.persists() && self.upstream_end.is_none();
        self.requests.drop_held(self.request.len());
        self.read_request_body(&mut log).await?;
        self.wait(answer.delay, &mut log).await?;
        let stay = if persists && !self.party.cx.drain.has_started() { Stay::Kept } else { Stay::Ended };
        let [head, body] = answer::own(answer.status, &answer.lines, &answer.body, awaited, stay);
        log.answered(answer.status);
        log.sent(if answer::has_body(answer.status, awaited) { answer.body.len() as u64 } else { 0 });
        self.answers.insert(head, body);
        self.through.push(log);
        self.request.clear();
        self.is_last = stay == Stay::Ended;
        self.asking = if self.is_last { Asking::Nothing(Doubt::AfterLast) } else { Asking::Head };
        Ok(())
    }

    async fn read_request_body(&mut self, log: &mut ExchangeLog) -> Result<(), Broken> {
        let mut body = Body::new(self.request.framing());
        if !body.is_ended() && self.request.expects_continue() {
            self.answers.insert(Bytes::from_static(CONTINUE), Bytes::new());
            poll_fn(|task| self.answers.poll_drain(&mut self.client, task)).await.map_err(Broken::Client)?;
        }
        while !body.is_ended() {
            if self.requests.held().is_empty() {
                if self.client_end.is_some() {
                    return Err(Broken::Gone);
                }
                let read = poll_fn(|task| self.requests.poll_fill(&mut self.client, task)).await;
                self.client_end = end_of(read).map_err(Broken::Client)?;
                continue;
            }
            let taken = body.take(self.requests.held()).map_err(Broken::Doubt)?;
            log.received(taken.data as u64);
            self.requests.drop_held(taken.len);
        }
        Ok(())
    }

    /// Lets the held request go with the rule's headers in it.
    fn rewrite(&mut self, rewrite: Arc<Rewrite>, log: ExchangeLog) {
        let held = self.requests.held();
        let awaited = Awaited::by(&self.request, held);
        let edits: Vec<Edit<'_>> = rewrite
            .request_written
            .iter()
            .map(|header| Edit::Set { name: &header.name, values: &header.values })
            .collect();
        let mut head = Vec::with_capacity(self.request.len() + 64);
        self.request.edited(held, &edits, &mut head);
        self.requests.drop_held(self.request.len());
        self.requests.insert(head.into(), Bytes::new());
        self.let_go(log, Some(rewrite).filter(|rewrite| !rewrite.leaves_answer()), awaited);
    }

    /// Waits as long as a rule says, never shorter, unless the client goes away meanwhile.
    async fn wait(&mut self, delay: Option<Delay>, log: &mut ExchangeLog) -> Result<(), Broken> {
        let Some(delay) = delay else { return Ok(()) };
        // Inside TLS it is what a client does that loses patience. In the clear many end their direction and wait.
        let meaning = if self.party.scheme == "https" { Leaves::Altogether } else { Leaves::Half };
        let began = Instant::now();
        let mut over = pin!(delay.wait(&self.party.cx.rules));
        let (client, requests, end) = (&mut self.client, &mut self.requests, &mut self.client_end);
        let waited = poll_fn(|task| {
            if over.as_mut().poll(task).is_ready() {
                return Poll::Ready(Ok(()));
            }
            poll_watch(client, requests, end, meaning, task).map(Err)
        });
        let waited = waited.await;
        log.delayed(began.elapsed());
        waited
    }

    /// Ends a connection whose client has been told that it ends: an orderly close, which does not overtake the answer.
    pub(super) async fn farewell(&mut self) -> Result<(), Broken> {
        self.upstream = None;
        self.hang_up().await?;
        let said = async {
            while self.client_end.is_none() {
                let read = poll_fn(|task| self.requests.poll_fill(&mut self.client, task)).await;
                self.client_end = end_of(read).map_err(Broken::Client)?;
                self.requests.discard();
            }
            Ok(())
        };
        // Bytes left unread would turn the close into a reset, and the answer would be lost with it.
        timeout(FAREWELL, said).await.unwrap_or(Ok(()))
    }

    /// Closes the client's side, unless it has been told of the destination's end already.
    pub(super) async fn hang_up(&mut self) -> Result<(), Broken> {
        if self.is_upstream_end_told {
            return Ok(());
        }
        poll_fn(|task| poll_end(&mut self.client, End::Closed, task)).await.map_err(Broken::Client)
    }
}
