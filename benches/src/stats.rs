//! The few statistics that survive a noisy machine.

use serde::Serialize;

/// Minimum, median and maximum of a set of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The least: what the machine allows when nothing gets in the way.
    pub min: f64,
    /// The middle one; of an even count the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Of no measurement there is no summary.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { min, median, max })
    }

    /// How far the greatest lies above the least, in percent of the least.
    #[must_use]
    pub fn spread_percent(&self) -> f64 {
        if self.min > 0.0 { (self.max / self.min - 1.0) * 100.0 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_orders_its_input() {
        let odd = Summary::of([3.0, 1.0, 2.0]).expect("three values");
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(odd.spread_percent(), 200.0);
        let even = Summary::of([4.0, 1.0, 2.0, 8.0]).expect("four values");
        assert_eq!(even.median, 3.0);
        assert_eq!(Summary::of([]), None);
    }
}
