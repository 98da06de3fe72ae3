//! An application of the tests', as the tests see it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use moxie_agent::scope::cgroup::{RunCgroup, move_process};

use super::within;
use crate::client::ANSWER;

/// An application: see `kernel/client.rs`.
pub(crate) struct Client {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(super) fn start(namespace: &str, cgroup: Option<&RunCgroup>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "client_process", "--ignored", "--nocapture"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command).unwrap();
        }
        let mut process = within(namespace, || command.spawn()).unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, commands: Some(commands), answers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn move_to(&self, cgroup: &Path) {
        move_process(self.pid(), cgroup).unwrap();
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }

    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the client is gone");
            if let Some(answer) = line.trim_end().strip_prefix(ANSWER) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Its standard output has no reader any more once this is dropped; it may be in the middle of a call.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
