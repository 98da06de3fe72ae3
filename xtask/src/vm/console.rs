//! What a machine says on its serial line, line by line.

use anyhow::{Result, bail};

/// Beginning of the lines that `init.sh` says to the host.
const PREFIX: &str = "moxie-vm: ";

/// Something that happened inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The kernel runs; its release.
    Booted(String),
    /// A step ended, well or not.
    Ended(Outcome),
    /// Nothing more will come.
    Done,
}

/// How a step came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The step's name.
    pub(super) step: String,
    /// Its exit code; 124 where it took too long.
    pub(super) code: i32,
    /// Tests that passed.
    pub(super) passed: u32,
    /// Tests that did not, by name.
    pub(super) failed: Vec<String>,
    /// Seconds, by the machine's clock.
    pub(super) seconds: u32,
}

impl Outcome {
    /// A program in which no test ran proves nothing.
    pub(super) fn is_good(&self) -> bool {
        self.code == 0 && self.passed > 0
    }

    pub(super) fn text(&self) -> String {
        let Self { passed, code, .. } = self;
        match code {
            0 if *passed > 0 => format!("{passed} passed"),
            0 => "no test ran".to_owned(),
            124 | 137 => "took too long".to_owned(),
            _ => format!("{passed} passed, {} failed", self.failed.len()),
        }
    }

    /// The step with the tests that failed.
    pub(super) fn complaint(&self) -> String {
        let Self { step, code, failed, .. } = self;
        let failed: String = failed.iter().map(|test| format!("\n  {test}")).collect();
        format!("{step}: {}, exit code {code}{failed}", self.text())
    }
}

/// The console as it was read so far.
#[derive(Debug, Default)]
pub(super) struct Console {
    passed: u32,
    failed: Vec<String>,
}

impl Console {
    /// Reads a line; what it tells, if it tells something.
    ///
    /// # Errors
    /// The machine says that it cannot go on, or that its kernel complained.
    pub(super) fn read(&mut self, line: &str) -> Result<Option<Event>> {
        self.count(line);
        let Some(said) = line.strip_prefix(PREFIX) else { return Ok(None) };
        let words: Vec<&str> = said.split_whitespace().collect();
        Ok(Some(match words.as_slice() {
            ["booted", release] => Event::Booted((*release).to_owned()),
            ["begin", _] => {
                *self = Self::default();
                return Ok(None);
            }
            ["end", step, code, seconds] => {
                let (code, seconds) = (code.parse()?, seconds.parse()?);
                let Self { passed, failed } = std::mem::take(self);
                Event::Ended(Outcome { step: (*step).to_owned(), code, passed, failed, seconds })
            }
            ["done"] => Event::Done,
            ["broken", ..] => bail!("the machine cannot run tests: {said}"),
            ["kernel", "complained"] => bail!("the kernel complained of itself"),
            _ => bail!("the machine says {said:?}, which means nothing"),
        }))
    }

    /// Takes the results of tests, as Rust's harness prints them.
    fn count(&mut self, line: &str) {
        if line.starts_with("test ") && line.ends_with(" ... ok") {
            self.passed += 1;
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        let mut console = Console::default();
        let events: Vec<Event> = lines.iter().filter_map(|line| console.read(line).unwrap()).collect();
        let [Event::Ended(outcome)] = events.as_slice() else { panic!("{events:?}") };
        outcome.clone()
    }

    #[test]
    fn a_step_is_good_only_if_tests_ran_in_it_and_it_ended_well() {
        let (begin, passed) = ("moxie-vm: begin wire", "test bytes_pass ... ok");
        let good = outcome(&[begin, passed, passed, "moxie-vm: end wire 0 12"]);
        assert!(good.is_good() && good.passed == 2 && good.seconds == 12, "{good:?}");
        assert!(!outcome(&[begin, "moxie-vm: end wire 0 12"]).is_good(), "nothing ran");
        assert!(!outcome(&[passed, begin, "moxie-vm: end wire 0 12"]).is_good(), "that ran before");
        assert!(!outcome(&[begin, passed, "moxie-vm: end wire 124 12"]).is_good(), "took too long");
        let bad = outcome(&[begin, passed, "test bytes_fail ... FAILED", "moxie-vm: end wire 101 12"]);
        assert_eq!(bad.complaint(), "wire: 1 passed, 1 failed, exit code 101\n  bytes_fail");
    }

    #[test]
    fn a_broken_machine_is_an_error_and_other_lines_are_not() {
        let read = |line: &str| Console::default().read(line);
        assert!(read("moxie-vm: broken no cgroup2").is_err());
        assert!(read("moxie-vm: kernel complained").is_err());
        assert!(read("moxie-vm: what").is_err());
        assert_eq!(read("running 3 tests").unwrap(), None);
        assert_eq!(read("moxie-vm: booted 5.10.0").unwrap(), Some(Event::Booted("5.10.0".into())));
        assert_eq!(read("moxie-vm: done").unwrap(), Some(Event::Done));
    }
}
