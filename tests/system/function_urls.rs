//! Function URLs, called as clients do.

mod complete;
mod pages;
mod streams;

use belfry_tests::{Stack, http};
use reqwest::RequestBuilder;

/// A request to a function's URL with this order.
pub(crate) fn order(stack: &Stack, function: &str, order: &str) -> RequestBuilder {
    http().get(format!(
        "{}/?do={}",
        url(stack, function),
        order.replace(' ', "+")
    ))
}

pub(crate) fn url<'a>(stack: &'a Stack, function: &str) -> &'a str {
    &stack.ready.function_urls[function]
}
