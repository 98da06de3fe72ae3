//! "Did you mean …?": the nearest known name to one that is not known.

/// ` (did you mean …?)`, or nothing when no known name is near.
pub(super) fn did_you_mean(given: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (distance(given, name), name)).min();
    match near {
        Some((distance, name)) if distance <= given.len().div_ceil(3) => format!(" (did you mean `{name}`?)"),
        _ => String::new(),
    }
}

/// Levenshtein distance, by bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b.bytes()) {
            let value = (diagonal + usize::from(left != right)).min(*cell + 1).min(last + 1);
            diagonal = *cell;
            *cell = value;
            last = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_edits() {
        for (a, b, expected) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(did_you_mean("timout", &["first_byte", "timeout"]), " (did you mean `timeout`?)");
        assert_eq!(did_you_mean("colour", &["first_byte", "timeout"]), "");
    }
}
