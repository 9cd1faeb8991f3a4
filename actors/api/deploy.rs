//! `POST /v1/deploy`: from a file to a revision that is on its way, and its events.
//!
//! Owns the order of the checks. Never rolls anything out: that is plan's, whoever listens.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, json};
use super::submit::{self, Accepted};
use super::{deployments, stream};
use crate::api::views::{self, EventId};
use crate::api::wire::{AcceptedEvent, ErrorDetail, RevisionView};
use crate::fsm::command::Deploy;
use crate::fsm::model::DeployStatus;
use crate::fsm::secrets::{StoredSecret, secret_purpose};
use crate::fsm::{Rejection, State, plan_hash};
use crate::id::{Digest, SecretName, WorkloadName};
use crate::limits;
use crate::node::ingress::auth::{Users, UsersError};
use crate::scheduler::preview;
use crate::scheduler::revise::{self, ResolveError, Resolved, Up};
use crate::spec::image::{self, ReferenceError};
use crate::spec::{self, Parsed, Problem, Reference, Report, Spec, Target};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use warp::http::StatusCode;
use warp::reply::Response;

/// The name of a file that came without one.
const FILE_NAME: &str = "file";

/// `POST /v1/deploy`.
pub async fn deploy(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let replace = request.flag("replace")?;
    let images = overrides(&request)?;
    let last = deployments::last_event(&request)?;
    let plan = planned(&request)?;
    let file = self::file(&mut request).await?;
    let key = context.key(&request, file.as_bytes())?;
    let reading = context.read().await?;
    let state = reading.state();
    // A client that lost its connection goes on with what it has deployed.
    let is_same = |last: &EventId| {
        let known = state.deployments.get(&last.revision);
        known.is_some_and(|deployment| *state.file_of(deployment) == *file)
    };
    if let Some(last) = last.filter(is_same) {
        return Ok(reading.mark(deployments::follow(&context, last.next())?));
    }
    if let Some(known) = submit::known(&reading.view, key.as_deref()) {
        return answer(&context, &request, known?);
    }
    let (spec, resolved) = prepare(&context, state, &file, &images, true).await?;
    refuse_empty(state, &spec, replace)?;
    let make = |state: &State| {
        let up = Up { spec: spec.clone(), file: file.clone(), replace };
        let plan = plan.clone();
        Ok(Deploy { plan, ..revise::up(state, up, &resolved)? })
    };
    match submit::propose(&context, key, make).await {
        Err(ApiError::Rejected(Rejection::PlanStale { planned, .. })) => {
            let view = context.view().ok_or(ApiError::Starting)?;
            let now = make(&view.state)?;
            let then = context.plans.find(&planned);
            let why = preview::changed_since(&view.state, then.as_deref(), &planned, &now);
            Err(ApiError::PlanStale { hash: planned, why: why.join("; ") })
        }
        accepted => answer(&context, &request, accepted?),
    }
}

/// The file of a request.
pub async fn file(request: &mut Request) -> Result<String, ApiError> {
    request.text(limits::FILE_MAX).await
}

/// The hash given by `?plan=HASH`.
fn planned(request: &Request) -> Result<Option<String>, ApiError> {
    let Some(hash) = request.one("plan") else { return Ok(None) };
    let bad = || ApiError::bad(format!("{hash} is not the hash of a plan"), "make one: mill plan");
    plan_hash::is_hash(hash).then(|| Some(hash.to_owned())).ok_or_else(bad)
}

/// An empty file would take its app down, which is asked for by that name.
///
/// # Errors
/// It would.
pub fn refuse_empty(state: &State, spec: &Spec, replace: bool) -> Result<(), ApiError> {
    let is_empty = spec.services.is_empty() && spec.tasks.is_empty();
    let runs = state.apps.get(&spec.app).and_then(|app| views::app(state, app));
    if is_empty && !replace && runs.is_some() {
        return Err(Rejection::NothingShared { app: spec.app.clone() }.into());
    }
    Ok(())
}

