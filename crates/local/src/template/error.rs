/// Why the local stack cannot run a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{location}{problem}")]
pub(crate) struct TemplateError {
    /// `Resource.Properties.Path: `, or empty for the file as a whole.
    location: String,
    problem: String,
}

impl TemplateError {
    /// A problem with the file as a whole.
    pub(super) fn file(problem: impl Into<String>) -> Self {
        Self {
            location: String::new(),
            problem: problem.into(),
        }
    }

    pub(super) fn at(resource: &str, path: &str, problem: impl Into<String>) -> Self {
        Self {
            location: format!("{resource}.{path}: "),
            problem: problem.into(),
        }
    }
}
