//! Certificates by ACME, on the leader: which host's turn it is, and what became of its order.
//!
//! Owns when an order begins. Never carries one out itself, and keeps nothing that the next leader
//! would miss: what counts is in the state.

mod account;
mod failed;
mod http;
mod look;
mod order;
mod renewal;

use crate::actors::root::{Done, Msg, Proposal, ProposeError, RootRef, View};
use crate::fsm::Command;
use crate::fsm::certificates::CertificateChange;
use crate::limits;
use crate::node::certificates::{all_due, forgotten, serving};
use crate::secret::Keyring;
use crate::units::Timestamp;
use account::Cashier;
use ractor::rpc::CallResult;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How certificates are ordered from this node.
#[derive(Clone, Debug, Default)]
pub struct OrderSettings {
    /// Whom the directory's own certificate is trusted by; absent: whom the host trusts.
    pub ca: Option<PathBuf>,
    /// Who is asked where a host leads; absent: the host's resolvers.
    pub resolver: Option<SocketAddr>,
    /// Where orders are tried after a failure; absent: where the authority is known to have such a
    /// place.
    pub trial: Option<String>,
}

/// What orders certificates while this node leads.
pub struct Orders {
    views: watch::Receiver<Option<View>>,
    desk: Arc<Desk>,
}

/// What all orders share.
struct Desk {
    root: RootRef,
    views: watch::Receiver<Option<View>>,
    keyring: Keyring,
    settings: OrderSettings,
    cashier: Cashier,
}

/// What became of a host's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The state says what is next.
    Over,
    /// It doesn't lead to the cluster, or it is not known whether it does.
    Elsewhere,
}

impl Orders {
    /// Orders nothing yet.
    pub fn new(
        root: RootRef,
        views: watch::Receiver<Option<View>>,
        keyring: Keyring,
        settings: OrderSettings,
    ) -> Self {
        let cashier = Cashier::default();
        let desk = Desk { root, views: views.clone(), keyring, settings, cashier };
        Self { views, desk: Arc::new(desk) }
    }

    /// Orders what is due whenever this node leads, for ever.
    pub async fn keep(mut self) {
        while self.views.wait_for(|view| view.as_ref().is_some_and(leads)).await.is_ok() {
            self.lead().await;
        }
    }

    /// Until this node leads no more; what is under way then is the next leader's.
    async fn lead(&mut self) {
        let mut turns: JoinSet<(String, Turn)> = JoinSet::new();
        let mut busy: BTreeMap<String, Pause> = BTreeMap::new();
        let mut begun = Instant::now();
        let mut renewals = Instant::now();
        loop {
            let view = self.views.borrow_and_update().clone();
            let Some(view) = view.filter(leads) else { return };
            let now = time(&view);
            for host in forgotten(&view.state, now) {
                self.desk.tell(CertificateChange::Forget { host });
            }
            if renewals <= Instant::now() {
                renewals = Instant::now() + limits::RENEWAL_LOOK;
                tokio::spawn(renewal::look_at_renewals(Arc::clone(&self.desk), view.clone()));
            }
            let mut wake = Instant::now() + limits::HOST_LOOK_CALM;
            for (host, at) in all_due(&view.state) {
                let paused = busy.get(&host).copied().unwrap_or(Pause::Until(Instant::now()));
                let Pause::Until(paused) = paused else { continue };
                let due = Instant::now() + at.since(now).duration();
                let first = due.max(paused).max(begun);
                if first > Instant::now() || turns.len() >= limits::ORDERS_AT_ONCE {
                    wake = wake.min(first.max(Instant::now() + limits::ORDER_AGAIN));
                    continue;
                }
                begun = Instant::now() + limits::ORDER_GAP;
                busy.insert(host.clone(), Pause::Turn);
                let (desk, view) = (Arc::clone(&self.desk), view.clone());
                turns.spawn(async move {
                    let turn = desk.turn(&host, &view).await;
                    (host, turn)
                });
            }
            tokio::select! {
                changed = self.views.changed() => if changed.is_err() { return },
                Some(ended) = turns.join_next(), if !turns.is_empty() => {
                    let Ok((host, turn)) = ended else { continue };
                    let pause = self.pause(&host, turn);
                    busy.insert(host, Pause::Until(Instant::now() + pause));
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// How long a host is left alone after its turn.
    fn pause(&self, host: &str, turn: Turn) -> Duration {
        let view = self.views.borrow();
        let state = view.as_ref().map(|view| &view.state);
        let is_served = state.is_some_and(|state| serving(state, host).is_some());
        match (turn, is_served) {
            (Turn::Over, _) => limits::ORDER_AGAIN,
            (Turn::Elsewhere, false) => limits::HOST_LOOK,
            (Turn::Elsewhere, true) => limits::HOST_LOOK_CALM,
        }
    }
}

/// Whether a host can have a turn.
#[derive(Clone, Copy, Debug)]
enum Pause {
    /// It has one.
    Turn,
    /// Then again.
    Until(Instant),
}

fn leads(view: &View) -> bool {
    view.current && view.leader == Some(view.node) && view.state.certificates.acme.is_some()
}

/// The cluster's time, as far as a leader knows it.
fn time(view: &View) -> Timestamp {
    match view.time {
        Some((time, at)) => view.state.time.max(time.plus(at.elapsed().into())),
        None => view.state.time,
    }
}

impl Desk {
    /// A host's turn: looked up, claimed, ordered.
    async fn turn(&self, host: &str, view: &View) -> Turn {
        if let Err(why) = look::look(&view.state, host, self.settings.resolver).await {
            let known = view.state.certificates.hosts.get(host);
            if known.and_then(|one| one.error.as_ref()) != Some(&why) {
                tracing::info!(host, why, "no certificate is ordered");
                let (host, error) = (host.to_owned(), Some(why));
                // It is found again at the next look.
                let _ = self.propose(CertificateChange::Hindered { host, error }).await;
            }
            return Turn::Elsewhere;
        }
        order::carry_out(self, host, view).await;
        Turn::Over
    }

    async fn propose(&self, change: CertificateChange) -> Result<Done, String> {
        let command = Command::Certificates(change);
        let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
        match self.root.call(ask, Some(limits::API_PROPOSE)).await {
            Ok(CallResult::Success(done)) => done.map_err(|error: ProposeError| error.to_string()),
            _ => Err("no answer".to_owned()),
        }
    }

    /// Proposes what nothing waits for.
    fn tell(&self, change: CertificateChange) {
        let (sender, _) = tokio::sync::oneshot::channel();
        let proposal = Proposal::new(&Command::Certificates(change), None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(Msg::Propose(proposal));
    }

    /// The newest view, as soon as something is true of it.
    async fn view_where(&self, is_so: impl Fn(&View) -> bool) -> Option<View> {
        let mut views = self.views.clone();
        let found = views.wait_for(|view| view.as_ref().is_some_and(&is_so)).await;
        found.ok().and_then(|view| view.clone())
    }
}
