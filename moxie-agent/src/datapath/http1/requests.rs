//! The client's direction: heads are held until it is decided what becomes of them, everything else goes on as it comes.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep;

use super::exchange::{After, Asking, Exchange, More, Ruled};
use super::facts::{self, Ask};
use super::lane::Lane;
use super::wire::{Destination, End, Wire, end_of, is_broken, poll_end};
use super::{Broken, Patience, Relay};
use crate::datapath::record::ExchangeLog;
use crate::datapath::relay;
use crate::http1::{Awaited, Body, Doubt, Read};
use crate::rules::set::Rewrite;

/// Requests without an answer after which a client is not read until some of them have theirs.
const MOST_ASKED: usize = 1024;

/// How often a client that is not read is looked at.
const LOOK: Duration = Duration::from_secs(5);

impl<C: Wire, D: Destination> Relay<'_, C, D> {
    /// Reads from the client and writes to the destination; tells whether anything was read.
    pub(super) fn poll_requests(&mut self, task: &mut Context<'_>) -> Result<bool, Broken> {
        self.drain_requests(task);
        if self.upstream_end.is_some()
            && let Some(error) = self.upstream_fault.take()
        {
            return Err(Broken::Upstream(error));
        }
        let mut moved = false;
        if self.wants_request_bytes()
            && let Poll::Ready(read) = self.requests.poll_fill(&mut self.client, task)
        {
            moved = true;
            self.client_end = end_of(read).map_err(Broken::Client)?;
            self.read_requests();
            self.drain_requests(task);
        }
        self.tell_client_end(task);
        Ok(moved)
    }

    fn wants_request_bytes(&self) -> bool {
        let has_room = match self.asking {
            Asking::Whole => false,
            Asking::Ruled(_) => self.requests.has_room(),
            Asking::Head | Asking::Body(..) | Asking::Switch(_) | Asking::Nothing(_) | Asking::Unread => {
                self.requests.is_clear()
            }
        };
        let has_asked_enough = self.exchanges.len() >= MOST_ASKED && !matches!(self.asking, Asking::Body(..));
        let is_over = self.is_last && matches!(self.asking, Asking::Nothing(_));
        has_room && !has_asked_enough && !is_over && self.client_end.is_none() && self.upstream_fault.is_none()
    }

    /// A client that is not read would never be found to be gone: it is looked at now and then.
    pub(super) fn look_at_client(&mut self, task: &mut Context<'_>) -> Result<(), Broken> {
        let is_read = self.wants_request_bytes();
        if !is_read && self.look.is_none() {
            self.look = Some(Box::pin(sleep(LOOK)));
        }
        while let Some(look) = &mut self.look
            && look.as_mut().poll(task).is_ready()
        {
            self.look = None;
            if is_read {
                break;
            }
            if is_broken(&self.client) {
                return Err(Broken::Client(ErrorKind::ConnectionReset.into()));
            }
            if self.client_end.is_some() {
                // What is left of one that has closed altogether tells so only when it is asked.
                relay::ask_whether_there(self.client.socket());
            }
            self.look = Some(Box::pin(sleep(LOOK)));
        }
        Ok(())
    }

    /// A destination that takes nothing more may have answered before: what it said is read first.
    fn drain_requests(&mut self, task: &mut Context<'_>) {
        let Some(upstream) = self.upstream.as_mut().filter(|_| self.upstream_fault.is_none()) else { return };
        if self.requests.is_drained() {
            return;
        }
        self.is_used = true;
        if let Poll::Ready(Err(error)) = self.requests.poll_drain(upstream, task) {
            self.upstream_fault = Some(error);
            self.requests.discard();
        }
    }

    fn tell_client_end(&mut self, task: &mut Context<'_>) {
        let (Some(end), Some(upstream)) = (self.client_end, &mut self.upstream) else { return };
        let everything_went = self.requests.is_drained() && self.requests.held().is_empty();
        if everything_went && !self.is_client_end_told && poll_end(upstream, end, task).is_ready() {
            // If it failed, reading from there tells why.
            self.is_client_end_told = true;
        }
    }

    /// Makes of the held bytes what can be made of them.
    pub(super) fn read_requests(&mut self) {
        loop {
            let held = self.requests.held();
            if held.is_empty() {
                return;
            }
            match &mut self.asking {
                Asking::Whole | Asking::Ruled(_) => return,
                Asking::Head => match self.request.read(held) {
                    Ok(Read::Done) => {
                        self.patience = None;
                        self.asking = Asking::Whole;
                    }
                    Ok(Read::Partial) if self.client_end.is_some() => self.doubt(Doubt::HeadCut),
                    Ok(Read::Partial) => return self.await_rest(),
                    Err(doubt) => self.doubt(doubt),
                },
                Asking::Body(body, after) => {
                    let after = *after;
                    match body.take(held) {
                        Ok(taken) => {
                            self.requests.pass(taken.len);
                            if let Some(exchange) = self.exchanges.back_mut() {
                                exchange.awaits_leave = false;
                                exchange.log.received(taken.data as u64);
                            }
                            if taken.ended {
                                self.request_is_through(after);
                            }
                        }
                        Err(doubt) => self.doubt(doubt),
                    }
                }
                Asking::Switch(more) => {
                    *more = More::Came;
                    self.requests.pass_all();
                }
                // It was told so, and will ask again elsewhere.
                Asking::Nothing(_) if self.is_last => return,
                Asking::Nothing(doubt) => {
                    let doubt = *doubt;
                    self.doubt(doubt);
                }
                Asking::Unread => self.requests.pass_all(),
            }
        }
    }

    /// A connection that was handshaken and stays silent may be one whose server speaks first.
    pub(super) fn await_first_byte(&mut self) {
        if self.upstream.is_none() {
            self.patience = Some(Patience::Silent(Box::pin(sleep(self.party.cx.sniff.first_byte))));
        }
    }

    /// Empty lines between requests are no beginning of one.
    fn await_rest(&mut self) {
        let has_begun = self.requests.held().iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        // Whoever is not read cannot be late; the last answer to come asks again.
        let is_read = self.exchanges.len() < MOST_ASKED;
        if has_begun && is_read && !matches!(self.patience, Some(Patience::Begun(_))) {
            self.patience = Some(Patience::Begun(Box::pin(sleep(self.party.cx.sniff.timeout))));
        }
    }

    /// Decides what becomes of the held request.
    pub(super) async fn decide(&mut self) {
        self.party.has_asked();
        let held = self.requests.held();
        // A destination that has hung up answers nothing, and nothing is answered in its place.
        let ask = if self.is_upstream_end_told { Ask::Nobody } else { Ask::Rules };
        let (log, hit) = facts::judge(self.party, &self.request, held, ask).await;
        match hit {
            Some(hit) => self.asking = Asking::Ruled(Box::new(Ruled { hit, log })),
            None => {
                let awaited = Awaited::by(&self.request, held);
                self.requests.pass(self.request.len());
                self.let_go(log, None, awaited);
            }
        }
    }

    /// The request whose head was read last goes to its destination.
    pub(super) fn let_go(&mut self, log: ExchangeLog, rewrite: Option<Arc<Rewrite>>, awaited: Awaited) {
        let after = match (self.request.switches(), self.request.persists()) {
            (true, _) => After::Switch,
            (false, true) => After::Head,
            (false, false) => After::Last,
        };
        let body = Body::new(self.request.framing());
        let is_asked = body.is_ended();
        let awaits_leave = !is_asked && self.request.expects_continue();
        self.exchanges.push_back(Exchange { log, awaited, rewrite, awaits_leave, is_asked: false, is_answered: false });
        self.request.clear();
        self.asking = Asking::Body(body, after);
        if is_asked {
            self.request_is_through(after);
        }
    }

    fn request_is_through(&mut self, after: After) {
        self.asking = after.asking();
        if let Some(exchange) = self.exchanges.back_mut() {
            exchange.is_asked = true;
        }
        self.retire();
    }

    /// Dials the destination for the bytes that wait for it.
    pub(super) async fn dial(&mut self) -> Result<(), Broken> {
        let cx = &self.party.cx;
        let mut opening = pin!(self.destination.open(cx));
        let (client, requests, end) = (&mut self.client, &mut self.requests, &mut self.client_end);
        let opened = poll_fn(|task| {
            if let Poll::Ready(opened) = opening.as_mut().poll(task) {
                return Poll::Ready(opened.map_err(Broken::Dial));
            }
            poll_watch(client, requests, end, Leaves::Half, task).map(Err)
        });
        self.upstream = Some(opened.await?);
        Ok(())
    }

    /// Dials the destination of a client that says nothing, to hear whether its server speaks first.
    pub(super) async fn introduce(&mut self) {
        let cx = &self.party.cx;
        let mut opening = pin!(self.destination.open(cx));
        let (client, requests, end) = (&mut self.client, &mut self.requests, &mut self.client_end);
        let opened = poll_fn(|task| {
            if let Poll::Ready(opened) = opening.as_mut().poll(task) {
                return Poll::Ready(opened.ok());
            }
            // Whoever speaks first decides: a rule may answer, and then no destination is needed.
            let is_silent = requests.held().is_empty() && end.is_none();
            let has_gone = is_silent && poll_watch(client, requests, end, Leaves::Altogether, task).is_ready();
            // A watch that has read something is not woken for it again.
            let has_spoken = !requests.held().is_empty() || end.is_some();
            if has_gone || has_spoken { Poll::Ready(None) } else { Poll::Pending }
        });
        self.upstream = opened.await;
    }
}

/// What a client means that ends its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// It says no more, and may still wait for its answer.
    Half,
    /// It has gone.
    Altogether,
}

/// Watches a client that nothing is read of at the moment. Ready once it has gone: with an error, or with its end if that means so.
pub(super) fn poll_watch<C: Wire>(
    client: &mut C,
    requests: &mut Lane,
    end: &mut Option<End>,
    meaning: Leaves,
    task: &mut Context<'_>,
) -> Poll<Broken> {
    while end.is_none() && requests.has_room() {
        let Poll::Ready(read) = requests.poll_fill(client, task) else { return Poll::Pending };
        match end_of(read) {
            Ok(found) => *end = found,
            Err(error) => return Poll::Ready(Broken::Client(error)),
        }
        if end.is_some() && meaning == Leaves::Altogether {
            return Poll::Ready(Broken::Gone);
        }
    }
    Poll::Pending
}
