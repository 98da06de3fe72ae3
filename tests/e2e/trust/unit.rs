//! `moxie ca install --unit` on a booted systemd: what the unit has of its own stays, a restart is all it takes, and it can be undone.

use anyhow::{Context, Result, ensure};
use moxie_tests::clients::Kit;
use moxie_tests::systemd::{AUTHORITY, Host};

use super::{MOCKED, OTHER, PROGRAMS, host_with_agent, installed, lines, on_path, only, service};

const DROP_IN: &str = "/run/systemd/system/pay.service.d/50-moxie.conf";
const TRUST: &str = "/var/lib/moxie/trust/units/pay.service";
const OWN: &str = "/etc/pay/roots.pem";

/// A service with roots and options of its own, from a setting and from a file, that calls both hosts once it starts.
fn pay(host: &Host) -> Result<()> {
    host.write(OWN, &std::fs::read_to_string(host.path(AUTHORITY))?)?;
    host.write("/etc/default/pay", &format!("SSL_CERT_FILE=\"{OWN}\"\nJAVA_TOOL_OPTIONS='-Xmx64m -Da=\"b c\"'\n"))?;
    let calls = format!(
        "for url in {MOCKED} {OTHER}; do sh {PROGRAMS}/status.sh curl $url; java -cp {PROGRAMS} Status $url || echo none; done\n\
         exec sleep infinity\n"
    );
    host.write("/opt/pay.sh", &calls)?;
    let settings = "Type=exec\nEnvironment=SSL_CERT_FILE=/nothing CURL_CA_BUNDLE=/etc/pay/roots.pem\nEnvironmentFile=/etc/default/pay\n\
        DynamicUser=yes\nProtectSystem=strict\nTemporaryFileSystem=/var\n";
    host.unit("pay.service", &service("pay", settings, "/bin/sh /opt/pay.sh"))
}

/// What the unit's calls came to when it was started last.
fn calls(host: &Host, name: &str) -> Result<Vec<String>> {
    on_path(host.origins(), &host.rest(), |attempt| {
        if attempt > 0 {
            host.must(&["systemctl", "restart", name])?;
        }
        lines(host, &format!("/run/{name}.out"), 4)
    })
}

fn variable(host: &Host, name: &str) -> Result<String> {
    let pid = host.property("pay.service", "MainPID")?;
    let environ = host.must(&["cat", &format!("/proc/{pid}/environ")])?;
    let found = environ.split('\0').find_map(|variable| variable.strip_prefix(&format!("{name}=")));
    found.map(str::to_owned).with_context(|| format!("no {name} in {environ:?}"))
}

#[test]
fn a_unit_keeps_its_own_roots_and_options_and_all_of_it_is_undone() -> Result<()> {
    let host = host_with_agent(&Kit::make()?)?;
    let system = std::fs::read(host.path("/etc/ssl/certs/ca-certificates.crt"))?;
    pay(&host)?;
    host.must(&["systemctl", "start", "pay"])?;
    // curl trusts the lab's authority only, Java's own store not even that.
    assert_eq!(calls(&host, "pay")?, ["000", "none", "200", "none"]);

    let told = host.must(&["moxie", "ca", "install", "--unit", "pay"])?;
    ensure!(told.contains("systemctl restart pay.service"), "{told}");
    assert_eq!(variable(&host, "SSL_CERT_FILE")?, OWN, "nothing is done to what runs");
    assert_eq!(only(installed(&host)?), "unit pay.service restart");
    let verified = host.run(&["systemd-analyze", "verify", "pay.service"])?;
    ensure!(verified.status.success() && !verified.stderr.contains("50-moxie"), "{verified:?}");

    host.must(&["systemctl", "restart", "pay"])?;
    assert_eq!(calls(&host, "pay")?, ["429", "429", "200", "200"]);
    assert_eq!(only(installed(&host)?), "unit pay.service ok");
    let bundle = host.must(&["cat", &variable(&host, "SSL_CERT_FILE")?])?;
    let authority = host.must(&["moxie", "ca", "show"])?;
    assert_eq!(bundle, std::fs::read_to_string(host.path(OWN))? + &authority, "its own roots and the authority");
    assert_eq!(variable(&host, "CURL_CA_BUNDLE")?, variable(&host, "SSL_CERT_FILE")?);
    ensure!(variable(&host, "JAVA_TOOL_OPTIONS")?.starts_with("-Xmx64m -Da=\"b c\" -Djavax.net.ssl.trustStore="));
    ensure!(std::fs::read(host.path("/etc/ssl/certs/ca-certificates.crt"))? == system, "the host's own roots changed");

    let told = host.must(&["moxie", "ca", "install", "--unit", "pay"])?;
    ensure!(told.contains("runs with it already"), "{told}");
    assert_eq!(only(installed(&host)?), "unit pay.service ok");
    host.write(OWN, &(std::fs::read_to_string(host.path(AUTHORITY))? + "# renewed\n"))?;
    assert_eq!(only(installed(&host)?), "unit pay.service outdated");
    host.must(&["moxie", "ca", "install", "--unit", "pay"])?;
    assert_eq!(only(installed(&host)?), "unit pay.service restart");

    let told = host.must(&["moxie", "ca", "uninstall", "--unit", "pay"])?;
    ensure!(told.contains("stays") && !host.path(DROP_IN).exists(), "{told}");
    host.must(&["cat", &variable(&host, "SSL_CERT_FILE")?]).context("what runs has lost its roots")?;
    assert_eq!(only(installed(&host)?), "unit pay.service gone");
    host.must(&["moxie", "ca", "uninstall", "--unit", "pay", "--restart"])?;
    assert_eq!(calls(&host, "pay")?, ["000", "none", "200", "none"]);
    assert_eq!(variable(&host, "SSL_CERT_FILE")?, OWN);
    assert_eq!(installed(&host)?, []);
    for gone in ["/run/systemd/system/pay.service.d", "/var/lib/moxie/trust/units"] {
        ensure!(!host.path(gone).exists(), "{gone} is left: {}", host.must(&["find", gone])?);
    }
    Ok(())
}

