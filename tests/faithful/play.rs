//! Plays a script on a stage and writes down what both ends saw.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::party::{End, Inbox, Order, Party};
use crate::script::{Layer, Script, Side, Step};
use crate::secret::Secret;
use crate::stage::{Judged, Stage, Tier};
use crate::transcript::{Event, Transcript, What};

/// How long anything that has to come is waited for.
pub const BOUND: Duration = Duration::from_secs(8);

/// What a script is played with.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The host's domain; certificates are for every name in it.
    pub domain: &'static str,
    /// The host that the client asks for.
    pub host: String,
    /// What the client offers.
    pub offered: Vec<&'static str>,
    /// What the origin speaks.
    pub spoken: Vec<&'static str>,
    /// Whether somebody listens at the origin's address.
    pub presence: Presence,
}

/// Whether there is an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    There,
    /// Its address refuses connections.
    Absent,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Played {
    pub transcript: Transcript,
    /// What the agent made of the connection, and why.
    pub verdict: Option<Judged>,
    /// Whether it was the client's own socket that came to the origin.
    pub is_own: bool,
}

/// Plays `script`.
pub async fn play(script: &Script, cast: &Cast, layer: Layer, tier: Tier, stage: &impl Stage) -> Played {
    let secret = (layer == Layer::Secret).then(|| stage.server(cast.domain, &cast.spoken));
    let origin = Origin::open(stage.listen(), secret, cast.presence);
    let address = origin.address;
    let mut transcript = Transcript::default();
    let mut is_own = true;
    match stage.connect(tier, address).await {
        Ok(stream) => {
            let own = stream.local_addr().ok();
            let secret =
                (layer == Layer::Secret).then(|| Secret::client(&stage.client(tier, &cast.offered), &cast.host));
            let client = Party::on(stream, secret, Arc::default());
            let mut players = Players { client, origin, transcript, ends: script.ends(layer) };
            if cast.presence == Presence::Absent {
                players.client.order(Order::Say(cast.host.clone().into()));
                players.note_first_end().await;
            }
            for (index, step) in script.steps.iter().enumerate() {
                if players.act(index, step).await.is_err() {
                    players.transcript.given_up = Some(index);
                    break;
                }
            }
            is_own = players.origin.came.lock().unwrap().peers.iter().all(|peer| Some(*peer) == own);
            transcript = players.leave(script);
        }
        Err(error) => {
            let refused = What::Refused(format!("{:?}", error.kind()));
            transcript.add(Side::Client, Event { step: 0, what: refused });
            transcript.given_up = Some(0);
        }
    }
    let verdict = stage.verdict(tier, address).await;
    Played { transcript, verdict, is_own }
}

/// Something had to come and did not.
struct GivenUp;

struct Players {
    client: Party,
    origin: Origin,
    transcript: Transcript,
    ends: Vec<Vec<End>>,
}

impl Players {
    async fn act(&mut self, index: usize, step: &Step) -> Result<(), GivenUp> {
        match step {
            Step::Says(side, bytes) => self.order(index, *side, Order::Say(bytes.clone())).await,
            Step::Trickles(side, bytes) => self.order(index, *side, Order::Trickle(bytes.clone())).await,
            Step::Closes(side, close) => self.order(index, *side, (*close).into()).await,
            Step::Deafens(side) => self.order(index, *side, Order::Deafen).await,
            Step::Listens(side) => self.order(index, *side, Order::Listen).await,
            Step::Hears(side, expected) => self.hear(index, *side, expected.len()).await,
            Step::HearsEnd(side) => self.hear_end(index, *side).await,
        }
    }

    async fn order(&mut self, index: usize, side: Side, order: Order) -> Result<(), GivenUp> {
        let party = match side {
            Side::Client => Some(&self.client),
            Side::Origin => self.origin.party().await,
        };
        let Some(party) = party else { return self.silence(index, side) };
        party.order(order);
        Ok(())
    }

    async fn hear(&mut self, index: usize, side: Side, count: usize) -> Result<(), GivenUp> {
        // A connection that came to nothing is not the one on which bytes have to come.
        let enough = |inbox: &Inbox| {
            inbox.bytes.len() >= count || (!inbox.ends.is_empty() && (side == Side::Client || !inbox.was_in_vain()))
        };
        let Some(party) = self.heard(side, enough).await else { return self.silence(index, side) };
        let (bytes, ended) = {
            let mut inbox = party.inbox();
            let bytes = inbox.take(count);
            let ended = if bytes.len() < count { inbox.ends.pop_front() } else { None };
            (bytes, ended)
        };
        let is_short = bytes.len() < count;
        if !bytes.is_empty() || !is_short {
            self.note(index, side, What::Heard(bytes));
        }
        match ended {
            Some(end) => self.note(index, side, What::Ended(end)),
            None if is_short => return self.silence(index, side),
            None => {}
        }
        Ok(())
    }

