//! The tables of docs/COSTS.md. The program carries the page, so that what it
//! says and what people read cannot differ. Nor can the units and what DynamoDB
//! counts: the adapters' tests read the same table.

use super::arguments::number;
use crate::nearest;

pub(super) const PAGE: &str = include_str!("../../../../docs/COSTS.md");

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Units {
    pub write: f64,
    pub read: f64,
}

/// The units of DynamoDB that an operation consumes.
pub(super) fn units(operation: &str) -> Units {
    let row = row("operation", operation);
    Units {
        write: figure(row[1]),
        read: figure(row[2]),
    }
}

/// The GB-seconds that an invocation of a function is billed.
pub(super) fn gb_seconds(invocation: &str) -> f64 {
    /// Memory that comes with a whole processor.
    const WHOLE_PROCESSOR_MB: f64 = 1_769.0;

    let row = row("invocation", invocation);
    let memory = figure(row[1]);
    let processor = figure(row[2].trim_matches(['(', ')']));
    let milliseconds = processor * WHOLE_PROCESSOR_MB / memory + figure(row[3]);
    gigabytes(memory) * milliseconds / 1e3
}

/// The memory of the function that serves HTTP readers.
pub(super) fn reader_gigabytes() -> f64 {
    gigabytes(figure(row("invocation", "poll")[1]))
}

fn gigabytes(megabytes: f64) -> f64 {
    megabytes / 1_024.0
}

/// A value that the estimate assumes.
pub(super) fn quantity(name: &str) -> f64 {
    figure(row("quantity", name)[1])
}

/// What AWS asks for something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    name: &'static str,
    pub dollars: f64,
    /// For a million, not for one.
    pub is_for_a_million: bool,
}

impl Price {
    pub(super) fn of(&self, quantity: f64) -> f64 {
        let million = if self.is_for_a_million { 1e6 } else { 1.0 };
        quantity * self.dollars / million
    }
}

#[derive(Debug, Clone)]
pub(super) struct Prices(Vec<Price>);

impl Prices {
    pub(super) fn listed() -> Self {
        let prices = table("price").map(|row| Price {
            name: row[0],
            dollars: figure(row[1]),
            is_for_a_million: row[2].starts_with("a million "),
        });
        Self(prices.collect())
    }

    /// These prices, but for those that were given.
    pub(super) fn with(mut self, given: &[(String, String)]) -> Result<Self, String> {
        for (name, value) in given {
            let Some(price) = self.0.iter_mut().find(|price| price.name == name) else {
                let names = self.0.iter().map(|price| price.name);
                let hint = nearest::hint(name, names);
                return Err(format!("--price {name}: there is no such price; {hint}"));
            };
            price.dollars = number(value, MAX_DOLLARS)
                .ok_or_else(|| format!("--price {name}: must be dollars, like {name}=0.25"))?;
        }
        Ok(self)
    }

    pub(super) fn named(&self, name: &str) -> &Price {
        let price = self.0.iter().find(|price| price.name == name);
        price.unwrap_or_else(|| panic!("docs/COSTS.md has no price {name}"))
    }
}

const MAX_DOLLARS: f64 = 1e6;

/// The rows of the table whose first column has this heading.
fn table(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let start = format!("| {heading} |");
    let lines = PAGE
        .lines()
        .skip_while(move |line| !line.starts_with(&start));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

fn row(heading: &str, name: &str) -> Vec<&'static str> {
    let row = table(heading).find(|row| row[0] == name);
    row.unwrap_or_else(|| panic!("docs/COSTS.md has no {heading} {name}"))
}

fn figure(cell: &str) -> f64 {
    cell.parse()
        .unwrap_or_else(|_| panic!("docs/COSTS.md: {cell} is not a number"))
}
