//! What an operator sets of the way on path while the agent runs: the kill switch and the address lists, kept over restarts.

use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::divert::{AddressLists, Divert, DivertError, Network};

/// The switch, the lists, and the file that they are kept in.
#[derive(Debug)]
pub struct Switchboard {
    divert: Arc<dyn Divert>,
    /// `None`: nothing is kept.
    file: Option<PathBuf>,
    configured: AddressLists,
    set: Mutex<Set>,
    /// The lists where the way on path has none of its own: then connections come, and pass through.
    here: ArcSwap<AddressLists>,
}

/// What was set, as it is kept: what is absent is as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<Vec<Network>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<Vec<Network>>,
}

/// What to change; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The kill switch.
    pub enabled: Option<bool>,
    /// The networks that are diverted, or those of the configuration.
    pub allow: Option<ListChange>,
    /// The networks that are not, or those of the configuration.
    pub deny: Option<ListChange>,
}

/// What becomes of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// These.
    To(Vec<Network>),
    /// What the configuration says.
    AsConfigured,
}

impl ListChange {
    fn into_kept(self) -> Option<Vec<Network>> {
        match self {
            Self::To(networks) => Some(networks),
            Self::AsConfigured => None,
        }
    }
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether new connections of the scopes are diverted.
    pub enabled: bool,
    /// To and not to where.
    pub lists: AddressLists,
}

/// Why a change is not in force, or not for good.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The lists cannot be meant together; what to write instead.
    #[error("{0}")]
    Lists(String),
    /// The way on path did not take it.
    #[error(transparent)]
    Divert(#[from] DivertError),
    /// It is in force, and a restart of the agent undoes it.
    #[error("the change is in force until the agent restarts: it cannot be written to {}", path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Switchboard {
    /// Puts in force what was kept in `file`, and the configured lists where nothing was. Also gives what did not work, for people:
    /// it keeps no agent from starting.
    #[must_use]
    pub fn open(divert: Arc<dyn Divert>, file: Option<PathBuf>, configured: AddressLists) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let set = file.as_deref().map_or_else(Set::default, |file| {
            read(file).unwrap_or_else(|error| {
                warnings.push(format!(
                    "{}: {error}; the switch and the address lists are as configured, and the file is replaced at the next change",
                    file.display()
                ));
                Set::default()
            })
        });
        let board = Self { divert, file, configured, set: Mutex::new(set.clone()), here: ArcSwap::default() };
        let switched = set.enabled.map_or(Ok(()), |enabled| board.divert.set_enabled(enabled));
        for result in [switched, board.put_in_force(board.lists(&set))] {
            if let Err(error) = result {
                warnings.push(format!("what is diverted is not as it was set: {}", Chain(&error)));
            }
        }
        (board, warnings)
    }

    /// Whether a connection that came has to pass through by the address lists. Asked of each connection; never waits.
    #[must_use]
    pub fn leaves_alone(&self, address: IpAddr) -> bool {
        !self.here.load().diverts(address)
    }

    fn put_in_force(&self, lists: AddressLists) -> Result<(), DivertError> {
        match self.divert.set_addresses(&lists) {
            Err(DivertError::NoAddressLists { .. }) => self.here.store(Arc::new(lists)),
            Err(error) => return Err(error),
            Ok(()) => self.here.store(Arc::default()),
        }
        Ok(())
    }

    /// What is in force.
    #[must_use]
    pub fn setting(&self) -> Setting {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        Setting { enabled: self.divert.is_enabled(), lists: self.lists(&set) }
    }

    /// Changes it, for every connect from now on. Blocks for system calls, some thousands where lists are long.
    ///
    /// # Errors
    /// Why it is not in force, or not for good.
    pub fn change(&self, change: Change) -> Result<Setting, SwitchError> {
        // Whoever holds this lock does nothing that panics.
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = set.clone();
        next.enabled = change.enabled.or(next.enabled);
        if let Some(allow) = change.allow {
            next.allow = allow.into_kept();
        }
        if let Some(deny) = change.deny {
            next.deny = deny.into_kept();
        }
        let lists = self.lists(&next);
        if lists != self.lists(&set) {
            lists.check().map_err(SwitchError::Lists)?;
            self.put_in_force(lists.clone())?;
        }
        if let Some(enabled) = change.enabled {
            self.divert.set_enabled(enabled)?;
        }
        *set = next;
        if let Some(path) = &self.file {
            write(path, &set).map_err(|source| SwitchError::NotKept { path: path.clone(), source })?;
        }
        Ok(Setting { enabled: self.divert.is_enabled(), lists })
    }

    fn lists(&self, set: &Set) -> AddressLists {
        let list = |set: &Option<Vec<Network>>, configured: &Vec<Network>| set.as_ref().unwrap_or(configured).clone();
        AddressLists { allow: list(&set.allow, &self.configured.allow), deny: list(&set.deny, &self.configured.deny) }
    }
}

fn read(file: &Path) -> Result<Set, String> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Set::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whole or not at all.
fn write(path: &Path, set: &Set) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(set)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
