//! A cgroup that is on path, once, for every scope that matches it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::lock;
use super::spec::ScopeId;
use crate::divert::{Attachment, DivertError, Known, Share, Terms};

/// A cgroup on path. Copies share the attachment.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its directory.
    pub(super) path: PathBuf,
    /// Id of the directory that is on path: one made later under the same name is another.
    pub(super) cgroup_id: u64,
    /// How it is on path.
    pub(super) terms: Terms,
    /// The scopes that match it; calls are the first one's.
    pub(super) owners: Vec<ScopeId>,
    /// `None` once it is off path. Snapshots of the registry may outlive that.
    hold: Arc<Mutex<Hold>>,
}

/// The attachment, and how much it diverts; `None` until that was said.
#[derive(Debug)]
struct Hold {
    attachment: Option<Box<dyn Attachment>>,
    share: Option<Share>,
}

impl Place {
    pub(super) fn new(path: PathBuf, wanted: &Wanted, attachment: Box<dyn Attachment>) -> Self {
        Self {
            path,
            cgroup_id: wanted.cgroup_id,
            terms: wanted.terms,
            owners: wanted.owners.clone(),
            hold: Arc::new(Mutex::new(Hold { attachment: Some(attachment), share: None })),
        }
    }

    /// The same attachment, for these scopes.
    pub(super) fn owned_by(&self, owners: Vec<ScopeId>) -> Self {
        Self { owners, ..self.clone() }
    }

    /// Whether it is what is wanted, but perhaps for its owners.
    pub(super) fn is(&self, wanted: &Wanted) -> bool {
        self.cgroup_id == wanted.cgroup_id && self.terms == wanted.terms
    }

    /// How much of it is diverted is to be said anew: another attachment to its cgroup may have said otherwise.
    pub(super) fn forget_share(&self) {
        lock(&self.hold).share = None;
    }

    /// Whether two places hold the same attachment.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hold, &other.hold)
    }

    /// Takes it off path, at once.
    pub(super) fn leave(&self) {
        drop(lock(&self.hold).attachment.take());
    }

    /// Diverts this much of it from the next connect on.
    pub(super) fn divert(&self, share: Share) -> Result<(), DivertError> {
        let mut hold = lock(&self.hold);
        if hold.share == Some(share) {
            return Ok(());
        }
        hold.attachment.as_ref().map_or(Ok(()), |attachment| attachment.divert(share))?;
        hold.share = Some(share);
        tracing::debug!(path = %self.path.display(), ?share, "diverted");
        Ok(())
    }

    /// What of it is left direct because of its name.
    pub(super) fn known(&self) -> Known {
        lock(&self.hold).attachment.as_ref().map(|attachment| attachment.known()).unwrap_or_default()
    }

    /// Whether an address is left direct because of its name, or was.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        lock(&self.hold).attachment.as_ref().is_some_and(|attachment| attachment.knows(address))
    }

    /// How much of it is diverted.
    pub(super) fn share(&self) -> Share {
        lock(&self.hold).share.unwrap_or_default()
    }

    /// Follows its processes into network namespaces.
    pub(super) fn refresh(&self) {
        if let Some(attachment) = &lock(&self.hold).attachment {
            attachment.refresh();
        }
    }

    /// What keeps its connections from being diverted, and the UDP datagrams that were refused.
    pub(super) fn state(&self) -> (Vec<String>, u64) {
        let hold = lock(&self.hold);
        hold.attachment.as_ref().map_or_else(Default::default, |hold| (hold.obstacles(), hold.quic_refused()))
    }
}

/// A cgroup that scopes match, and so how it has to be on path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Id of its directory.
    pub(super) cgroup_id: u64,
    /// What its scopes ask for, together.
    pub(super) terms: Terms,
    /// The scopes, oldest first.
    pub(super) owners: Vec<ScopeId>,
}
