//! X-Ray's trace header, as far as Lambda's recursion detection needs it. SDKs
//! inside a function pass the header on, and the lineage with it.

use crate::ids;

/// The longest chain of functions that invoke each other (AWS: "about 16 times").
const MAX_HOPS: u32 = 16;

/// The lineage's key in the header. AWS's value is opaque to functions, which
/// only pass it on.
const LINEAGE: &str = "Lineage=belfry:";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyHops;

/// The header for a function that is invoked with `header`.
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
    let kept = if parts.is_empty() {
        ids::trace()
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
    fn an_invocation_from_outside_starts_a_chain() {
        assert!(next(None).unwrap().ends_with(";Lineage=belfry:1"));
        assert!(next(Some("nonsense")).unwrap().starts_with("Root=1-"));
    }
}
