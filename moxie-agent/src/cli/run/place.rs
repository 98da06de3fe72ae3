//! Where CMD runs: in a cgroup of its own, which the ways in the kernel divert by, or where it would run anyway.

use std::path::Path;

use crate::cli::exit::Failure;
use crate::cli::privilege::{self, Effective};
use crate::divert::{Via, Way};
use crate::scope::cgroup::RunCgroup;

/// Where CMD runs, and which ways on path that leaves.
#[derive(Debug)]
pub(super) struct Place {
    cgroup: Option<RunCgroup>,
    via: Via,
    /// Why the ways in the kernel are out of the question, where nobody ruled them out by name.
    why_not_kernel: Option<String>,
}

impl Place {
    /// The place for what `via` asks for.
    pub(super) fn find(via: Via) -> Result<Self, Failure> {
        match via {
            Via::Only(Way::Proxy) => Ok(Self { cgroup: None, via, why_not_kernel: None }),
            Via::Only(way @ (Way::Ebpf | Way::Netfilter)) => {
                privilege::require("moxie run", way)?;
                let cgroup = RunCgroup::create();
                let cgroup =
                    cgroup.map_err(|error| Failure::because("cannot make a cgroup for the command", &error))?;
                Ok(Self { cgroup: Some(cgroup), via, why_not_kernel: None })
            }
            Via::Auto => Ok(Self::whatever_works()),
        }
    }

    fn whatever_works() -> Self {
        let by_proxy = |why: String| Self { cgroup: None, via: Via::Only(Way::Proxy), why_not_kernel: Some(why) };
        if !Effective::of_this_process().can_divert() {
            return by_proxy("these divert in the kernel, which takes root".to_owned());
        }
        match RunCgroup::create() {
            Ok(cgroup) => Self { cgroup: Some(cgroup), via: Via::Auto, why_not_kernel: None },
            Err(error) => by_proxy(format!("no cgroup can be made for the command: {}", crate::chain::Chain(&error))),
        }
    }

    /// The cgroup for CMD, if it gets one.
    pub(super) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(RunCgroup::path)
    }

    /// The way to open.
    pub(super) fn via(&self) -> Via {
        self.via
    }

    /// The way on path, on one line with why not the ones before it.
    pub(super) fn tell(&self, on_path: &str) -> String {
        match &self.why_not_kernel {
            None => on_path.to_owned(),
            Some(why) => format!("{on_path} (not {} or {}: {why})", Way::Ebpf, Way::Netfilter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_needs_no_place_and_says_why_only_if_nobody_asked_for_it() {
        let asked = Place::find(Via::Only(Way::Proxy)).unwrap();
        assert!(asked.cgroup().is_none());
        assert_eq!(asked.tell("proxy"), "proxy");
        let auto = Place { why_not_kernel: Some("it takes root".into()), ..asked };
        assert_eq!(auto.tell("proxy"), "proxy (not ebpf or netfilter: it takes root)");
    }
}
