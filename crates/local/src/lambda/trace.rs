//! X-Ray's trace header, as far as Lambda's recursion detection needs it:
//! SDKs inside a function pass the header on, and with it the lineage.

use crate::ids;

/// How many functions may invoke each other in a chain (AWS: "about 16 times").
const MAX_HOPS: u32 = 16;

/// The lineage's key in the header. What AWS writes there is its own affair;
/// functions only hand it on.
const LINEAGE: &str = "Lineage=belfry:";

/// A chain of functions that has become too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyHops;

/// The header for the function that is invoked with this one.
pub(super) fn next(header: Option<&str>) -> Result<String, TooManyHops> {
    let mut parts: Vec<_> = header.unwrap_or_default().split(';').collect();
    let hops = parts
        .iter()
        .find_map(|part| part.strip_prefix(LINEAGE)?.parse().ok())
        .unwrap_or(0_u32);
    if hops >= MAX_HOPS {
        return Err(TooManyHops);
    }
    parts.retain(|part| part.starts_with("Root=") || part.starts_with("Sampled="));
    let fresh = ids::trace();
    let kept = if parts.is_empty() {
        fresh
    } else {
        parts.join(";")
    };
    Ok(format!("{kept};{LINEAGE}{}", hops + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_ends_after_sixteen_hops() {
        let mut header = next(Some("Root=1-a-b;Parent=c;Sampled=0")).unwrap();
        assert_eq!(header, "Root=1-a-b;Sampled=0;Lineage=belfry:1");
        for _ in 1..16 {
            header = next(Some(&header)).unwrap();
        }
        assert_eq!(next(Some(&header)), Err(TooManyHops));
    }

    #[test]
    fn an_invocation_from_outside_begins_a_chain() {
        assert!(next(None).unwrap().ends_with(";Lineage=belfry:1"));
        assert!(next(Some("nonsense")).unwrap().starts_with("Root=1-"));
    }
}
