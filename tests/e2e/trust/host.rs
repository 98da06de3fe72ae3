//! `moxie ca install --host`, and everything undone at once.

use anyhow::{Result, ensure};
use moxie_tests::clients::Kit;

use super::{MOCKED, PROGRAMS, host_with_agent, installed, lines, on_path, only, service};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const ANCHOR: &str = "/usr/local/share/ca-certificates/moxie.crt";

#[test]
fn the_host_trusts_the_authority_and_then_is_as_before() -> Result<()> {
    let host = host_with_agent(&Kit::make()?)?;
    // The lab put its authority into the bundle by hand.
    host.must(&["update-ca-certificates", "--fresh"])?;
    let before = std::fs::read(host.path(BUNDLE))?;
    let start = format!("/bin/sh {PROGRAMS}/status.sh curl {MOCKED}");
    host.unit("call.service", &service("call", "Type=oneshot\n", &start))?;
    let call = || {
        on_path(host.origins(), &host.rest(), |_| {
            host.run(&["systemctl", "start", "call"])?;
            Ok(lines(&host, "/run/call.out", 1)?.join(" "))
        })
    };
    assert_eq!(call()?, "000");
    host.must(&["moxie", "ca", "install", "--host"])?;
    assert_eq!(call()?, "429");
    assert_eq!(only(installed(&host)?), "host  ok");
    host.must(&["moxie", "ca", "install", "--unit", "call"])?;
    host.must(&["moxie", "ca", "install", "--cdi"])?;
    let all = only(installed(&host)?);
    assert_eq!(all, "host  ok; unit call.service ok; cdi /run/cdi/moxie.json ok");

    host.must(&["moxie", "ca", "uninstall", "--all"])?;
    assert_eq!(installed(&host)?, []);
    assert_eq!(call()?, "000");
    ensure!(std::fs::read(host.path(BUNDLE))? == before, "the host's bundle is not as before");
    for gone in [ANCHOR, "/var/lib/moxie/trust", "/run/cdi/moxie.json", "/run/systemd/system/call.service.d"] {
        ensure!(!host.path(gone).exists(), "{gone} is left");
    }

    host.write(ANCHOR, "somebody else's\n")?;
    let refused = host.run(&["moxie", "ca", "install"])?;
    ensure!(refused.code() == Some(1) && refused.stderr.contains("it stays"), "{refused:?}");
    host.must(&["moxie", "ca", "uninstall"])?;
    assert_eq!(std::fs::read_to_string(host.path(ANCHOR))?, "somebody else's\n");
    Ok(())
}