/// Everything that comes before a revision is made: the file is read and checked against the
/// cluster, and its images are resolved; for whom no registry is asked, as far as that is known.
pub async fn prepare(
    context: &Context,
    state: &State,
    file: &str,
    images: &[(WorkloadName, String)],
    may_ask: bool,
) -> Result<(Spec, Resolved), ApiError> {
    let parsed = parse(file.to_owned()).await?;
    let mut spec = parsed.spec.clone();
    if context.dev {
        for_dev(&mut spec);
    }
    submit::guard(state, spec.cluster.as_deref())?;
    revise::override_images(&mut spec, images)?;
    let problems = revise::obstacles(state, &spec).into_iter().map(|found| {
        let kind = if spec.tasks.contains_key(&found.workload) { "task" } else { "service" };
        parsed.problem(&[kind, found.workload.as_str(), found.field], found.message, found.hint)
    });
    let mut problems: Vec<Problem> = problems.collect();
    problems.extend(secrets(context, state, &parsed));
    problems.extend(revise::resolve_addresses(state, &parsed, &mut spec));
    problems.sort_by_key(|problem| problem.span);
    parsed.check(problems).map_err(invalid)?;
    let mut references = revise::references(&spec);
    if !may_ask {
        references.retain(|reference| revise::loaded(state, reference).is_some());
    }
    let resolved = resolve(context, state, references).await;
    Ok((spec, resolved))
}

/// The secrets that the file needs and the cluster doesn't have, or has as what no variable can
/// hold, or as what says nobody may pass a route.
fn secrets(context: &Context, state: &State, parsed: &Parsed) -> Vec<Problem> {
    let dev = context.dev;
    let cluster = state.cluster.as_ref().map_or("", |cluster| cluster.name.as_str());
    let problem = |reference: &Reference| {
        let Target::Secret(name) = &reference.target else { return None };
        let text = match state.secrets.get(name) {
            None if dev => {
                format!("secret {name} isn't in dev. Pass it: mill dev --secret {name}=VALUE")
            }
            None => format!("secret {name} isn't in {cluster}. Run: mill secret set {name} -"),
            Some(secret) if secret.binary && parsed.is_variable(reference) => {
                format!("secret {name} is binary: no variable can hold it. Write secret-file")
            }
            Some(secret) if parsed.is_auth(reference) => {
                let error = users(context, name, secret)?;
                format!("secret {name} can't be used for auth: {error}. Write it by htpasswd -B")
            }
            Some(_) => return None,
        };
        Some(parsed.problem_at(reference.span, text, None))
    };
    parsed.references().filter_map(problem).collect()
}

/// Why a secret can't say who may pass a route. One that can't be opened here now is not judged.
fn users(context: &Context, name: &SecretName, secret: &StoredSecret) -> Option<UsersError> {
    let keyring = (context.ports.keyring)()?;
    let opened = keyring.unwrap(&secret_purpose(name, secret.version), &secret.envelope()).ok()?;
    Users::parse(&opened).err()
}

/// The images given by `?image=SERVICE=REF`.
pub fn overrides(request: &Request) -> Result<Vec<(WorkloadName, String)>, ApiError> {
    let pair = |text: &str| {
        let found =
            text.split_once('=').filter(|(name, image)| !name.is_empty() && !image.is_empty());
        let bad = || ApiError::bad(format!("image {text} names no service"), "write NAME=REF");
        let (name, given) = found.ok_or_else(bad)?;
        let wrong = |error: ReferenceError| ApiError::bad(error.to_string(), "write NAME=REF");
        image::Reference::parse(given).map_err(wrong)?;
        Ok((WorkloadName::from(name), given.to_owned()))
    };
    request.all("image").map(pair).collect()
}

