/// The first items of a list that fit into the bytes that are left for an
/// answer. `json` writes an item as the answer has it.
pub(crate) fn fitting<T>(
    items: Vec<T>,
    bytes: &mut usize,
    json: impl Fn(&T) -> serde_json::Result<String>,
) -> Vec<T> {
    let fits = |item: &T| {
        let length = json(item).map_or(usize::MAX, |text| text.len() + 1);
        let left = bytes.checked_sub(length);
        *bytes = left.unwrap_or(*bytes);
        left.is_some()
    };
    items.into_iter().take_while(fits).collect()
}
