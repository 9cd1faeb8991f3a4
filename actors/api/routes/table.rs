//! The table itself: every route of this build.
//!
//! Never answers a request itself.

use super::super::{
    allocations, apps, canaries, deploy, deployments, exec, explain, files, logs, metrics, read,
    rebalance, services, tasks,
};
use super::kept::KEPT;
use super::node::NODES;
use super::parts::{
    DEPLOY_EVENTS, LIST_ROUTES, LOG_QUERY, MOVES, PORT_FORWARD, change, get, parameter,
};
use super::{Gives, Route, Takes, Verb, shape};
use crate::api::wire;
use crate::fsm::model::Role;

/// Every route of this build.
pub static ROUTES: &[Route] =
    &joined::<{ NODES.len() + MAIN.len() + KEPT.len() }>(NODES, MAIN, KEPT);

const fn joined<const N: usize>(one: &[Route], two: &[Route], three: &[Route]) -> [Route; N] {
    let (mut all, mut at) = ([one[0]; N], 0);
    while at < N {
        all[at] = if at < one.len() {
            one[at]
        } else if at - one.len() < two.len() {
            two[at - one.len()]
        } else {
            three[at - one.len() - two.len()]
        };
        at += 1;
    }
    all
}

/// What runs and what is asked about it.
const MAIN: &[Route] = &[
    Route {
        method: Verb::Post,
        query: &[
            parameter("replace", "the file may share no name with what its app runs"),
            parameter("image", "SERVICE=REF: another image than the file's; may repeat"),
        ],
        body: Takes::File,
        ..get(
            "/v1/plan",
            |c, r| Box::pin(explain::plan(c, r)),
            Gives::Json(shape::<wire::PlanView>()),
            "What a file would do, field by field, and where replicas would go; changes nothing",
        )
    },
    Route {
        query: &[
            parameter("plan", "HASH of a plan: do exactly that, or refuse with plan_stale"),
            parameter("replace", "the file may share no name with what its app runs"),
            parameter("image", "SERVICE=REF: another image than the file's; may repeat"),
        ],
        body: Takes::File,
        status: 200,
        ..change(
            Verb::Post,
            "/v1/deploy",
            |c, r| Box::pin(deploy::deploy(c, r)),
            Gives::Events(DEPLOY_EVENTS, Some(shape::<wire::RevisionView>())),
            "Deploy a file and follow it; 202 and the revision if JSON is asked for",
        )
    },
    Route {
        query: &[
            parameter("limit", "at most so many"),
            parameter("before", "only revisions before this one"),
            parameter("app", "only of this app"),
        ],
        ..get(
            "/v1/deployments",
            |c, r| Box::pin(deployments::list(c, r)),
            Gives::List(shape::<wire::DeploymentView>()),
            "Deployments, the newest first",
        )
    },
    get(
        "/v1/deployments/{revision}",
        |c, r| Box::pin(deployments::get(c, r)),
        Gives::Json(shape::<wire::DeploymentView>()),
        "A deployment, with its file",
    ),
    Route {
        query: &[parameter("to", "the other revision; without it the app's newest")],
        ..get(
            "/v1/deployments/{revision}/diff",
            |c, r| Box::pin(deployments::diff(c, r)),
            Gives::Json(shape::<wire::DiffView>()),
            "What differs between two revisions of an app, field by field",
        )
    },
    get(
        "/v1/deployments/{revision}/events",
        |c, r| Box::pin(deployments::events(c, r)),
        Gives::Events(DEPLOY_EVENTS, None),
        "The events of a deployment from its beginning, or behind Last-Event-ID",
    ),
    Route {
        body: Takes::Json(shape::<wire::RollbackRequest>()),
        ..change(
            Verb::Post,
            "/v1/rollback",
            |c, r| Box::pin(apps::rollback(c, r)),
            Gives::Json(shape::<wire::RevisionView>()),
            "Make an app what it was at an earlier revision",
        )
    },
    get(
        "/v1/apps/{app}",
        |c, r| Box::pin(apps::app(c, r)),
        Gives::Json(shape::<wire::AppView>()),
        "An app's file and revision",
    ),
    Route {
        query: &[parameter("cluster", "the file's guard: another cluster refuses")],
        ..change(
            Verb::Delete,
            "/v1/apps/{app}",
            |c, r| Box::pin(apps::down(c, r)),
            Gives::Json(shape::<wire::RevisionView>()),
            "Stop and remove all of an app",
        )
    },
    change(
        Verb::Post,
        "/v1/apps/{app}/promote",
        |c, r| Box::pin(canaries::promote(c, r)),
        Gives::Json(shape::<wire::RevisionView>()),
        "Let the canaries of an app's deployment replace the rest",
    ),
    change(
        Verb::Post,
        "/v1/apps/{app}/abort",
        |c, r| Box::pin(canaries::abort(c, r)),
        Gives::Json(shape::<wire::RevisionView>()),
        "Take the canaries of an app's deployment back",
    ),
    LIST_ROUTES,
    get(
        "/v1/services",
        |c, r| Box::pin(read::services(c, r)),
        Gives::List(shape::<wire::ServiceView>()),
        "The services",
    ),
    get(
        "/v1/services/{name}",
        |c, r| Box::pin(read::service(c, r)),
        Gives::Json(shape::<wire::ServiceView>()),
        "A service",
    ),
    change(
        Verb::Delete,
        "/v1/services/{name}",
        |c, r| Box::pin(services::remove(c, r)),
        Gives::Json(shape::<wire::RevisionView>()),
        "Stop and remove a service, or a task of a file",
    ),
    change(
        Verb::Post,
        "/v1/services/{name}/restart",
        |c, r| Box::pin(services::restart(c, r)),
        Gives::Json(shape::<wire::ServiceView>()),
        "Replace the allocations of a service one after the other",
    ),
    Route {
        body: Takes::Json(shape::<wire::ScaleRequest>()),
        ..change(
            Verb::Post,
            "/v1/services/{name}/scale",
            |c, r| Box::pin(services::scale(c, r)),
            Gives::Json(shape::<wire::RevisionView>()),
            "Change how many replicas a service has",
        )
    },
    Route {
        query: MOVES,
        ..get(
            "/v1/rebalance",
            |c, r| Box::pin(rebalance::plan(c, r)),
            Gives::List(shape::<wire::MoveView>()),
            "Which replicas would move to spread them over the nodes anew",
        )
    },
    Route {
        query: MOVES,
        ..change(
            Verb::Post,
            "/v1/rebalance",
            |c, r| Box::pin(rebalance::begin(c, r)),
            Gives::List(shape::<wire::MoveView>()),
            "Move them, within each service's update policy",
        )
    },
    Route {
        query: &[
            parameter("name", "only of this service or task"),
            parameter("node", "only on this node"),
            parameter("all", "false: only those that have not ended"),
        ],
        ..get(
            "/v1/allocations",
            |c, r| Box::pin(allocations::list(c, r)),
            Gives::List(shape::<wire::AllocationView>()),
            "The allocations, also those that have ended and are kept",
        )
    },
    get(
        "/v1/allocations/{id}",
        |c, r| Box::pin(allocations::get(c, r)),
        Gives::Json(shape::<wire::AllocationView>()),
        "An allocation, by its id or a unique start of it",
    ),
    change(
        Verb::Post,
        "/v1/allocations/{id}/restart",
        |c, r| Box::pin(allocations::restart(c, r)),
        Gives::Json(shape::<wire::AllocationView>()),
        "Start the next attempt of an allocation",
    ),
    get(
        "/v1/why/{name}",
        |c, r| Box::pin(explain::why(c, r)),
        Gives::Json(shape::<wire::WhyView>()),
        "Why a service, task or allocation is where it is, or isn't, and what would help",
    ),
    Route {
        query: &[
            parameter("follow", "a stream, that goes on with what happens from now on"),
            parameter("limit", "only the newest so many"),
        ],
        ..get(
            "/v1/events",
            |c, r| Box::pin(explain::events(c, r)),
            Gives::Feed(shape::<wire::EventView>()),
            "What happened in the cluster, the oldest first; behind Last-Event-ID if it is given",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[
            parameter("cmd", "the program, then its arguments, each a parameter of its own"),
            parameter("tty", "with a terminal"),
            parameter("width", "the terminal's columns"),
            parameter("height", "the terminal's rows"),
        ],
        status: 101,
        ..get(
            "/v1/allocations/{id}/exec",
            |c, r| Box::pin(exec::exec(c, r)),
            Gives::Nothing,
            "Run a program in a container, over a WebSocket; the first byte of a frame says what \
             it is: 0 stdin, 1 stdout, 2 stderr, 3 JSON resize, eof or exit",
        )
    },
    PORT_FORWARD,
    Route {
        role: Some(Role::Admin),
        query: &[parameter("path", "the file or folder in the container")],
        ..get(
            "/v1/allocations/{id}/files",
            |c, r| Box::pin(files::files(c, r)),
            Gives::Archive,
            "A file or folder out of a running container, as a tar archive",
        )
    },
    Route {
        role: Some(Role::Admin),
        query: &[parameter("path", "a folder to copy into, or the new name")],
        body: Takes::Archive,
        status: 204,
        ..change(
            Verb::Post,
            "/v1/allocations/{id}/files",
            |c, r| Box::pin(files::files(c, r)),
            Gives::Nothing,
            "Copy a tar archive with one file or folder into a running container",
        )
    },
    get(
        "/v1/metrics",
        |c, r| Box::pin(metrics::metrics(c, r)),
        Gives::Text,
        "This node's own figures, for Prometheus",
    ),
    Route {
        query: &[
            parameter("name", "only of this task"),
            parameter("all", "false: only those that are not over"),
        ],
        ..get(
            "/v1/tasks",
            |c, r| Box::pin(tasks::list(c, r)),
            Gives::List(shape::<wire::RunView>()),
            "The runs of tasks, also those that are over and kept",
        )
    },
    Route {
        body: Takes::Json(shape::<wire::SpawnRequest>()),
        ..change(
            Verb::Post,
            "/v1/tasks",
            |c, r| Box::pin(tasks::spawn(c, r)),
            Gives::Json(shape::<wire::RunView>()),
            "Run a task, or an image, once",
        )
    },
    get(
        "/v1/tasks/{id}",
        |c, r| Box::pin(tasks::get(c, r)),
        Gives::Json(shape::<wire::RunView>()),
        "A run, by its id, a unique start of it, or its task",
    ),
    change(
        Verb::Delete,
        "/v1/tasks/{id}",
        |c, r| Box::pin(tasks::kill(c, r)),
        Gives::Json(shape::<wire::RunView>()),
        "Kill a run",
    ),
    Route {
        query: LOG_QUERY,
        ..get(
            "/v1/logs",
            |c, r| Box::pin(logs::logs(c, r)),
            Gives::Events(&[("message", shape::<wire::LogLineView>())], None),
            "Log lines of everything, merged by time",
        )
    },
    Route {
        query: LOG_QUERY,
        ..get(
            "/v1/logs/{name}",
            |c, r| Box::pin(logs::logs(c, r)),
            Gives::Events(&[("message", shape::<wire::LogLineView>())], None),
            "Log lines of a service or an allocation",
        )
    },
];