/// Decodes the file; what this build can't carry out is refused like a mistake.
async fn parse(file: String) -> Result<Parsed, ApiError> {
    let read = move || {
        let parsed = spec::read(FILE_NAME, &file)?;
        parsed.check(spec::unsupported(&parsed))?;
        let unread = parsed.from_files().iter().map(|file| {
            let hint = Some("send its content: content=\"…\"".to_owned());
            parsed.problem_at(file.span, "from is read by the mill command", hint)
        });
        parsed.check(unread.collect())?;
        Ok(parsed)
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(parsed) => parsed.map_err(invalid),
        Err(error) => {
            Err(ApiError::Internal { doing: "reading the file", reason: error.to_string() })
        }
    }
}

fn invalid(report: Report) -> ApiError {
    let detail = |d: spec::Detail| ErrorDetail {
        line: d.line,
        column: d.column,
        message: d.message,
        hint: d.hint,
    };
    let details: Vec<ErrorDetail> = report.details().into_iter().map(detail).collect();
    let first = details.first();
    let first = first.map(|d| format!("line {}: {}", d.line, d.message)).unwrap_or_default();
    let message = match details.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    };
    ApiError::InvalidFile { message, details }
}

/// `mill dev` runs a file of any cluster, on the only node there is.
fn for_dev(spec: &mut Spec) {
    spec.cluster = None;
    let services = spec.services.values_mut().map(|service| &mut service.run);
    let tasks = spec.tasks.values_mut().map(|task| &mut task.run);
    services.chain(tasks).for_each(|run| run.constraints.clear());
}

/// Finds out what each reference leads to now: first what was loaded under it, then what its
/// registry says.
pub(super) async fn resolve(
    context: &Context,
    state: &State,
    references: BTreeSet<String>,
) -> Resolved {
    let lookups = references.into_iter().map(|reference| async move {
        let found = match revise::loaded(state, &reference) {
            Some(found) => found,
            None => asked(context, state, &reference).await,
        };
        (reference, found)
    });
    futures_util::stream::iter(lookups).buffer_unordered(limits::API_RESOLVES).collect().await
}

/// What the registry says; one that wants to be left alone for a while is asked again then, unless
/// it isn't needed.
async fn asked(context: &Context, state: &State, reference: &str) -> Result<Digest, ResolveError> {
    let begun = Instant::now();
    loop {
        let lookup = context.ports.images.resolve(reference.to_owned());
        let found = tokio::time::timeout(limits::API_RESOLVE, lookup).await;
        let found = found.unwrap_or_else(|_| {
            let reason = "its registry doesn't answer".to_owned();
            Err(ResolveError::Unreachable { reference: reference.to_owned(), reason })
        });
        let Err(ResolveError::Limited { wait, .. }) = &found else { return found };
        let wait = wait.duration();
        if begun.elapsed() + wait > limits::API_RESOLVE_LIMITED || revise::is_kept(state, reference)
        {
            return found;
        }
        tracing::info!(reference, ?wait, "its registry limits the rate of requests");
        tokio::time::sleep(wait).await;
    }
}

fn answer(
    context: &Arc<Context>,
    request: &Request,
    accepted: Accepted,
) -> Result<Response, ApiError> {
    let revision = accepted.revision;
    if request.wants_json() {
        let document = RevisionView { revision: revision.0 };
        return Ok(request::at(accepted.index, json(StatusCode::ACCEPTED, &document)?));
    }
    // Nothing was to be done: what was done when the revision was new is not told again, unless it
    // is still on its way.
    let ended = context.view().and_then(|view| {
        let found = view.state.deployments.get(&revision)?;
        (found.status != DeployStatus::Running).then_some(found.progress.len())
    });
    let response = match ended.filter(|_| !accepted.new) {
        None => deployments::follow(context, EventId::new(revision, 0))?,
        Some(steps) => {
            let sources = deployments::Sources::of(context);
            let plan = request.one("plan").map(str::to_owned);
            stream::open(context, move |feed| async move {
                let data = AcceptedEvent { revision: revision.0, plan };
                let id = EventId::new(revision, steps);
                feed.send(Some("accepted"), &id.to_string(), &data).await?;
                deployments::feed_events(sources, id.next(), feed).await
            })?
        }
    };
    Ok(request::at(accepted.index, response))
}
