//! HTTP/1 on a connection that is looked into: an observing relay, the inner loop of stage 5.
//!
//! Both sides' bytes go on as they came; [`crate::http1`] tells where messages begin and end. Only a request's head is held, until
//! it is decided what becomes of it, and the head of an answer that is to be changed. A message that a rule names is answered here or
//! changed in the parts that the rule names. In doubt nothing is interpreted any more, and the rest of the connection is bytes.
//!
//! One connection of the client's has one connection to the destination, opened when the first bytes are to go on and never again.
//! Each side's end reaches the other as it came: FIN, `close_notify`, reset.

mod act;
mod answer;
mod answers;
mod exchange;
mod facts;
mod lane;
mod requests;
pub(in crate::datapath) mod wire;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use super::act::Error;
use super::party::Party;
use super::record::ExchangeLog;
use crate::drain::Hurry;
use crate::http1::{Doubt, RequestHead, ResponseHead};
use crate::journal::ExchangeError;
use crate::upstream::{LinkError, Stream, Way};
use exchange::{Answering, Asking, Exchange, Fate};
use lane::Lane;
use wire::{Destination, End, Wire};

/// Serves the exchanges of a connection until it ends. `ready` is a connection to the destination that is there already.
///
/// # Errors
/// The client broke off, or the destination gave no answer.
pub(in crate::datapath) async fn serve(
    client: impl Wire,
    party: &Party,
    way: Way,
    ready: Option<Stream>,
) -> Result<(), Error> {
    Relay::new(client, party, way, ready).serve().await
}

/// Both directions of a connection.
struct Relay<'p, C, D: Destination> {
    party: &'p Party,
    client: C,
    destination: D,
    upstream: Option<D::Wire>,
    /// Whether the destination has been sent anything.
    is_used: bool,
    requests: Lane,
    answers: Lane,
    asking: Asking,
    answering: Answering,
    request: RequestHead,
    answer: ResponseHead,
    /// The beginning of an answer's head, which has been passed on already.
    begun: Vec<u8>,
    /// Oldest first; only the newest may still be asked, only the oldest is being answered.
    exchanges: VecDeque<Exchange>,
    /// Answers that are through but for the writing.
    through: Vec<ExchangeLog>,
    /// How the client stopped sending, and whether the destination has been told.
    client_end: Option<End>,
    is_client_end_told: bool,
    /// How the destination stopped sending, and whether the client has been told.
    upstream_end: Option<End>,
    is_upstream_end_told: bool,
    /// The destination takes nothing more; what it said before that is still read.
    upstream_fault: Option<io::Error>,
    /// The client has been told that the answer under way is its last.
    is_last: bool,
    patience: Option<Patience>,
    /// When a client that is not read is looked at next.
    look: Option<Pin<Box<Sleep>>>,
    hurry: Hurry,
}

/// How long a side is waited for.
enum Patience {
    /// For the first byte of a client, before the destination is dialled to see whether it speaks first.
    Silent(Pin<Box<Sleep>>),
    /// For the rest of a head.
    Begun(Pin<Box<Sleep>>),
}

/// What a relay cannot do by polling alone.
enum Step {
    Decide,
    Dial,
    Introduce,
    Act,
    Farewell,
    Over,
}

/// Why a relay ended before both sides had.
enum Broken {
    /// The client broke off.
    Client(io::Error),
    /// The client went away while it was waited for.
    Gone,
    /// The destination broke off.
    Upstream(io::Error),
    /// The destination was not reached.
    Dial(LinkError),
    /// A rule asked for it.
    Asked,
    /// What has been read in part and cannot be passed on any more is in doubt.
    Doubt(Doubt),
}

impl<'p, C: Wire, D: Destination> Relay<'p, C, D> {
    fn new(client: C, party: &'p Party, destination: D, upstream: Option<D::Wire>) -> Self {
        Self {
            party,
            client,
            destination,
            upstream,
            is_used: false,
            requests: Lane::default(),
            answers: Lane::default(),
            asking: Asking::Head,
            answering: Answering::Head,
            request: RequestHead::default(),
            answer: ResponseHead::default(),
            begun: Vec::new(),
            exchanges: VecDeque::new(),
            through: Vec::new(),
            client_end: None,
            is_client_end_told: false,
            upstream_end: None,
            is_upstream_end_told: false,
            upstream_fault: None,
            is_last: false,
            patience: None,
            look: None,
            hurry: party.cx.drain.hurry(),
        }
    }

    async fn serve(mut self) -> Result<(), Error> {
        let ended = self.run().await;
        self.conclude(ended)
    }

