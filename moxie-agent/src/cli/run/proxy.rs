//! What makes CMD use the explicit proxy: the variables that the common runtimes read. Which reads what: docs/ways.md.

use std::net::SocketAddr;

/// Every spelling of the variable for calls in the clear, and inside TLS.
const PROXY: [&str; 4] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"];
/// Every spelling of the variable for hosts that are left out.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// What is left out on every way on path: this host's own loopback.
const LOOPBACK: [&str; 4] = ["localhost", "127.0.0.1", "127.0.0.0/8", "::1"];
/// Variables that switch the others on, in runtimes that ask for it: Node from 22.21 and 24.5, Perl's LWP.
const SWITCHES: [&str; 2] = ["NODE_USE_ENV_PROXY", "PERL_LWP_ENV_PROXY"];
const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// What CMD is given, and what its user should know.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) variables: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Points CMD at the proxy at `door`. `preset` is the environment that CMD would have without.
pub(super) fn tell(door: SocketAddr, preset: impl Fn(&str) -> Option<String>) -> Told {
    let preset = |name: &str| preset(name).filter(|value| !value.is_empty());
    let mut told = Told::default();
    let mut set = |name: &str, value: String| told.variables.push((name.to_owned(), value));
    for name in PROXY {
        set(name, format!("http://{door}"));
    }
    let left_out = left_out(&preset);
    for name in NO_PROXY {
        set(name, left_out.clone());
    }
    for name in SWITCHES {
        set(name, "1".to_owned());
    }
    set(JAVA, java(door, preset(JAVA)));
    told.warnings = warnings(&preset);
    told
}

/// What the environment leaves out, and loopback, each once.
fn left_out(preset: &impl Fn(&str) -> Option<String>) -> String {
    let mut hosts: Vec<String> = Vec::new();
    let given = NO_PROXY.iter().filter_map(|name| preset(name)).collect::<Vec<_>>();
    let given = given.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|host| !host.is_empty());
    for host in given.chain(LOOPBACK) {
        if !hosts.iter().any(|other| other == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts.join(",")
}

/// Java leaves loopback out by itself. Options that come later go before earlier ones.
fn java(door: SocketAddr, preset: Option<String>) -> String {
    let (host, port) = (door.ip(), door.port());
    let options = preset
        .into_iter()
        .chain(["http", "https"].map(|scheme| format!("-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}")));
    options.collect::<Vec<_>>().join(" ")
}

fn warnings(preset: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let replaced = PROXY.iter().filter_map(|name| Some((name, preset(name)?)));
    let replaced = replaced.map(|(name, value)| {
        let value = without_credentials(&value);
        format!("{name}={value} of the environment is replaced for CMD: Moxie dials the destinations itself")
    });
    let left_out = NO_PROXY.iter().filter_map(|name| Some((name, preset(name)?)));
    let left_out = left_out.map(|(name, value)| format!("{name}={value} of the environment stays: those go direct"));
    replaced.chain(left_out).collect()
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn told(preset: &[(&str, &str)]) -> (HashMap<String, String>, Vec<String>) {
        let preset: HashMap<&str, &str> = preset.iter().copied().collect();
        let Told { variables, warnings } =
            tell("127.0.0.1:4321".parse().unwrap(), |name| preset.get(name).map(|value| (*value).to_owned()));
        (variables.into_iter().collect(), warnings)
    }

    #[test]
    fn both_spellings_name_the_door_and_loopback_is_left_out() {
        let (variables, warnings) = told(&[]);
        for name in PROXY {
            assert_eq!(variables[name], "http://127.0.0.1:4321");
        }
        assert_eq!(variables["NO_PROXY"], "localhost,127.0.0.1,127.0.0.0/8,::1");
        assert_eq!(variables["no_proxy"], variables["NO_PROXY"]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_the_environment_leaves_out_stays_out_and_is_said() {
        let (variables, warnings) = told(&[("NO_PROXY", "db.internal, localhost"), ("no_proxy", "db.internal,.corp")]);
        assert_eq!(variables["NO_PROXY"], "db.internal,.corp,localhost,127.0.0.1,127.0.0.0/8,::1");
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn a_proxy_that_is_replaced_is_said_without_its_password() {
        let (_, warnings) = told(&[("HTTPS_PROXY", "http://user:secret@proxy.corp:3128")]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("http://proxy.corp:3128") && !warnings[0].contains("secret"), "{warnings:?}");
    }

    #[test]
    fn java_keeps_its_options_and_gets_the_door_after_them() {
        let (variables, _) = told(&[(JAVA, "-Xmx1g")]);
        assert!(
            variables[JAVA].starts_with("-Xmx1g -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4321 -Dhttps.proxyHost=")
        );
    }
}
