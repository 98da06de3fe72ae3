//! An agent in this process: every connection to its front door wants to go where it is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use in_process::InProcess;

#[expect(dead_code, reason = "the suites ask it for more")]
#[path = "../../../tests/src/in_process.rs"]
mod in_process;

/// Panics since the agent began: those in its tasks end nothing else.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How many panics there were.
pub(super) fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// An agent with a rule that could name every host and fires for no request.
pub(super) struct Agent {
    inner: InProcess,
    destination: Arc<Mutex<SocketAddr>>,
    _pipe: Signal,
}

impl Agent {
    pub(super) async fn start() -> Self {
        // The fuzzer's program does not begin as Rust's do, which hear of a broken pipe by the write that failed.
        let pipe = signal(SignalKind::pipe()).expect("a signal that can be handled");
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tell(panic);
        }));
        let destination = Arc::new(Mutex::new((Ipv4Addr::LOCALHOST, 1).into()));
        let told = Arc::clone(&destination);
        let to = move |_| Some(*told.lock().unwrap_or_else(PoisonError::into_inner));
        let inner = InProcess::start(to, "", &[]).await.expect("an agent");
        let never = json!({"url": ".*", "when": {"headers": {"X-A": {"present": true, "absent": true}}}});
        inner.app.rules.create(&never).await.expect("a rule");
        Self { inner, destination, _pipe: pipe }
    }

    pub(super) fn door(&self) -> SocketAddr {
        self.inner.door
    }

    /// Where connections want to go from now on.
    pub(super) fn leads_to(&self, destination: SocketAddr) {
        *self.destination.lock().unwrap_or_else(PoisonError::into_inner) = destination;
    }
}
