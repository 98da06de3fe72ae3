//! The guards against a loop, each with the others switched off, on a whole agent whose own cgroup is on path.

use std::sync::Arc;

use moxie_agent::app::{AdminDoors, App, Options};
use moxie_agent::clock::Clock;
use moxie_agent::config::{self, Flags};
use moxie_agent::divert::ebpf::{Ebpf, EbpfOptions, Guards};
use moxie_agent::divert::{Divert as _, Terms};
use moxie_agent::paths::StateDir;
use moxie_agent::scope::cgroup::{Hierarchy, RunCgroup};

use super::{V4, said};
use crate::lab::{DIRECT, Lab};

const NONE: Guards = Guards { attach: false, cgroup: false, mark: false, dial: false };

/// What came of one call.
struct Call {
    answer: String,
    /// Connections that reached the destination.
    served: usize,
    divert: Arc<Ebpf>,
}

impl Call {
    /// Of an application in a scope, with the agent's own cgroup on path too.
    fn with(guards: Guards) -> Option<Self> {
        let lab = Lab::new()?;
        let options = EbpfOptions { guards, ..EbpfOptions::default() };
        let divert = Arc::new(lab.inside(|| Ebpf::load(&options)).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let state = tempfile::tempdir().unwrap();
        let options = Options {
            config: config::read("", |_| None, &Flags::default()).unwrap(),
            state: StateDir::locate(Some(state.path()), |_| None),
            store: "sqlite::memory:".into(),
            admin: AdminDoors::Closed,
            clock: Clock::system(),
        };
        let app = runtime.block_on(App::start_on(Arc::clone(&divert) as _, options)).unwrap();
        let own = Hierarchy::find().unwrap().of_process(std::process::id()).unwrap();
        let held_own = divert.attach(&own, Terms::default()).unwrap();
        let cgroup = RunCgroup::create().unwrap();
        let held = divert.attach(cgroup.path(), Terms::default()).unwrap();
        let answer = lab.client(Some(&cgroup)).ask(&format!("tcp {V4}"));
        drop((held, held_own));
        runtime.block_on(app.stop());
        Some(Self { answer, served: lab.served(), divert })
    }

    fn count(&self, name: &str) -> u64 {
        self.divert.counters().iter().find(|(counter, _)| *counter == name).expect("a counter of that name").1
    }
}

#[test]
fn the_agents_cgroup_alone_keeps_it_from_itself() {
    let Some(call) = Call::with(Guards { cgroup: true, ..NONE }) else { return };
    assert_eq!((call.answer.as_str(), call.served), (said(DIRECT, V4).as_str(), 1));
    assert_eq!((call.count("diverted"), call.count("agents_own"), call.count("exempt")), (1, 1, 0));
}

#[test]
fn the_mark_alone_keeps_it_from_itself() {
    let Some(call) = Call::with(Guards { mark: true, ..NONE }) else { return };
    assert_eq!((call.answer.as_str(), call.served), (said(DIRECT, V4).as_str(), 1));
    assert_eq!((call.count("diverted"), call.count("agents_own"), call.count("exempt")), (1, 0, 1));
}

#[test]
fn the_dial_guard_alone_ends_a_loop_at_its_first_turn() {
    let Some(call) = Call::with(Guards { dial: true, ..NONE }) else { return };
    assert_eq!((call.answer.as_str(), call.served), ("error ECONNRESET", 0));
    // The application's, and the agent's own that came back.
    assert_eq!(call.count("diverted"), 2);
}
