/// A template that cannot be run, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{problem}")]
pub(crate) struct TemplateError {
    /// `Resource.Properties.Path: `, or empty for the file as a whole.
    place: String,
    problem: String,
}

impl TemplateError {
    /// Something about the file as a whole.
    pub(super) fn file(problem: impl Into<String>) -> Self {
        Self {
            place: String::new(),
            problem: problem.into(),
        }
    }

    /// Something about one place.
    pub(super) fn at(resource: &str, path: &str, problem: impl Into<String>) -> Self {
        Self {
            place: format!("{resource}.{path}: "),
            problem: problem.into(),
        }
    }
}
