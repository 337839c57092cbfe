use std::fmt;

use serde_json::json;

use super::page::{Price, Prices};
use super::usage::Usage;

struct Line {
    service: &'static str,
    what: &'static str,
    quantity: f64,
    price: Price,
}

impl Line {
    fn dollars(&self) -> f64 {
        self.price.of(self.quantity)
    }
}

/// What each service asks for in a month.
pub(super) struct Bill {
    lines: Vec<Line>,
    users: f64,
}

impl Bill {
    pub(super) fn new(usage: &Usage, prices: &Prices, users: f64) -> Self {
        let invocations = usage.invocations.values().sum();
        let lines = [
            ("API Gateway", "messages", usage.messages, "api-message"),
            (
                "",
                "connection minutes",
                usage.connection_minutes,
                "api-minute",
            ),
            ("Lambda", "requests", invocations, "lambda-request"),
            ("", "GB-seconds", usage.gb_seconds, "lambda-gb-second"),
            (
                "DynamoDB",
                "write units",
                usage.write_units,
                "dynamodb-write",
            ),
            ("", "read units", usage.read_units, "dynamodb-read"),
            ("", "GB stored", usage.stored_gb, "dynamodb-storage"),
            ("CloudWatch", "GB of logs", usage.log_gb, "log-gb"),
            ("", "custom metrics", usage.metrics, "metric"),
            ("", "metrics of alarms", usage.alarm_metrics, "alarm-metric"),
            ("", "dashboards", usage.dashboards, "dashboard"),
            ("X-Ray", "traces", usage.traces, "trace"),
            ("Internet", "GB sent", usage.transfer_gb, "transfer-gb"),
        ];
        let mut current = "";
        let lines = lines.map(|(service, what, quantity, price)| {
            if !service.is_empty() {
                current = service;
            }
            Line {
                service: current,
                what,
                quantity,
                price: prices.named(price).clone(),
            }
        });
        Self {
            lines: lines.into(),
            users,
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.lines.iter().map(Line::dollars).sum()
    }

    pub(super) fn json(&self) -> String {
        let line = |line: &Line| {
            json!({
                "service": line.service,
                "what": line.what,
                "quantity": line.quantity,
                "price": line.price.dollars,
                "per": if line.price.is_for_a_million { 1_000_000 } else { 1 },
                "dollars": line.dollars(),
            })
        };
        let bill = json!({
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "total": self.total(),
            "perUser": self.total() / self.users,
        });
        format!("{bill}\n")
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<18} {:>17}  {:<20} {:>12}",
            "", "", "a month", "price", "$ a month"
        )?;
        let mut before = "";
        for line in self.lines.iter().filter(|line| line.quantity > 0.0) {
            let service = if line.service == before {
                ""
            } else {
                line.service
            };
            before = line.service;
            let of = if line.price.is_for_a_million {
                "a million"
            } else {
                "each"
            };
            let price = format!("${} {of}", dollars(line.price.dollars));
            let quantity = amount(line.quantity);
            let dollars = with_commas(&format!("{:.2}", line.dollars()));
            writeln!(
                f,
                "{service:<12} {:<18} {quantity:>17}  {price:<20} {dollars:>12}",
                line.what
            )?;
        }
        let total = with_commas(&format!("{:.2}", self.total()));
        let each = with_commas(&format!("{:.4}", self.total() / self.users));
        writeln!(f, "{:<71} {total:>12}", "Together")?;
        writeln!(f, "{:<73} {each:>12}", "Each user")?;
        writeln!(
            f,
            "\nList prices without the free tier; docs/COSTS.md says what is assumed and what is not included."
        )
    }
}

/// A price, with at least two decimals.
fn dollars(price: f64) -> String {
    let short = format!("{price:.2}");
    if short.parse() == Ok(price) {
        short
    } else {
        price.to_string()
    }
}

fn amount(quantity: f64) -> String {
    let decimals = match quantity {
        0.0..1.0 => 3,
        1.0..100.0 => 1,
        _ => 0,
    };
    with_commas(&format!("{quantity:.decimals$}"))
}

/// A decimal number, with a comma between thousands.
fn with_commas(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (index, digit) in number.char_indices() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
