//! Whether a network namespace can reach IPv6 destinations beyond its own links.
//!
//! Without this, a diverted IPv6 connect would succeed where it used to fail at once, and clients that try IPv6 first would no longer
//! fall back to IPv4.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _};

const UP: u32 = 0x0001;
/// `RTF_REJECT`: unreachable, blackhole, prohibit.
const REJECT: u32 = 0x0200;
/// `RTF_ANYCAST` and `RTF_LOCAL`: the host's own addresses.
const OWN: u32 = 0x0010_0000 | 0x8000_0000;

/// The IPv6 routes of the namespace in which this was opened.
#[derive(Debug)]
pub(super) struct Routes {
    table: File,
}

impl Routes {
    /// Of the calling thread's namespace; `None` where the kernel has no IPv6. The open file stays with this namespace, whichever
    /// thread reads it later.
    pub(super) fn open() -> Option<Self> {
        File::open("/proc/thread-self/net/ipv6_route").ok().map(|table| Self { table })
    }

    /// Whether there is a route of global scope (unique local addresses count).
    pub(super) fn reach_out(&self) -> io::Result<bool> {
        let mut table = &self.table;
        table.rewind()?;
        for line in BufReader::new(table).lines() {
            if leads_out(&line?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// One line: destination, its prefix length, source, its prefix length, next hop, metric, two counts, flags (all hex), device.
fn leads_out(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [destination, prefix, .., flags, device] = fields.as_slice() else { return false };
    let (Ok(destination), Ok(prefix), Ok(flags)) =
        (u128::from_str_radix(destination, 16), u8::from_str_radix(prefix, 16), u32::from_str_radix(flags, 16))
    else {
        return false;
    };
    let is_usable = flags & UP != 0 && flags & (REJECT | OWN) == 0 && *device != "lo";
    let top = destination >> 112;
    let is_link_local = prefix >= 10 && top & 0xffc0 == 0xfe80;
    let is_multicast = prefix >= 8 && top >> 8 == 0xff;
    is_usable && !is_link_local && !is_multicast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destination: &str, prefix: &str, flags: &str, device: &str) -> bool {
        let zero = "0".repeat(32);
        leads_out(&format!("{destination} {prefix} {zero} 00 {zero} 00000100 00000001 00000000 {flags} {device}"))
    }

    #[test]
    fn a_default_route_and_global_prefixes_lead_out() {
        assert!(check(&"0".repeat(32), "00", "00000003", "eth0"));
        assert!(check("20010db8000000000000000000000000", "40", "00000001", "eth0"));
        assert!(check("fd120000000000000000000000000000", "40", "00000001", "vk0"));
    }

    #[test]
    fn routes_that_stay_here_do_not() {
        assert!(!check("fe800000000000000000000000000000", "40", "00000001", "eth0"));
        assert!(!check("ff000000000000000000000000000000", "08", "00000001", "eth0"));
        assert!(!check("00000000000000000000000000000001", "80", "80200001", "lo"));
        assert!(!check("fd120000000000000000000000000001", "80", "80200001", "vk0"));
        assert!(!check("fd120000000000000000000000000000", "80", "00100001", "vk0"));
    }

    #[test]
    fn an_unreachable_default_route_does_not() {
        assert!(!check(&"0".repeat(32), "00", "00200200", "lo"));
        assert!(!check(&"0".repeat(32), "00", "00000201", "eth0"));
    }

    #[test]
    fn a_line_that_is_no_route_is_passed_over() {
        assert!(!leads_out(""));
        assert!(!leads_out("not a route"));
    }
}
