//! A way on path without a kernel, for tests: its switches work, and nothing is diverted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{AddressLists, Attachment, Divert, DivertError, Listening, Origin, Terms};
use crate::namespace::Namespace;

/// The way; what it was told is remembered.
#[derive(Debug)]
pub(crate) struct Paper {
    is_enabled: AtomicBool,
    /// `None`: it has none.
    lists: Option<Mutex<AddressLists>>,
    refuses: bool,
    attached: Arc<Mutex<Vec<PathBuf>>>,
    terms: Mutex<Vec<Terms>>,
}

impl Default for Paper {
    fn default() -> Self {
        Self {
            is_enabled: true.into(),
            lists: Some(Mutex::default()),
            refuses: false,
            attached: Arc::default(),
            terms: Mutex::default(),
        }
    }
}

impl Paper {
    /// One without address lists.
    pub(crate) fn without_lists() -> Self {
        Self { lists: None, ..Self::default() }
    }

    /// One that attaches nothing.
    pub(crate) fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    /// The address lists it was told last.
    pub(crate) fn lists(&self) -> AddressLists {
        self.lists.as_ref().map(|lists| lists.lock().unwrap().clone()).unwrap_or_default()
    }

    /// What is attached now, oldest first.
    pub(crate) fn attached(&self) -> Vec<PathBuf> {
        self.attached.lock().unwrap().clone()
    }

    /// How each cgroup was attached so far.
    pub(crate) fn terms(&self) -> Vec<Terms> {
        self.terms.lock().unwrap().clone()
    }
}

#[derive(Debug)]
struct Held(Arc<Mutex<Vec<PathBuf>>>, PathBuf);

impl Attachment for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        // One of them: a cgroup may be attached anew before it is let go.
        let mut attached = self.0.lock().unwrap();
        if let Some(at) = attached.iter().position(|path| *path == self.1) {
            attached.remove(at);
        }
    }
}

#[async_trait]
impl Divert for Paper {
    fn name(&self) -> &'static str {
        "paper"
    }

    fn attach(&self, cgroup: &Path, terms: Terms) -> Result<Box<dyn Attachment>, DivertError> {
        if self.refuses {
            return Err(DivertError::NoKernelHalf);
        }
        self.terms.lock().unwrap().push(terms);
        self.attached.lock().unwrap().push(cgroup.to_owned());
        Ok(Box::new(Held(Arc::clone(&self.attached), cgroup.to_owned())))
    }

    async fn origin(&self, _: &TcpStream, _: &Arc<Namespace>) -> Result<Option<Origin>, DivertError> {
        Ok(None)
    }

    fn take_listeners(&self) -> Option<UnboundedReceiver<Listening>> {
        None
    }

    fn listener_addresses(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn set_enabled(&self, enabled: bool) -> Result<(), DivertError> {
        self.is_enabled.store(enabled, Ordering::SeqCst);
        Ok(())
    }

    fn set_addresses(&self, lists: &AddressLists) -> Result<(), DivertError> {
        let Some(own) = &self.lists else { return Err(DivertError::NoAddressLists { way: self.name() }) };
        *own.lock().unwrap() = lists.clone();
        Ok(())
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::SeqCst)
    }

    fn beat(&self) {}

    fn dial_mark(&self) -> Option<u32> {
        None
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("diverted", 7)]
    }
}
