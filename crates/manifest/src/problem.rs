//! What is wrong with a document, and what is only odd: each with the path of the field.

use std::fmt;

/// One reason why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as `spec.users[2].rules`; empty if the whole document is meant.
    pub path: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

/// Something that is accepted, and that the author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The field, as `spec.storage.size`; empty if the whole document is meant.
    pub path: String,
    /// What may come of it.
    pub message: String,
}

fn write_finding(f: &mut fmt::Formatter<'_>, path: &str, message: &str) -> fmt::Result {
    if path.is_empty() {
        f.write_str(message)
    } else {
        write!(f, "{path}: {message}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_finding(f, &self.path, &self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_finding(f, &self.path, &self.message)
    }
}

/// All the problems of a document: at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The one problem of the whole document, such as text that is no YAML.
    pub(crate) fn of_document(message: impl Into<String>) -> Self {
        Self(vec![Problem {
            path: String::new(),
            message: message.into(),
        }])
    }

    /// These problems, if there are any.
    pub fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// The problems, in the order of their discovery: form first, then meaning.
    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the manifest is refused: {one}"),
            all => {
                write!(f, "the manifest is refused for {} reasons:", all.len())?;
                all.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

/// Collects problems and warnings while a document is looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
    /// Paths whose value was replaced so that the rest could be looked at: what is said about the
    /// stand-in would only confuse.
    replaced: Vec<String>,
}

impl Findings {
    /// Notes a problem, unless the field already has a graver one.
    pub(crate) fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.is_replaced(&path) {
            let message = message.into();
            let problem = Problem { path, message };
            // Two rules of a user may be wrong in the same way.
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    /// Notes a warning, unless the field has a problem of form.
    pub(crate) fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.is_replaced(&path) {
            let message = message.into();
            self.warnings.push(Warning { path, message });
        }
    }

    /// Notes a problem of form, after which the value at `path` is a stand-in.
    pub(crate) fn replaced(&mut self, path: &str, message: impl Into<String>) {
        self.problem(path, message);
        self.replaced.push(path.to_owned());
    }

    /// True if the value at `path`, or around it, is a stand-in.
    pub(crate) fn is_replaced(&self, path: &str) -> bool {
        self.replaced.iter().any(|outer| {
            path.strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The value and its warnings, if nothing is wrong and there is a value.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Warning>), Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, self.warnings)),
            _ => Err(Problems(self.problems)),
        }
    }
}

/// The path of the field `name` of the mapping at `parent`.
pub(crate) fn field(parent: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match (parent.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{parent}.{name}"),
        (_, false) => format!("{parent}[{name:?}]"),
    }
}

/// The path of item `index` of the list at `parent`.
pub(crate) fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}
