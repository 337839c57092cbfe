//! Measurements of several runs.

use std::fmt;
use std::time::Duration;

/// The figures of several runs. Displayed as the median and the range: the
/// machine may be shared, and one run proves little.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn add(&mut self, figure: f64) {
        let index = self.0.partition_point(|other| *other < figure);
        self.0.insert(index, figure);
    }

    /// Adds a time in milliseconds.
    pub fn add_time(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1_000.0);
    }

    /// # Panics
    /// If there are no figures.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The ratio of the two medians.
    #[must_use]
    pub fn times(&self, other: &Self) -> f64 {
        self.median() / other.median()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |figure: f64| match figure.abs() {
            100.0.. => format!("{figure:.0}"),
            10.0.. => format!("{figure:.1}"),
            _ => format!("{figure:.2}"),
        };
        let (least, greatest) = (self.0[0], self.0[self.0.len() - 1]);
        let text = format!(
            "{} ({} to {})",
            show(self.median()),
            show(least),
            show(greatest)
        );
        formatter.pad(&text)
    }
}
