//! What every handler holds: the newest view, the way to root, and the ports to the node's stores.
//!
//! Owns how a change is proposed and how a reading is confirmed. Never keeps anything of a request.

use super::caller::{Place, Streams};
use super::error::ApiError;
use super::failures::Failures;
use super::plans::Plans;
use super::ports::Ports;
use super::request::{self, Request};
use super::tally::Tally;
use super::usage::Connections;
use crate::actors::dns_queries::DnsQueries;
pub use crate::actors::platform::now;
use crate::actors::root::{Done, Msg, Proposal, RootRef, View, Vitals};
use crate::api::views;
use crate::fsm::{Command, State};
use crate::id::{Index, NodeId};
use crate::limits;
use crate::units::Millis;
use ractor::rpc::CallResult;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderValue;
use warp::reply::Response;

/// What every handler holds.
pub struct Context {
    pub(super) root: RootRef,
    pub(super) views: watch::Receiver<Option<View>>,
    pub(super) membership: watch::Receiver<super::Membership>,
    pub(super) ports: Ports,
    pub(super) dev: bool,
    pub(super) plans: Plans,
    pub(super) tally: Tally,
    pub(super) queries: DnsQueries,
    pub(super) streams: Arc<Streams>,
    pub(super) archives: Arc<Semaphore>,
    pub(super) failures: Failures,
    pub(super) connections: Connections,
    pub(super) stopping: CancellationToken,
}

/// A view that is shown to a caller.
pub struct Reading {
    pub view: View,
    /// No leader confirmed in time that it is the newest.
    pub stale: bool,
}

impl Reading {
    /// The state.
    pub fn state(&self) -> &State {
        &self.view.state
    }

    /// The answer with what is known of its age.
    pub fn mark(&self, response: Response) -> Response {
        marked(self.view.index, self.stale, response)
    }
}

fn marked(index: Index, stale: bool, response: Response) -> Response {
    let mut response = request::at(index, response);
    if stale {
        response.headers_mut().insert(request::MILL_STALE, HeaderValue::from_static("true"));
    }
    response
}

tokio::task_local! {
    /// What the request being answered was last shown, and whether that was stale.
    static SHOWN: Cell<Option<(Index, bool)>>;
}

/// Answers a request. A failure that hangs on a reading is marked as that reading is: what a stale
/// one doesn't have may be there all the same.
pub async fn answering(handled: impl Future<Output = Result<Response, ApiError>>) -> Response {
    let answer = async {
        match handled.await {
            Ok(response) => response,
            Err(error) => match SHOWN.with(Cell::get) {
                Some((index, stale)) => marked(index, stale, error.response()),
                None => error.response(),
            },
        }
    };
    SHOWN.scope(Cell::default(), answer).await
}

/// From here on the answer hangs on this reading, or on none. Outside of a request nobody asks.
fn hangs_on(reading: Option<(Index, bool)>) {
    let _ = SHOWN.try_with(|shown| shown.set(reading));
}

impl Context {
    /// The newest view, without asking anybody.
    pub fn view(&self) -> Option<View> {
        self.views.borrow().clone()
    }

    /// A view that a leader confirmed to be the newest, or the newest at hand. While the node
    /// starts, its first view is waited for.
    pub async fn read(&self) -> Result<Reading, ApiError> {
        let mut views = self.views.clone();
        let first = views.wait_for(Option::is_some);
        // Without one in time the answer below says that the node is starting.
        let _ = tokio::time::timeout(limits::API_FIRST_VIEW, first).await.is_ok();
        let confirmed = tokio::time::timeout(limits::READ_CONFIRM, async {
            let call = self.root.call(Msg::ReadIndex, Some(limits::READ_CONFIRM)).await;
            match call {
                Ok(CallResult::Success(Some(index))) => self.reach(index).await,
                _ => None,
            }
        });
        let reading = match confirmed.await {
            Ok(Some(view)) => Reading { view, stale: false },
            _ => Reading { view: self.view().ok_or(ApiError::Starting)?, stale: true },
        };
        hangs_on(Some((reading.view.index, reading.stale)));
        Ok(reading)
    }

    /// Waits until this node's view is as new as that of the member that asks, for a moment.
    pub(super) async fn catch_up(&self, index: Index) {
        // A node that is cut off from the leader still has what is asked for.
        let _ = tokio::time::timeout(limits::READ_CONFIRM, self.reach(index)).await;
    }

    /// Waits until the view is at an index. The caller bounds the wait.
    async fn reach(&self, index: Index) -> Option<View> {
        let mut views = self.views.clone();
        let is_there = |view: &Option<View>| view.as_ref().is_some_and(|v| v.index >= index);
        views.wait_for(is_there).await.ok()?.clone()
    }

