//! What counts: only what ends within the measured time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use moxie_bench::figures::percentile;
use moxie_bench::processors::Moment;
use moxie_bench::report::Report;
use tokio::time::{Instant, sleep};

/// How much longer than asked for a run may last that has no answer yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts of a run; one thread holds it.
pub(crate) struct Tally {
    proxy: Vec<u32>,
    watched: Vec<u32>,
    is_measured: Cell<bool>,
    bytes: Cell<u64>,
    errors: Cell<u64>,
    early: Cell<u64>,
    latencies: RefCell<Vec<u64>>,
    complaint: RefCell<Option<String>>,
}

impl Tally {
    pub(crate) fn new(proxy: Vec<u32>, own: Vec<u32>) -> Rc<Self> {
        let watched = own.into_iter().chain(proxy.iter().copied()).chain([std::process::id()]).collect();
        Rc::new(Self {
            proxy,
            watched,
            is_measured: Cell::new(false),
            bytes: Cell::default(),
            errors: Cell::default(),
            early: Cell::default(),
            latencies: RefCell::default(),
            complaint: RefCell::default(),
        })
    }

    /// A request was answered after `latency`.
    pub(crate) fn answered(&self, latency: Duration) {
        if self.is_measured.get() {
            self.latencies.borrow_mut().push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Bytes of a body came.
    pub(crate) fn arrived(&self, bytes: usize) {
        if self.is_measured.get() {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    /// An answer came before it was due.
    pub(crate) fn early(&self) {
        if self.is_measured.get() {
            self.early.set(self.early.get() + 1);
        }
    }

    /// A request failed, at any time of the run.
    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.errors.set(self.errors.get() + 1);
        self.complaint.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
    }

    /// Lets what was started run, and says what it came to.
    pub(crate) async fn measure(&self, warm_up: Duration, measured: Duration) -> Report {
        sleep(warm_up).await;
        let (began, before) = (Instant::now(), self.moment());
        self.is_measured.set(true);
        sleep(measured).await;
        // A slow target's first answer is worth waiting for: a run without one says nothing.
        while self.is_empty() && began.elapsed() < measured + PATIENCE {
            sleep(measured).await;
        }
        self.is_measured.set(false);
        let (seconds, after) = (began.elapsed().as_secs_f64(), self.moment());
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        let mut report = Report {
            seconds,
            requests: latencies.len() as u64,
            errors: self.errors.get(),
            complaint: self.complaint.take(),
            bytes: self.bytes.get(),
            p50: percentile(&latencies, 0.5).unwrap_or_default(),
            p99: percentile(&latencies, 0.99).unwrap_or_default(),
            early: self.early.get(),
            ..self.used(&before, &after, seconds)
        };
        if report.requests == 0 && report.bytes == 0 && report.errors == 0 {
            report.errors = 1;
            report.complaint = Some(format!("nothing came within {seconds:.1} s"));
        }
        report
    }

    /// Whether there is neither an answer nor an error.
    fn is_empty(&self) -> bool {
        self.latencies.borrow().is_empty() && self.bytes.get() == 0 && self.errors.get() == 0
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment::now(&self.watched)
    }

    /// A report of processors only.
    pub(crate) fn used(&self, before: &Moment, after: &Moment, seconds: f64) -> Report {
        let cpu = after.used_since(before, &self.proxy);
        Report {
            seconds,
            cpu,
            foreign: after.foreign_since(before) / seconds.max(f64::MIN_POSITIVE),
            ..Report::default()
        }
    }
}
