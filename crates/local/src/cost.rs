//! `belfry cost`: what a stack costs in a month.

mod arguments;
mod bill;
mod page;
mod usage;

use clap::error::ErrorKind;

pub(crate) use arguments::CostArgs;

use crate::cli;
use bill::Bill;
use page::Prices;

/// Prints what a stack costs that is used like this.
pub(crate) fn print(arguments: &CostArgs) {
    match text(arguments) {
        Ok(text) => print!("{text}"),
        Err(problem) => cli::usage(ErrorKind::ValueValidation, &problem).exit(),
    }
}

fn text(arguments: &CostArgs) -> Result<String, String> {
    arguments.check()?;
    let prices = Prices::listed().with(&arguments.prices)?;
    let bill = Bill::new(&usage::of(arguments), &prices, arguments.users());
    Ok(if arguments.json {
        bill.json()
    } else {
        bill.to_string()
    })
}

#[cfg(test)]
mod tests;