    /// Changes the state; the view has the change when this is done.
    pub async fn propose(
        &self,
        command: Command,
        idempotency_key: Option<String>,
    ) -> Result<Done, ApiError> {
        hangs_on(None);
        let ask = |reply| Msg::Propose(Proposal::new(&command, idempotency_key, reply));
        let done = match self.root.call(ask, Some(limits::API_PROPOSE)).await {
            Ok(CallResult::Success(result)) => result?,
            // Whom it was given to may have passed it on before its end.
            Ok(CallResult::Timeout | CallResult::SenderError) => return Err(ApiError::Unconfirmed),
            Err(_) => return Err(ApiError::Stopping),
        };
        // If it takes too long the change is done all the same.
        let _ = tokio::time::timeout(limits::API_VIEW, self.reach(done.index)).await;
        Ok(done)
    }

    /// A place among the open streams for who asks.
    pub(super) fn place(&self) -> Result<Place, ApiError> {
        Place::take(&self.streams, &self.views)
    }

    /// What root has counted, unless it is busy.
    pub async fn vitals(&self) -> Option<Vitals> {
        match self.root.call(Msg::Vitals, Some(limits::API_USAGE)).await {
            Ok(CallResult::Success(vitals)) => Some(vitals),
            _ => None,
        }
    }

    /// What a caller is told whose change no leader took.
    pub async fn no_leader(&self) -> ApiError {
        match (self.view(), self.vitals().await) {
            (_, Some(Vitals { expelled: Some(why), .. })) => {
                ApiError::Silent { message: why.to_string() }
            }
            (Some(view), Some(vitals)) => {
                let silent = silent(&view, &vitals);
                ApiError::Silent { message: views::no_leader(&view.state, &silent) }
            }
            _ => ApiError::NoLeader,
        }
    }

    /// What a caller is told while nothing of the log is there.
    pub async fn starting(&self) -> ApiError {
        let Some(vitals) = self.vitals().await else { return ApiError::Starting };
        let (links, is_late) = (vitals.others(), vitals.age() >= limits::JOIN_READY);
        let unreached: Vec<String> = links
            .iter()
            .filter_map(|(id, silence)| {
                let since = silence.filter(|since| *since >= limits::API_FIRST_VIEW)?;
                Some(format!("node {id} for {}s", since.as_secs()))
            })
            .collect();
        if links.is_empty() || unreached.is_empty() && !is_late {
            return ApiError::Starting;
        }
        let undo = "to undo its joining: mill leave";
        let message = if unreached.is_empty() {
            format!(
                "this node was let in, but no member has brought it the log: they may not reach it \
                 at the address that it joined with; {undo}"
            )
        } else {
            let who = unreached.join(", ");
            format!("this node was let in, but it does not reach {who}; {undo}")
        };
        ApiError::Silent { message }
    }

    /// A view that has a change: what doesn't have it would say that the change was never made.
    pub fn view_after(&self, done: &Done) -> Result<View, ApiError> {
        let view = self.view().filter(|view| view.index >= done.index);
        view.ok_or(ApiError::Unconfirmed)
    }

    /// The request's `Idempotency-Key` as the state keeps it: it means something only for this
    /// caller and route, and only with this body.
    pub fn key(&self, request: &Request, body: &[u8]) -> Result<Option<String>, ApiError> {
        let Some(given) = request.header("idempotency-key") else { return Ok(None) };
        if given.is_empty() || given.len() > limits::API_KEY_MAX {
            let message = format!("an Idempotency-Key has 1 to {} bytes", limits::API_KEY_MAX);
            return Err(ApiError::bad(message, "send a UUID"));
        }
        let scope = [&request.caller, request.method.as_str(), &request.path, given].join("\n");
        let view = self.view();
        // Beside its caller's others, so that nobody's are lost for another's; the same on every
        // node, however far its view is.
        let scope =
            format!("{}/{}", request.caller, hex::encode(&Sha256::digest(scope.as_bytes())[..16]));
        let mut content = Sha256::new();
        for (name, value) in &request.query {
            content.update(format!("{name}={value}\n"));
        }
        content.update(body);
        let key = format!("{scope}:{}", hex::encode(&content.finalize()[..8]));
        let used = view.iter().flat_map(|view| {
            view.state.idempotency.range(format!("{scope}:")..format!("{scope};"))
        });
        let other = used.map(|(used, _)| used).find(|used| !used.starts_with(&key));
        if other.is_some() {
            let message = "this Idempotency-Key was used for another request".to_owned();
            return Err(ApiError::Conflict { message, hint: Some("send a new key".to_owned()) });
        }
        Ok(Some(key))
    }
}

/// The other nodes that this one can't reach, and for how long.
pub fn silent(view: &View, vitals: &Vitals) -> BTreeMap<NodeId, Millis> {
    let others = view.state.nodes.keys().filter(|id| **id != view.node);
    others.filter_map(|id| Some((*id, vitals.silence(*id)?.into()))).collect()
}
