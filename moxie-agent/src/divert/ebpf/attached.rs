//! A cgroup on path: what of it is diverted, and what it has while names decide that.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aya::programs::cgroup_skb::CgroupSkbLink;

use super::hints::{HintedPlace, Hints};
use super::links::{Links, Programs};
use super::lock;
use super::place::Place;
use super::refusals::Refusals;
use super::rivals::{self, Agent};
use super::shares::Shares;
use crate::chain::Chain;
use crate::divert::{Attachment, DivertError, Known, Share};

/// Why a cgroup has no hints though others have.
const TOO_MANY: &str = "as many cgroups have DNS hints as can; opt in one cgroup above several, in place of each";

/// A cgroup on path.
#[derive(Debug)]
pub(super) struct Attached {
    // Dropped in this order: the hooks before the listeners that they look for.
    pub(super) _links: Links,
    pub(super) hinted: Mutex<Hinted>,
    pub(super) programs: Arc<Programs>,
    pub(super) hints: Result<Arc<Hints>, String>,
    pub(super) cgroup: PathBuf,
    /// Of all cgroups.
    pub(super) root: PathBuf,
    pub(super) place: Arc<Place>,
    pub(super) cgroup_id: u64,
    pub(super) refusals: Arc<Refusals>,
    pub(super) shares: Arc<Shares>,
}

/// What a cgroup has while it has hints.
#[derive(Debug, Default)]
pub(super) struct Hinted {
    // Dropped in this order: nothing more comes for a number that is given back.
    link: Option<CgroupSkbLink>,
    place: Option<HintedPlace>,
    /// Why it has none.
    obstacle: Option<String>,
}

impl Hinted {
    /// It is as good without: then everything is diverted.
    fn begin(&mut self, of: &Attached) {
        if self.link.is_some() {
            return;
        }
        let begun = of.hints.clone().and_then(|hints| {
            let link = of.programs.attach_answering(&of.cgroup).map_err(|error| Chain(&error).to_string())?;
            Ok((link, hints.place(of.cgroup_id)))
        });
        match begun {
            Ok((link, Some(place))) => *self = Self { link: Some(link), place: Some(place), obstacle: None },
            Ok((_, None)) => self.obstacle = Some(TOO_MANY.to_owned()),
            Err(obstacle) => self.obstacle = Some(obstacle),
        }
    }

    fn number(&self) -> u32 {
        self.place.as_ref().map_or(0, HintedPlace::number)
    }
}

/// What another agent means for this one, for people.
fn outrun(other: &Agent) -> String {
    format!(
        "another agent of Moxie's ({other}) is on it before this one, and what that one diverts does not come here: remove its scope, \
         or stop that agent"
    )
}

impl Attachment for Attached {
    fn refresh(&self) {
        self.place.look();
    }

    fn divert(&self, share: Share) -> Result<(), DivertError> {
        let mut hinted = lock(&self.hinted);
        if share == Share::Named {
            hinted.begin(self);
            return self.shares.set(self.cgroup_id, share, hinted.number());
        }
        self.shares.set(self.cgroup_id, share, 0)?;
        *hinted = Hinted::default();
        Ok(())
    }

    fn known(&self) -> Known {
        let hinted = lock(&self.hinted);
        Known { addresses: hinted.place.as_ref().map_or(0, HintedPlace::known), obstacle: hinted.obstacle.clone() }
    }

    fn knows(&self, address: IpAddr) -> bool {
        lock(&self.hinted).place.as_ref().is_some_and(|place| place.knows(address))
    }

    fn obstacles(&self) -> Vec<String> {
        let own = self.programs.connecting();
        let before = own.map(|own| rivals::before(&self.cgroup, own, &self.root)).unwrap_or_default();
        self.place.obstacles().into_iter().chain(before.iter().map(outrun)).collect()
    }

    fn quic_refused(&self) -> u64 {
        self.refusals.of(self.cgroup_id)
    }
}
