//! The kernel's rules are looked at when anybody changes some, and made again where they are gone.
//!
//! Owns what the kernel should have and what was noticed of other firewalls. Never changes a rule
//! of anybody else's.

use super::{Foreign, Net, NetError, foreign, forwarding, nft};
use crate::limits;
use futures_util::FutureExt as _;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket};
use std::io;
use std::process::Command;
use std::time::Instant;

const NETFILTER: isize = 12;
/// The kernel's news of nftables (linux/netfilter/nfnetlink.h).
const NFTABLES: u32 = 7;

/// What the kernel should have.
#[derive(Default)]
pub(super) struct Rules {
    /// As it lists it; absent after a change of our own.
    expected: Option<String>,
}

/// What was noticed.
#[derive(Default)]
pub(super) struct Noticed {
    foreign: Vec<Foreign>,
    repaired: Option<Instant>,
}

/// News of changed rules.
struct Changes(TokioSocket);

impl Changes {
    fn open() -> io::Result<Self> {
        let mut changes = TokioSocket::new(NETFILTER)?;
        let socket = changes.socket_mut();
        socket.bind_auto()?;
        socket.add_membership(NFTABLES)?;
        Ok(Self(changes))
    }

    async fn next(&self) -> io::Result<()> {
        self.0.recv_from_full().await.map(drop)
    }

    /// Takes all that has come.
    fn drain(&self) {
        while matches!(self.next().now_or_never(), Some(Ok(()))) {}
    }
}

impl Net {
    /// Looks after the rules for as long as it is polled.
    pub async fn look_after(&self) {
        let changes = match Changes::open() {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::warn!(%error, "changes of the firewall are seen later");
                None
            }
        };
        let mut full = true;
        loop {
            if let Err(error) = self.inspect(full).await {
                let reason = &error as &dyn std::error::Error;
                tracing::warn!(reason, "the firewall's rules can't be looked at");
            }
            let news = async {
                match &changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            // An error of the socket says that news was lost.
            full = tokio::time::timeout(limits::NET_LOOK, news).await.is_ok() || changes.is_none();
            // Who changes one rule changes more.
            tokio::time::sleep(limits::NET_CALM).await;
            if let Some(changes) = &changes {
                changes.drain();
            }
        }
    }

    /// What a person should know of this host's firewalls, each with its remedy.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        let noticed = self.noticed.lock();
        let foreign = noticed.foreign.iter();
        let mut all: Vec<String> =
            foreign.map(|one| format!("{one}; let it through: {}", one.remedy())).collect();
        if let Some(at) = noticed.repaired.filter(|at| at.elapsed() < limits::NET_TOLD) {
            let seconds = at.elapsed().as_secs();
            all.push(format!(
                "another program removed the rules of published ports and isolation; they were \
                 made again {seconds}s ago"
            ));
        }
        all
    }

    /// Applies rules of our own.
    pub(super) async fn tell(&self, rules: &str) -> Result<(), NetError> {
        let mut of = self.rules.lock().await;
        of.expected = None;
        nft::apply(rules).await
    }

    /// Makes again what is gone of the rules, and looks at what others have; the switches of the
    /// kernel alone where nothing was heard of a change.
    pub(super) async fn inspect(&self, full: bool) -> Result<(), NetError> {
        let published = self.published.lock().await;
        let bridge = self.bridge.read().await;
        if bridge.is_none() {
            self.noticed.lock().foreign.clear();
            return Ok(());
        }
        let alone = forwarding::turn_on(&self.config.forwarding).await?;
        let mut rules = self.rules.lock().await;
        let switched = {
            let mut around = self.around.lock();
            std::mem::replace(&mut around.alone, alone) != alone
        };
        if switched {
            rules.expected = None;
            nft::apply(&self.base()).await?;
        }
        if full || switched {
            let found = nft::listed(&self.config).await?;
            let is_lost = found.is_none() || rules.expected.is_some() && rules.expected != found;
            rules.expected = found;
            if is_lost {
                tracing::warn!("another program changed the rules of containers; made again");
                rules.expected = None;
                nft::apply(&self.all_rules(published.active.as_ref())).await?;
                self.noticed.lock().repaired = Some(Instant::now());
            }
        }
        drop((rules, bridge, published));
        self.look_at_others(full).await
    }

    async fn look_at_others(&self, full: bool) -> Result<(), NetError> {
        let bridge = self.config.bridge();
        if !full && !has_legacy() {
            return Ok(());
        }
        let look = tokio::task::spawn_blocking(move || foreign_to(&bridge));
        let found = look.await.unwrap_or_else(|lost| Err(io::Error::other(lost)));
        let found = found.map_err(|source| NetError::NoNft { source })?;
        let mut noticed = self.noticed.lock();
        for one in found.iter().filter(|one| !noticed.foreign.contains(one)) {
            tracing::warn!(remedy = one.remedy(), "{one}");
        }
        noticed.foreign = found;
        Ok(())
    }
}

fn has_legacy() -> bool {
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    names.is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// The other firewalls that drop what goes through a bridge. Blocks while it asks them.
///
/// # Errors
/// `nft` can't be run.
pub fn foreign_to(bridge: &str) -> io::Result<Vec<Foreign>> {
    let list = |args: &[&str]| {
        let output = Command::new("nft").args(args).output()?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let json = list(&["--json", "list", "chains"])?;
    let chains = if json.trim().is_empty() { Vec::new() } else { foreign::chains(&json)? };
    let mut found = Vec::new();
    for chain in foreign::dropping(&chains) {
        let table = list(&["--stateless", "list", "table", &chain.family, &chain.table])?;
        found.extend(foreign::judge(chain, &chains, &table, bridge));
    }
    if has_legacy()
        && let Ok(output) = Command::new("iptables-legacy").arg("--list-rules").output()
    {
        found.extend(foreign::judge_legacy(&String::from_utf8_lossy(&output.stdout), bridge));
    }
    Ok(found)
}
