//! Which ways on path work here, each tried out, and which of them `auto` takes.

use super::Check;
use crate::chain::Chain;
use crate::cli::privilege::Effective;
use crate::config;
use crate::divert::{DivertError, Way};

/// A way that was tried: why it does not work, and what to type.
type Tried = (Way, Result<(), (String, &'static str)>);

pub(super) fn checks(settings: &config::Divert) -> Vec<Check> {
    let effective = Effective::of_this_process();
    let tried: Vec<Tried> = Way::ALL.into_iter().map(|way| (way, attempt(way, settings, effective))).collect();
    let mut checks = vec![privileges(effective)];
    checks.extend(tried.iter().map(told));
    checks.push(auto(&tried));
    checks
}

fn privileges(effective: Effective) -> Check {
    let missing = effective.missing();
    if missing.is_empty() {
        return Check::ok("privileges", "every capability that the agent uses");
    }
    let missing: Vec<String> = missing.iter().map(|one| format!("{} ({})", one.name, one.needed_for)).collect();
    let found = format!("without {}", missing.join(", "));
    if effective.can_divert() {
        Check::warn("privileges", found, "run the agent as its unit does: sudo systemctl start moxie")
    } else {
        Check::warn("privileges", found, "sudo moxie doctor")
    }
}

/// Opens a way, puts nothing on path, and lets it go again.
fn attempt(way: Way, settings: &config::Divert, effective: Effective) -> Result<(), (String, &'static str)> {
    let mut settings = settings.clone();
    // Any port: the one that is configured may be an agent's that runs.
    settings.proxy.set_port(0);
    if way != Way::Proxy && !effective.can_divert() {
        return Err(("diverts in the kernel, which takes root".to_owned(), "sudo moxie doctor"));
    }
    match way.open(&settings) {
        Ok(_) => Ok(()),
        Err(error) => Err((Chain(&error).to_string(), next(&error))),
    }
}

fn next(error: &DivertError) -> &'static str {
    match error {
        DivertError::NotPermitted { .. } => "sudo moxie doctor",
        DivertError::KernelTooOld { .. } => "boot Linux 5.15 or newer",
        DivertError::NoKernelHalf => "install a build that has it",
        DivertError::ForeignProgram { .. } => "bpftool cgroup tree",
        _ => "follow what it says, then: moxie doctor",
    }
}

fn told((way, tried): &Tried) -> Check {
    match tried {
        Ok(()) if *way == Way::Proxy => {
            Check::ok(way.name(), "works, for programs that are told of it: moxie run --via proxy -- CMD")
        }
        Ok(()) => Check::ok(way.name(), "works"),
        Err((why, next)) => Check::warn(way.name(), why.clone(), *next),
    }
}

/// What `--via auto` comes to, and why not to what stands before it.
fn auto(tried: &[Tried]) -> Check {
    let first = tried.iter().position(|(_, tried)| tried.is_ok());
    let Some(first) = first else { return Check::blocks("auto", "no way on path works here", "see the ways above") };
    let before: Vec<&str> = tried.iter().take(first).map(|(way, _)| way.name()).collect();
    let way = tried.get(first).map_or("", |(way, _)| way.name());
    let next = tried.iter().find_map(|(_, tried)| tried.as_ref().err()).map_or("", |(_, next)| *next);
    match before.as_slice() {
        [] => Check::ok("auto", format!("takes {way}")),
        [one] => Check::warn("auto", format!("takes {way}, since {one} does not work"), next),
        several => Check::warn("auto", format!("takes {way}, since {} do not work", several.join(" and ")), next),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn auto_takes_the_first_that_works_and_is_blocked_by_none_at_all() {
        let refused = || Err(("no".to_owned(), "sudo moxie doctor"));
        let of = |ebpf, netfilter, proxy| auto(&[(Way::Ebpf, ebpf), (Way::Netfilter, netfilter), (Way::Proxy, proxy)]);
        assert_eq!(of(Ok(()), refused(), Ok(())).found, "takes ebpf");
        let by_proxy = of(refused(), refused(), Ok(()));
        assert_eq!(by_proxy.verdict, Verdict::Warn);
        assert_eq!(by_proxy.found, "takes proxy, since ebpf and netfilter do not work");
        assert_eq!(by_proxy.fix.as_deref(), Some("sudo moxie doctor"));
        assert_eq!(of(refused(), refused(), refused()).verdict, Verdict::Blocks);
    }

    #[test]
    fn the_proxy_works_for_everyone() {
        let config = config::read("", |_| None, &config::Flags::default()).unwrap();
        let checks = checks(&config.divert);
        let proxy = checks.iter().find(|check| check.name == "proxy").unwrap();
        assert_eq!(proxy.verdict, Verdict::Ok, "{proxy:?}");
        assert!(checks.iter().all(|check| check.verdict == Verdict::Ok || check.fix.is_some()), "{checks:?}");
    }
}
