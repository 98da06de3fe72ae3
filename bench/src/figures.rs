//! Medians, spreads and slopes.

/// A median, and how far the values lie around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The middle value.
    pub median: f64,
    /// Half of the way from the smallest value to the largest, in the values' unit.
    pub spread: f64,
}

impl Figure {
    /// Of any number of values; none where there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = if sorted.len().is_multiple_of(2) { *sorted.get(middle - 1)? } else { upper };
        Some(Self { median: f64::midpoint(lower, upper), spread: (last - first) / 2.0 })
    }
}

/// The value that `share` of the sorted values do not exceed; none where there are none.
#[must_use]
pub fn percentile(sorted: &[u64], share: f64) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a list that fits into memory, never negative"
    )]
    let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
    sorted.get(at).copied()
}

/// How much `y` grows with each unit of `x`, by least squares; none for fewer than two different `x`.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "few points")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let product: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (square > 0.0).then(|| product / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_half_the_range() {
        assert_eq!(Figure::of(&[]), None);
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0]), Some(Figure { median: 2.0, spread: 1.0 }));
        assert_eq!(Figure::of(&[4.0, 1.0, 2.0, 3.0]), Some(Figure { median: 2.5, spread: 1.5 }));
    }

    #[test]
    fn percentiles_are_values_of_the_list() {
        let values: Vec<u64> = (0..=100).collect();
        assert_eq!(percentile(&values, 0.5), Some(50));
        assert_eq!(percentile(&values, 0.99), Some(99));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_line_has_its_slope_and_one_point_has_none() {
        let line: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0)).collect();
        assert!((slope(&line).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 2.0)]), None);
    }
}
