//! A decoded file together with where everything in it stands.
//!
//! Owns positions by path and the references that only the cluster can check. Never checks them.

use super::model::{EnvPart, Spec};
use super::report::{Problem, Report, Source, Span};
use crate::id::{SecretName, WorkloadName};
use std::collections::BTreeMap;

/// Where a field stands, by its path.
pub(super) type Positions = BTreeMap<Vec<String>, Span>;

/// A file with its positions; whoever reads one gets a valid one only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What the file says.
    pub spec: Spec,
    pub(super) source: Source,
    pub(super) positions: Positions,
    /// All of them, in the order of the text.
    pub(super) references: Vec<Reference>,
    /// All of them, in the order of the services and tasks.
    pub(super) from_files: Vec<FromFile>,
}

/// A config file whose content stands beside the `.mill` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromFile {
    /// Its path, relative to the `.mill` file.
    pub from: String,
    /// Where the file says so: from `from` to the end of its value.
    pub span: Span,
    /// The value alone.
    pub value: Span,
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `${service.NAME.address}`.
    Service(WorkloadName),
    /// `${secret(NAME)}`, `secret-file` or `auth`.
    Secret(SecretName),
}

/// A service or secret that something in the file needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What is needed.
    pub target: Target,
    /// The service or task that needs it.
    pub workload: WorkloadName,
    /// `service` or `task`.
    pub kind: &'static str,
    /// Where the file says so: from `${` to `}`, or the name after `secret-file`.
    pub span: Span,
}

impl Parsed {
    /// The name that the file was given by.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.file()
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    /// What the file needs and doesn't define, in the order of the text: secrets, and services of
    /// other apps. Those of the file itself have been checked.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter().filter(|reference| match &reference.target {
            Target::Service(name) => !self.spec.services.contains_key(name),
            Target::Secret(_) => true,
        })
    }

    /// Whether the secret of a reference is needed by a variable of its service or task.
    #[must_use]
    pub fn is_variable(&self, reference: &Reference) -> bool {
        let run = |run: &super::model::RunSpec| {
            let values = run.env.values().flat_map(|value| &value.0);
            let target = &reference.target;
            values.into_iter().any(|part| match (part, target) {
                (EnvPart::Secret(name), Target::Secret(wanted)) => name == wanted,
                _ => false,
            })
        };
        let service = self.spec.services.get(&reference.workload).map(|one| &one.run);
        let task = self.spec.tasks.get(&reference.workload).map(|one| &one.run);
        service.or(task).is_some_and(run)
    }

    /// Whether the secret of a reference says who may pass a route of its service.
    #[must_use]
    pub fn is_auth(&self, reference: &Reference) -> bool {
        let service = self.spec.services.get(&reference.workload);
        let Target::Secret(wanted) = &reference.target else { return false };
        service.is_some_and(|service| service.auth().any(|name| name == wanted))
    }

    /// The config files that are read beside the file before it is sent.
    #[must_use]
    pub fn from_files(&self) -> &[FromFile] {
        &self.from_files
    }

    /// All that the file refers to, its own services as well.
    pub fn all_references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter()
    }

    /// Where a path stands, or else the nearest outer path: `["service", "web", "env", "PORT"]`,
    /// `["service", "web", "update", "canary"]`, `["service", "web", "volume", "data"]`.
    #[must_use]
    pub fn position(&self, path: &[&str]) -> Span {
        let mut path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        while !path.is_empty() {
            if let Some(span) = self.positions.get(&path) {
                return *span;
            }
            path.pop();
        }
        Span::default()
    }

    /// A problem at a path.
    #[must_use]
    pub fn problem(
        &self,
        path: &[&str],
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        self.source.problem(self.position(path), message, hint)
    }

    /// A problem at a span of this file, such as a reference's.
    #[must_use]
    pub fn problem_at(
        &self,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        self.source.problem(span, message, hint)
    }

    /// The report of problems found after parsing; none if there are none.
    ///
    /// # Errors
    /// The report, when there is a problem.
    pub fn check(&self, problems: Vec<Problem>) -> Result<(), Report> {
        if problems.is_empty() { Ok(()) } else { Err(self.source.report(problems)) }
    }
}
