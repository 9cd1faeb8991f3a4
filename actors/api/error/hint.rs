//! What to do next, for each error.
//!
//! Owns the words of hints: a command where one helps. Never says what went wrong.

use super::ApiError;
use crate::cluster::token::TokenError;
use crate::fsm::Rejection;
use crate::scheduler::revise::{ResolveError, ReviseError};
use warp::http::Method;

impl ApiError {
    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        let text = match self {
            Self::BadRequest { hint, .. }
            | Self::Conflict { hint, .. }
            | Self::Denied { hint, .. } => return hint.clone(),
            Self::NoToken => "send the header: Authorization: Bearer TOKEN",
            Self::Token(TokenError::Unknown) => "list the tokens: mill token list",
            Self::Token(TokenError::Expired) => "make another: mill token create --role ROLE",
            Self::LocalOnly => "run the command on the machine itself, as root",
            Self::NoRoute { .. } => "the routes are listed at /v1/openapi.json",
            Self::NotFound { what, .. } => return lists(what).map(str::to_owned),
            Self::NoMethod { allowed, .. } => {
                let all: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                return Some(format!("it has {}", all.join(", ")));
            }
            Self::PlanStale { .. } => "look at it again: mill plan",
            Self::Ambiguous { .. } => "write more of the id",
            Self::Unclaimed => {
                "make it the first node of a cluster: mill init; or a member: mill join"
            }
            Self::WantsTls => "write https:// instead of http://",
            Self::TooManyFailures => "wait a moment, and send a token that this cluster knows",
            Self::TooMany { .. } => "try again in a moment",
            Self::DiskFull => "which node it is: mill status. Make room there; mill down is taken",
            Self::Unconfirmed => "look whether it was: mill status",
            Self::Starting | Self::Stopping => "try again in a moment",
            Self::Unreachable { .. } => "how the nodes stand: mill nodes",
            Self::Rejected(rejection) => return hint_of(rejection),
            Self::Revise(ReviseError::Image { source: ResolveError::NotFound { .. }, .. }) => {
                "Pushed? Local: docker save IMAGE | mill image load -"
            }
            Self::Revise(ReviseError::Image { source: ResolveError::Lost { .. }, .. }) => {
                "load it again: docker save IMAGE | mill image load -"
            }
            Self::Revise(ReviseError::WhichApp { .. }) => "name one: mill rollback --app APP",
            Self::Revise(ReviseError::OtherApp { revision, owner, .. }) => {
                return Some(format!("mill rollback {revision} --app {owner}"));
            }
            Self::Revise(ReviseError::NeverWorked { .. }) => {
                "go back to one that succeeded (mill history), or deploy its file again: mill up"
            }
            Self::Revise(ReviseError::NoneBefore { app }) => {
                return Some(format!("its revisions: mill history --app {app}"));
            }
            Self::Revise(ReviseError::NoRevision { .. } | ReviseError::NotKept { .. }) => {
                "what there is: mill history"
            }
            Self::Revise(ReviseError::NoApps) => "deploy a file: mill up FILE",
            Self::Revise(ReviseError::NoService { .. }) => {
                return lists("service").map(str::to_owned);
            }
            Self::Revise(ReviseError::NoApp { .. }) => return lists("app").map(str::to_owned),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// The command that lists what there is of a kind.
fn lists(what: &str) -> Option<&'static str> {
    Some(match what {
        "node" => "mill nodes lists them",
        "service" | "app" | "task" => "mill status lists them",
        "deployment" => "mill history lists them",
        "token" => "mill token list lists them",
        "image" => "mill image list lists them",
        "secret" => "mill secret list lists them",
        "volume" => "mill volume list lists them",
        "route of the host" | "paused host" => "mill route list lists them",
        "login for" => "mill image logins lists them",
        "host" | "certificate of" => "mill cert list lists them",
        "allocation"
        | "run of a task"
        | "task's run"
        | "running allocation"
        | "service, task or allocation" => "mill ps -a lists them",
        _ => return None,
    })
}

fn hint_of(rejection: &Rejection) -> Option<String> {
    Some(match rejection {
        Rejection::NotFound { what, .. } => return lists(what).map(str::to_owned),
        Rejection::Moved { .. } | Rejection::Stale => {
            "it has changed meanwhile: try again".to_owned()
        }
        Rejection::NameOwned { name, .. } => {
            format!("give {name} another name, or take it out of the other app first")
        }
        Rejection::NoCanary { app } => {
            format!("mill history --app {app} shows what became of it")
        }
        Rejection::NothingShared { app } => {
            format!("if this file shall replace all of app {app}: --replace")
        }
        Rejection::NodeNameTaken { name, .. } => {
            format!(
                "join under another name: --node NAME; or stop that node first and wait until \
                     mill nodes shows {name} down"
            )
        }
        Rejection::NoSubnet { .. } => "remove a node that is gone: mill remove NODE".to_owned(),
        Rejection::NodeBusy { name, .. } => {
            format!("mill drain {name} moves them to other nodes; then remove it")
        }
        Rejection::NodeReady { name } => {
            format!(
                "mill drain {name} moves its work, and its vote, to other nodes; then remove it"
            )
        }
        Rejection::VoteNeeded { name, .. } => {
            format!(
                "wait until another node has its vote, or bring the others back: mill nodes; \
                 {name} gives its vote away while it drains, if a node is ready to take it"
            )
        }
        Rejection::LastNode { .. } => {
            "join another node first; to end the cluster: mill down --all, stop the daemon, \
             mill clean"
                .to_owned()
        }
        _ => return None,
    })
}
