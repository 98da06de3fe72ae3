//! The package on a booted systemd: installed, at work for a unit, upgraded, removed.

use anyhow::Result;
use moxie_tests::systemd::Host;

#[test]
fn a_host_boots_and_reaches_the_stand_ins_and_nothing_else() -> Result<()> {
    let host = Host::boot()?;
    let answer = host.must(&["curl", "--silent", "--show-error", "https://api.customer.io/v1/activities"])?;
    assert!(answer.contains("api.customer.io"), "{answer}");
    assert_eq!(host.origins().seen("api.customer.io").len(), 1);
    let routes = host.must(&["ip", "route", "show", "default"])?;
    assert_eq!(routes, "");
    Ok(())
}
