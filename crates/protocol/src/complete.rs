//! The field `complete` of reports, which is absent if it is `true`.

pub(crate) fn by_default() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn is_complete(complete: &bool) -> bool {
    *complete
}
