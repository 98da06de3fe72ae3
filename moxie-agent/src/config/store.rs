//! `[store]`: where rules, their counts and records outlive the agent.

use std::fmt;

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};

/// Where rules live.
#[derive(Clone, Debug)]
pub struct Store {
    /// `url`: `sqlite:///path`, `sqlite::memory:`; without it, a file in the state directory.
    pub url: Option<StoreUrl>,
}

/// The URL of a database; its Debug hides everything behind the scheme, where a password may stand.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The URL, password and all.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(f, "StoreUrl({scheme}:…)")
    }
}

impl TryFrom<Section> for Store {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let store = Self { url: raw.take("url") };
        raw.finish(store)
    }
}

impl Setting for StoreUrl {
    fn read(value: &Value) -> Result<Self, String> {
        // The value is not repeated: it may hold a password. Which schemes there are is the store's to say.
        let url = value
            .as_str()
            .filter(|text| text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()));
        url.map(|url| Self(url.to_owned()))
            .ok_or_else(|| "is no URL: write \"sqlite:///path/to/file\" or \"sqlite::memory:\"".to_owned())
    }
}
