//! What is wrong, or dubious, about a rule, and how to put it right.

/// One thing that is wrong, or dubious, about a rule.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Path of the field, such as `rules[3].when.headers.x-plan.regex`; empty for the whole body.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// A value together with what its author may want to look at again.
#[derive(Clone, Debug)]
pub struct Checked<T> {
    /// The value, valid.
    pub value: T,
    /// Dubious but allowed.
    pub warnings: Vec<Problem>,
}

/// The one of `known` that `written` was most likely meant to be.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let near = |name: &&str| distance(&written, name);
    known.iter().copied().min_by_key(near).filter(|name| near(name) <= (name.len() / 3).max(1))
}

/// Levenshtein distance. Names longer than any field are not worth measuring.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_field_that_was_meant() {
        let known = ["status_code", "response", "mock_count", "url"];
        assert_eq!(nearest("status_cod", &known), Some("status_code"));
        assert_eq!(nearest("Mock-Count", &known), Some("mock_count"));
        assert_eq!(nearest("uri", &known), Some("url"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"u".repeat(1000), &known), None);
    }
}
