//! Which destination ports are wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use moxie_common::{PORT_WORDS, port_bit};

/// The destination ports whose connections come to the agent. In text: `all`, or a list as in `80,443,8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSet {
    /// Every port.
    All,
    /// These.
    List(BTreeSet<u16>),
}

/// A text is no [`PortSet`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no port: write `all`, or ports from 1 to 65535 with commas between")]
pub struct ParsePortSetError {
    word: String,
}

impl Default for PortSet {
    /// HTTP's and HTTPS's own ports.
    fn default() -> Self {
        Self::List(BTreeSet::from([80, 443]))
    }
}

impl PortSet {
    /// Whether connections to `port` are wanted.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => port != 0,
            Self::List(ports) => ports.contains(&port),
        }
    }

    /// One bit for each port, as the kernel half reads it.
    pub(crate) fn bitmap(&self) -> [u64; PORT_WORDS] {
        let mut words = [0; PORT_WORDS];
        for port in (1..=u16::MAX).filter(|port| self.contains(*port)) {
            let (word, bit) = port_bit(port);
            if let Some(word) = words.get_mut(word as usize) {
                *word |= bit;
            }
        }
        words
    }
}

impl FromStr for PortSet {
    type Err = ParsePortSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        let port = |word: &str| match word.trim().parse() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(ParsePortSetError { word: word.trim().to_owned() }),
        };
        text.split(',').map(port).collect::<Result<_, _>>().map(Self::List)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::List(ports) = self else { return f.write_str("all") };
        for (index, port) in ports.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{port}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written_in_order() {
        let ports: PortSet = "8080, 80,443,80".parse().unwrap();
        assert_eq!(ports.to_string(), "80,443,8080");
        assert!(ports.contains(443) && !ports.contains(444));
        assert_eq!("all".parse(), Ok(PortSet::All));
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (text, word) in [("80,http", "http"), ("0", "0"), ("65536", "65536"), ("", ""), ("80,,443", "")] {
            assert_eq!(text.parse::<PortSet>(), Err(ParsePortSetError { word: word.to_owned() }), "{text:?}");
        }
    }

    #[test]
    fn the_bitmap_has_the_wanted_ports_only() {
        let set = |words: [u64; PORT_WORDS]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        assert_eq!(set(PortSet::default().bitmap()), 2);
        assert_eq!(PortSet::default().bitmap()[1], 1 << (80 - 64));
        assert_eq!(set(PortSet::All.bitmap()), 65_535);
    }
}
