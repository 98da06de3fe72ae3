//! A host with an optional port, as every reader reads it.

use super::Doubt;

/// The authority as text, if it is a name or an address with an optional port and nothing that readers treat differently: user
/// information, lists, escapes, an empty host or port.
///
/// # Errors
/// [`Doubt::OddHost`].
pub(crate) fn plain(bytes: &[u8]) -> Result<&str, Doubt> {
    let text = std::str::from_utf8(bytes).map_err(|_| Doubt::OddHost)?;
    let (host, port) = split(text);
    let host_is_plain = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(is_ipv6),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    };
    if host_is_plain && port.is_none_or(is_port) { Ok(text) } else { Err(Doubt::OddHost) }
}

/// Host and port of an authority; an IPv6 address keeps its brackets.
pub(crate) fn split(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority.get(after_address..).and_then(|rest| rest.find(':')) {
        Some(colon) => {
            let (host, port) = authority.split_at(after_address + colon);
            (host, port.strip_prefix(':'))
        }
        None => (authority, None),
    }
}

/// Whether two authorities name the same host and port; `default_port` is what none means.
pub(crate) fn same(one: &str, other: &str, default_port: &str) -> bool {
    let ((host, port), (other_host, other_port)) = (split(one), split(other));
    host.eq_ignore_ascii_case(other_host) && port.unwrap_or(default_port) == other_port.unwrap_or(default_port)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Leading zeros are read by some and refused by others.
fn is_port(text: &str) -> bool {
    !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_one_reading_is_plain() {
        for text in [
            "a",
            "a.example",
            "A.Example.",
            "a_b",
            "a:1",
            "a:65535",
            "192.0.2.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "~",
        ] {
            assert_eq!(plain(text.as_bytes()), Ok(text), "{text:?}");
        }
        for text in [
            "",
            ":",
            ":80",
            "a:",
            "a:b",
            "a:+1",
            "a:0",
            "a:080",
            "a:65536",
            "a:1:2",
            "a b",
            "a,b",
            "u@a",
            "a/",
            "a?",
            "a#",
            "a\\b",
            "a%41",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[::1%25eth0]",
            "[a]",
            "a[::1]",
            "\u{e4}",
            "a\0",
            "a\t",
            "*",
            "a;b",
            "a\"",
        ] {
            assert_eq!(plain(text.as_bytes()), Err(Doubt::OddHost), "{text:?}");
        }
        assert_eq!(plain(b"\xff"), Err(Doubt::OddHost));
    }

    #[test]
    fn a_port_left_out_is_the_scheme_s() {
        assert!(
            same("A.example", "a.Example:80", "80") && same("[::1]:443", "[::1]", "443") && same("a:1", "a:1", "80")
        );
        assert!(!same("a", "a:8080", "80") && !same("a", "b", "80") && !same("a:443", "a", "80"));
    }
}
