//! A network namespace beside the clients', as a container has one: with a cable of its own to the stand-ins.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use super::namespace::Network;
use super::{Lab, sweep};

/// A room; its processes are killed and its name removed when dropped.
#[derive(Debug)]
pub struct Room<'lab> {
    lab: &'lab Lab,
    network: Network,
    /// The stand-ins' end of its cable, which goes when the namespace does.
    far: String,
}

impl Lab {
    /// Makes a room. Its addresses are of the range that RFC 5737 sets aside; there is no route beyond the stand-ins.
    ///
    /// # Errors
    /// What the system refused.
    pub fn room(&self) -> Result<Room<'_>> {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        // Sixty-four at a time have addresses of their own.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 64;
        let (near, far) = (number * 4 + 2, number * 4 + 1);
        let device = format!("room{number}");
        let network = Network::create(format!("{}-{device}", self.files.name))?;
        self.net.configure(&format!(
            "link add {device} type veth peer name cable netns {}\naddr add 203.0.113.{far}/30 dev {device}\nlink set {device} up\n",
            network.name()
        ))?;
        network.configure(&format!(
            "link set lo up\naddr add 203.0.113.{near}/30 dev cable\nlink set cable up\nroute add 198.51.100.0/24 via 203.0.113.{far}\n"
        ))?;
        Ok(Room { lab: self, network, far: device })
    }
}

impl Room<'_> {
    /// Makes a command of the lab's run in here.
    ///
    /// # Errors
    /// The namespace cannot be held.
    pub fn enter(&self, mut command: Command) -> Result<Command> {
        let network = self.network.file().try_clone()?;
        let enter = move || Ok(setns(&network, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: between fork and exec one system call is made, on a descriptor that the closure owns; nothing allocates.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Takes the cable away, as container runtimes do while the last calls are still made.
    ///
    /// # Errors
    /// What the system refused.
    pub fn cut(&self) -> Result<()> {
        self.network.configure("link del cable\n")
    }

    /// Lets go of the namespace: it lives for as long as something in it or of it does. Gives what tells whether it is gone.
    ///
    /// # Errors
    /// What the system refused.
    pub fn forget(self) -> Result<impl Fn() -> Result<bool>> {
        let (lab, far) = (self.lab, self.far.clone());
        sweep::forget(self.network.name());
        drop(self);
        Ok(move || {
            let mut list = Command::new("ip");
            list.args(["-n", lab.net.name(), "-brief", "link"]).stdin(Stdio::null());
            let list = list.output().context("cannot run `ip`")?;
            Ok(list.status.success() && !String::from_utf8_lossy(&list.stdout).contains(&format!("{far}@")))
        })
    }
}
