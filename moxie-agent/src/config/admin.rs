//! `[admin]`: where the admin API listens and which names it answers to.

use std::fmt;
use std::net::SocketAddr;

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};
use crate::paths;

/// Who may talk to the agent, and where.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `addr`: the TCP door; [`paths::ADMIN_ADDR`] unless set.
    pub addr: SocketAddr,
    /// `hosts`: names that a Host header may carry besides the address and `localhost`.
    pub hosts: Vec<String>,
    /// `MOXIE_TOKEN`: the bearer token of the TCP door; without it, the one in the state directory.
    pub token: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that compares it or sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl TryFrom<Section> for Admin {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        if raw.is_in_file("token") {
            raw.refuse("token", "does not belong into a file that others may read: set MOXIE_TOKEN");
        }
        let admin = Self {
            addr: raw.take::<Address>("addr").unwrap_or_default().0,
            hosts: raw.take("hosts").unwrap_or_default(),
            token: raw.take("token"),
        };
        raw.finish(admin)
    }
}

struct Address(SocketAddr);

impl Default for Address {
    fn default() -> Self {
        // Proven by a test; an address that does not parse would be an unusable one.
        Self(paths::ADMIN_ADDR.parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0))))
    }
}

impl Setting for Address {
    fn read(value: &Value) -> Result<Self, String> {
        let addr = value.as_str().and_then(|text| text.parse().ok());
        addr.map(Self).ok_or_else(|| format!("is {value}: write IP:PORT, such as \"{}\"", paths::ADMIN_ADDR))
    }
}

impl Setting for Secret {
    fn read(value: &Value) -> Result<Self, String> {
        let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
        text.map(|text| Self(text.to_owned())).ok_or_else(|| "is no text".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_address_is_the_documented_one() {
        assert_eq!(Address::default().0.to_string(), paths::ADMIN_ADDR);
    }
}
