//! Suggestions for a misspelled name.

/// The least similarity of a suggestion; equal names have 1.
const SIMILAR: f64 = 0.65;

const MAX_SUGGESTIONS: usize = 3;

/// The known names nearest to `name`, as a question, or else all known names.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.into_iter().collect();
    match &nearest(name, &known)[..] {
        [] => format!("known are {}", known.join(", ")),
        [before @ .., last] if !before.is_empty() => {
            format!("did you mean {} or {last}?", before.join(", "))
        }
        nearest => format!("did you mean {}?", nearest.concat()),
    }
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let similarity =
        |known: &str| strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase());
    let mut rated: Vec<_> = known
        .iter()
        .map(|known| (similarity(known), *known))
        .collect();
    rated.retain(|(similarity, _)| *similarity >= SIMILAR);
    rated.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let names = rated.into_iter().map(|(_, known)| known);
    names.take(MAX_SUGGESTIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_nearest_or_all() {
        let hint = |name| hint(name, ["Connect", "Disconnect", "MaxConnections", "Worker"]);
        assert_eq!(hint("Conect"), "did you mean Connect?");
        assert_eq!(hint("connect"), "did you mean Connect or Disconnect?");
        assert_eq!(hint("MaxConnection"), "did you mean MaxConnections?");
        let all = "known are Connect, Disconnect, MaxConnections, Worker";
        assert_eq!(hint("Xyz"), all);
        assert_eq!(hint(""), all);
    }
}