    async fn run(&mut self) -> Result<(), Broken> {
        self.await_first_byte();
        loop {
            match poll_fn(|task| self.poll_step(task)).await? {
                Step::Decide => self.decide().await,
                Step::Dial => self.dial().await?,
                Step::Introduce => self.introduce().await,
                Step::Act => self.act().await?,
                Step::Farewell => return self.farewell().await,
                Step::Over => return self.hang_up().await,
            }
            self.read_requests();
        }
    }

    /// Moves bytes both ways until something else is to be done.
    fn poll_step(&mut self, task: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        loop {
            let answers_moved = self.poll_answers(task)?;
            let requests_moved = self.poll_requests(task)?;
            if let Some(step) = self.due() {
                return Poll::Ready(Ok(step));
            }
            if !answers_moved && !requests_moved {
                self.look_at_client(task)?;
                return self.poll_clock(task).map(Ok);
            }
        }
    }

    fn due(&self) -> Option<Step> {
        // With what could not be written the held request was thrown away.
        if self.upstream_fault.is_some() && matches!(self.asking, Asking::Whole | Asking::Ruled(_)) {
            return None;
        }
        if matches!(self.asking, Asking::Whole) {
            return Some(Step::Decide);
        }
        if self.upstream.is_none() && !self.requests.is_clear() {
            return Some(Step::Dial);
        }
        let is_quiet = self.exchanges.is_empty() && self.answers.is_drained();
        if matches!(self.asking, Asking::Ruled(_)) {
            // What is still to be written of the request before it would be dropped with it.
            return (is_quiet && self.requests.is_clear()).then_some(Step::Act);
        }
        if self.is_last && is_quiet {
            return Some(Step::Farewell);
        }
        let nothing_comes = self.client_end.is_some() && self.requests.held().is_empty();
        let is_over = match &self.upstream {
            None => nothing_comes && is_quiet,
            Some(_) => self.is_client_end_told && self.is_upstream_end_told,
        };
        is_over.then_some(Step::Over)
    }

    /// Whether a request is on its way, or its answer.
    fn is_busy(&self) -> bool {
        !self.exchanges.is_empty() || !self.requests.held().is_empty() || !self.answers.is_drained()
    }

    fn poll_clock(&mut self, task: &mut Context<'_>) -> Poll<Step> {
        if self.hurry.poll(task).is_ready() && !self.is_busy() && !matches!(self.answering, Answering::Unread) {
            return Poll::Ready(Step::Farewell);
        }
        match &mut self.patience {
            None => Poll::Pending,
            Some(Patience::Silent(sleep)) => {
                std::task::ready!(sleep.as_mut().poll(task));
                self.patience = None;
                Poll::Ready(Step::Introduce)
            }
            Some(Patience::Begun(sleep)) => {
                std::task::ready!(sleep.as_mut().poll(task));
                self.doubt(Doubt::HeadTooSlow);
                task.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// From now on bytes are bytes: everything that was held goes on as it came.
    fn doubt(&mut self, doubt: Doubt) {
        self.party.log.doubted(doubt);
        self.stop_reading();
    }

    /// HTTP is over on this connection.
    fn stop_reading(&mut self) {
        if let Asking::Ruled(ruled) = std::mem::replace(&mut self.asking, Asking::Unread) {
            let mut log = ruled.log;
            log.passed();
            self.through.push(log);
        }
        self.patience = None;
        self.requests.pass_all();
        if matches!(self.answering, Answering::Body(_, Fate::Replaced)) {
            // What comes now is not for the client, which has a rule's answer in its place: see `answer_is_through`.
            return;
        }
        self.answering = Answering::Unread;
        self.begun = Vec::new();
        self.answers.pass_all();
        self.through.extend(self.exchanges.drain(..).map(|exchange| exchange.log));
    }

    /// Resets whoever is to see a reset, and says in the records why exchanges have no answer.
    fn conclude(&mut self, ended: Result<(), Broken>) -> Result<(), Error> {
        let Err(broken) = ended else {
            self.through.iter_mut().for_each(ExchangeLog::finished);
            return Ok(());
        };
        self.client.reset();
        let error = match broken {
            Broken::Client(error) => {
                self.reset_upstream();
                Error::Client(error)
            }
            Broken::Gone | Broken::Asked => return Ok(()),
            Broken::Upstream(error) => {
                self.break_exchanges(ExchangeError::UpstreamBroke);
                Error::Upstream(error)
            }
            Broken::Dial(error) => {
                self.break_exchanges(error.in_record());
                Error::Open(error)
            }
            Broken::Doubt(doubt) => {
                self.party.log.doubted(doubt);
                return Ok(());
            }
        };
        Err(error)
    }

    fn reset_upstream(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            upstream.reset();
        }
    }

    fn break_exchanges(&mut self, error: ExchangeError) {
        for mut exchange in self.exchanges.drain(..) {
            exchange.log.broke(error);
        }
    }
}
