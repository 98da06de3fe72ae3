//! What both ends of a connection do, step by step, and what each has to see of it if nothing stands between them.

use bytes::Bytes;

use crate::party::{End, Order};
use crate::transcript::{Event, Transcript, What};

/// One end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Origin,
}

impl Side {
    /// The one that hears what this one says.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Origin,
            Self::Origin => Self::Client,
        }
    }
}

/// Whether the script's bytes go inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    Clear,
    Secret,
}

/// How a party lets go of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Nothing more comes from it; it hears on.
    Finish,
    /// FIN, without a word of the TLS layer.
    Cut,
    /// The TLS layer's word without FIN; nothing in the clear.
    Notify,
    /// RST.
    Reset,
}

/// One step. Steps are done one after the other, so that one party's step may rely on what the other has seen.
#[derive(Clone, Debug)]
pub enum Step {
    /// A party sends bytes, and nobody waits for them.
    Says(Side, Bytes),
    /// The same, byte by byte.
    Trickles(Side, Bytes),
    /// A party has got exactly these.
    Hears(Side, Bytes),
    /// A party ends its direction, or all of it.
    Closes(Side, Close),
    /// A party has got whatever ends the other one told.
    HearsEnd(Side),
    /// A party reads no more.
    Deafens(Side),
    /// A party reads again.
    Listens(Side),
}

/// A conversation.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
}

impl Script {
    /// What `write` says, and then an orderly end of whoever has not ended yet, the client first.
    pub fn of(write: impl FnOnce(&mut Self)) -> Self {
        let mut script = Self::default();
        write(&mut script);
        for side in [Side::Client, Side::Origin] {
            if !script.is_over(side) {
                script.closes(side, Close::Finish);
            }
        }
        script
    }

    fn is_over(&self, side: Side) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Closes(_, Close::Reset) => true,
            Step::Closes(whose, Close::Finish | Close::Cut) => *whose == side,
            _ => false,
        })
    }

    /// A party sends, and nobody waits.
    pub fn says(&mut self, side: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.step(Step::Says(side, Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// A party has got exactly this.
    pub fn hears(&mut self, side: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.step(Step::Hears(side, Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// The client sends and the origin gets it.
    pub fn asks(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.says(Side::Client, &bytes).hears(Side::Origin, &bytes)
    }

    /// The origin sends and the client gets it.
    pub fn answers(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.says(Side::Origin, &bytes).hears(Side::Client, &bytes)
    }

    /// A party sends byte by byte, and the other gets it all.
    pub fn trickles(&mut self, side: Side, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.step(Step::Trickles(side, Bytes::copy_from_slice(bytes.as_ref()))).hears(side.other(), bytes)
    }

    /// A party ends, and the other hears how.
    pub fn closes(&mut self, side: Side, close: Close) -> &mut Self {
        self.step(Step::Closes(side, close)).step(Step::HearsEnd(side.other()))
    }

    /// One more step.
    pub fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    /// The same script for another host: `from` is written wherever the host's name has to be.
    pub fn for_host(&self, from: &str, to: &str) -> Self {
        let replaced = |bytes: &Bytes| replace(bytes, from.as_bytes(), to.as_bytes());
        let steps = self.steps.iter().map(|step| match step {
            Step::Says(side, bytes) => Step::Says(*side, replaced(bytes)),
            Step::Trickles(side, bytes) => Step::Trickles(*side, replaced(bytes)),
            Step::Hears(side, bytes) => Step::Hears(*side, replaced(bytes)),
            other => other.clone(),
        });
        Self { steps: steps.collect() }
    }

    /// Whether the origin has a part in it.
    pub fn reaches_origin(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Says(side, _) | Step::Trickles(side, _) | Step::Hears(side, _) => *side == Side::Origin,
            _ => false,
        })
    }

    /// How many ends each step's party has to hear there.
    pub fn ends(&self, layer: Layer) -> Vec<Vec<End>> {
        let mut told: [Vec<End>; 2] = [Vec::new(), Vec::new()];
        let mut heard = Vec::new();
        for step in &self.steps {
            let mut ends = Vec::new();
            match step {
                Step::Closes(side, close) => told[*side as usize].extend(wire(*close, layer)),
                Step::HearsEnd(side) => ends = std::mem::take(&mut told[side.other() as usize]),
                _ => {}
            }
            heard.push(ends);
        }
        heard
    }

    /// What each end sees where nothing stands between them.
    pub fn ideal(&self, layer: Layer) -> Transcript {
        let mut transcript = Transcript::default();
        for ((index, step), ends) in self.steps.iter().enumerate().zip(self.ends(layer)) {
            match step {
                Step::Hears(side, bytes) => {
                    transcript.add(*side, Event { step: index, what: What::Heard(bytes.clone()) })
                }
                Step::HearsEnd(side) => {
                    for end in ends {
                        transcript.add(*side, Event { step: index, what: What::Ended(end) });
                    }
                }
                _ => {}
            }
        }
        if self.reaches_origin() {
            transcript.add(Side::Origin, Event { step: self.steps.len(), what: What::Connections(1) });
        }
        transcript
    }
}

fn wire(close: Close, layer: Layer) -> Vec<End> {
    match (close, layer) {
        (Close::Finish, Layer::Clear) | (Close::Cut, _) => vec![End::Fin],
        (Close::Finish, Layer::Secret) => vec![End::Notify, End::Fin],
        (Close::Notify, Layer::Clear) => vec![],
        (Close::Notify, Layer::Secret) => vec![End::Notify],
        (Close::Reset, _) => vec![End::Reset],
    }
}

impl From<Close> for Order {
    fn from(close: Close) -> Self {
        match close {
            Close::Finish => Self::Finish,
            Close::Cut => Self::Cut,
            Close::Notify => Self::Notify,
            Close::Reset => Self::Reset,
        }
    }
}

fn replace(bytes: &Bytes, from: &[u8], to: &[u8]) -> Bytes {
    // Hosts are written in heads, and the largest body is too large to be looked through.
    let (head, body) = bytes.split_at(bytes.len().min(1 << 20));
    if !head.windows(from.len()).any(|part| part == from) {
        return bytes.clone();
    }
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = head;
    while let Some((first, others)) = rest.split_first() {
        if rest.starts_with(from) {
            replaced.extend_from_slice(to);
            rest = &rest[from.len()..];
        } else {
            replaced.push(*first);
            rest = others;
        }
    }
    replaced.extend_from_slice(body);
    replaced.into()
}
