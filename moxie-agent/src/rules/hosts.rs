//! A list of host regexes, as `inspect` of a scope has one.

use super::pattern::{Anchor, Pattern};

/// Regexes in a list at most: each takes time to compile and memory, and a container's label may hold a million.
const MOST: usize = 1000;

/// Host regexes, each held against the whole authority: the host, and its port where that is not the scheme's own.
#[derive(Clone, Debug, Default)]
pub struct HostList(Vec<Pattern>);

impl HostList {
    /// Compiles `sources`.
    ///
    /// # Errors
    /// Which of them are no regexes, by their places, and what to write instead.
    pub fn parse<S: AsRef<str>>(sources: &[S]) -> Result<Self, Vec<(usize, String)>> {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        if sources.len() > MOST {
            return Err(vec![(
                MOST,
                format!("is one host too many: write {MOST} at most, and join what is alike by `|`"),
            )]);
        }
        for (place, source) in sources.iter().map(AsRef::as_ref).enumerate() {
            if source.is_empty() {
                problems.push((place, "is empty: write a host regex such as \"api\\\\.example\\\\.com\"".to_owned()));
                continue;
            }
            match Pattern::compile(source, Anchor::Whole) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => problems.push((place, format!("the host {error}"))),
            }
        }
        if problems.is_empty() { Ok(Self(patterns)) } else { Err(problems) }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host is on it; `authority` as [`super::set::normal_authority`] gives it.
    #[must_use]
    pub fn matches(&self, authority: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(authority))
    }

    /// The regexes, as they were written.
    #[must_use]
    pub fn sources(&self) -> Vec<String> {
        self.0.iter().map(|pattern| pattern.source().to_owned()).collect()
    }
}

/// Equal when written equally.
impl PartialEq for HostList {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for HostList {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_whole() {
        let list = HostList::parse(&[r"api\.example\.com", r"[a-z]+\.internal(:\d+)?"]).unwrap();
        for (authority, expected) in [
            ("api.example.com", true),
            ("api.example.com:8443", false),
            ("www.api.example.com", false),
            ("pay.internal", true),
            ("pay.internal:8443", true),
        ] {
            assert_eq!(list.matches(authority), expected, "{authority}");
        }
        assert!(!HostList::default().matches("api.example.com"));
    }

    #[test]
    fn a_list_has_its_limit() {
        assert!(HostList::parse(&vec!["a"; MOST]).is_ok());
        let problems = HostList::parse(&vec!["a"; MOST + 1]).unwrap_err();
        assert!(problems[0].1.contains("write 1000 at most"), "{problems:?}");
    }

    #[test]
    fn what_is_no_regex_is_told_by_its_place() {
        let problems = HostList::parse(&["ok", "a(b", ""]).unwrap_err();
        assert_eq!(problems.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2]);
    }
}