    async fn hear_end(&mut self, index: usize, side: Side) -> Result<(), GivenUp> {
        let wanted = self.ends[index].clone();
        if wanted.is_empty() {
            return Ok(());
        }
        let is_last = |end: &End| matches!(end, End::Fin | End::Reset | End::Broken);
        let count = wanted.len();
        let enough = |inbox: &Inbox| inbox.ends.len() >= count || inbox.ends.iter().any(is_last);
        let Some(party) = self.heard(side, enough).await else { return self.silence(index, side) };
        let (bytes, ends) = {
            let mut inbox = party.inbox();
            let bytes = inbox.take(usize::MAX);
            let mut ends = Vec::new();
            while ends.len() < count
                && !ends.last().is_some_and(is_last)
                && let Some(end) = inbox.ends.pop_front()
            {
                ends.push(end);
            }
            (bytes, ends)
        };
        if !bytes.is_empty() {
            self.note(index, side, What::Heard(bytes));
        }
        let is_short = ends.len() < count && !ends.last().is_some_and(is_last);
        for end in ends {
            self.note(index, side, What::Ended(end));
        }
        if is_short { self.silence(index, side) } else { Ok(()) }
    }

    /// What the client of an origin that is not there sees of that.
    async fn note_first_end(&mut self) {
        self.client.until(BOUND, |inbox| !inbox.ends.is_empty()).await;
        let end = self.client.inbox().ends.pop_front();
        self.note(0, Side::Client, end.map_or(What::Silence, What::Ended));
    }

    /// Waits for a party to hear enough, or as long as anything is waited for; none where there is no such party.
    async fn heard(&mut self, side: Side, enough: impl Fn(&Inbox) -> bool) -> Option<&Party> {
        match side {
            Side::Client => {
                self.client.until(BOUND, enough).await;
                Some(&self.client)
            }
            Side::Origin => self.origin.heard(enough).await,
        }
    }

    fn note(&mut self, step: usize, side: Side, what: What) {
        self.transcript.add(side, Event { step, what });
    }

    fn silence(&mut self, step: usize, side: Side) -> Result<(), GivenUp> {
        self.note(step, side, What::Silence);
        Err(GivenUp)
    }

    fn leave(mut self, script: &Script) -> Transcript {
        if script.reaches_origin() && self.transcript.given_up.is_none() {
            let count = self.origin.came.lock().unwrap().peers.len();
            self.note(script.steps.len(), Side::Origin, What::Connections(count));
        }
        self.transcript.agreed = [
            self.client.inbox().agreed.clone(),
            self.origin.current.as_ref().and_then(|party| party.inbox().agreed.clone()),
        ];
        self.transcript
    }
}

/// Connections that came to the origin.
#[derive(Default)]
struct Came {
    waiting: VecDeque<Party>,
    peers: Vec<SocketAddr>,
}

/// The origin's address and whoever came to it.
struct Origin {
    address: SocketAddr,
    current: Option<Party>,
    came: Arc<Mutex<Came>>,
    arrival: Arc<Notify>,
    accepting: Option<JoinHandle<()>>,
}

impl Origin {
    fn open(listener: StdListener, secret: Option<Arc<ServerConfig>>, presence: Presence) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (came, arrival) = (Arc::<Mutex<Came>>::default(), Arc::<Notify>::default());
        let accepting = (presence == Presence::There).then(|| {
            let (came, arrival) = (Arc::clone(&came), Arc::clone(&arrival));
            tokio::spawn(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let party = Party::on(stream, secret.as_ref().map(Secret::server), Arc::clone(&arrival));
                    let mut came = came.lock().unwrap();
                    came.peers.push(peer);
                    came.waiting.push_back(party);
                    drop(came);
                    arrival.notify_waiters();
                }
            })
        });
        Self { address, current: None, came, arrival, accepting }
    }

    /// The connection that the script is played on: the first, or the one after it where that came to nothing.
    async fn party(&mut self) -> Option<&Party> {
        self.heard(|_| true).await
    }

    /// The same once it has heard enough, or has had the time to.
    async fn heard(&mut self, enough: impl Fn(&Inbox) -> bool) -> Option<&Party> {
        let arrival = Arc::clone(&self.arrival);
        let wait = async {
            loop {
                let arrived = arrival.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                self.go_on();
                if self.current.as_ref().is_some_and(|party| enough(&party.inbox())) {
                    return;
                }
                arrived.await;
            }
        };
        // What is there after all the time is for the caller to look at.
        let _ = tokio::time::timeout(BOUND, wait).await;
        self.current.as_ref()
    }

    /// Takes the next connection, if there is one and there is none that is of use.
    fn go_on(&mut self) {
        if self.current.as_ref().is_none_or(|party| party.inbox().was_in_vain())
            && let Some(next) = self.came.lock().unwrap().waiting.pop_front()
        {
            self.current = Some(next);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}