#[test]
fn a_unit_starts_though_moxies_files_are_gone_and_what_is_not_moxies_stays() -> Result<()> {
    let host = host_with_agent(&Kit::make()?)?;
    pay(&host)?;
    let told = host.must(&["moxie", "ca", "install", "--unit", "pay.service", "--persist"])?;
    ensure!(told.contains("not running"), "{told}");
    let lasting = DROP_IN.replace("/run/", "/etc/");
    ensure!(host.path(&lasting).exists() && !host.path(DROP_IN).exists());
    host.must(&["rm", "-r", TRUST, &format!("{TRUST}.env")])?;
    host.must(&["systemctl", "start", "pay"])?;
    assert_eq!(calls(&host, "pay")?, ["000", "none", "200", "none"]);
    assert_eq!(only(installed(&host)?), "unit pay.service outdated");
    host.must(&["moxie", "ca", "install", "--unit", "pay", "--restart"])?;
    assert_eq!(calls(&host, "pay")?, ["429", "429", "200", "200"]);
    ensure!(host.path(DROP_IN).exists() && !host.path(&lasting).exists(), "both places");
    host.must(&["moxie", "ca", "uninstall", "--unit", "pay", "--restart"])?;

    host.write(DROP_IN, "[Service]\nEnvironment=A=b\n")?;
    let refused = host.run(&["moxie", "ca", "install", "--unit", "pay"])?;
    ensure!(refused.code() == Some(1) && refused.stderr.contains("not Moxie's"), "{refused:?}");
    host.must(&["moxie", "ca", "uninstall", "--unit", "pay"])?;
    assert_eq!(std::fs::read_to_string(host.path(DROP_IN))?, "[Service]\nEnvironment=A=b\n");
    host.must(&["rm", DROP_IN])?;

    host.unit("jailed.service", "[Service]\nRootDirectory=/srv\nExecStart=/bin/true\n")?;
    for (name, code, says) in [
        ("absent", 1, "systemd knows no unit absent.service"),
        ("dbus.socket", 2, "is no service"),
        ("../x", 2, "is no name of a unit"),
        ("jailed", 1, "root of its own"),
    ] {
        let refused = host.run(&["moxie", "ca", "install", "--unit", name])?;
        ensure!(refused.code() == Some(code) && refused.stderr.contains(says), "{name}: {refused:?}");
    }
    assert_eq!(installed(&host)?, []);
    Ok(())
}

#[test]
fn the_drop_in_that_is_printed_works_as_the_one_that_is_installed() -> Result<()> {
    let host = host_with_agent(&Kit::make()?)?;
    let text = format!(
        "for url in {MOCKED} {OTHER}; do sh {PROGRAMS}/status.sh curl $url; java -cp {PROGRAMS} Status $url; done\n"
    );
    host.write("/opt/plain.sh", &text)?;
    host.unit("plain.service", &service("plain", "Type=oneshot\n", "/bin/sh /opt/plain.sh"))?;
    let printed = host.must(&["moxie", "ca", "env", "--systemd"])?;
    host.write("/etc/systemd/system/plain.service.d/10-trust.conf", &printed)?;
    host.must(&["systemctl", "daemon-reload"])?;
    host.must(&["systemctl", "start", "plain"])?;
    assert_eq!(calls(&host, "plain")?, ["429", "429", "200", "200"]);
    Ok(())
}
