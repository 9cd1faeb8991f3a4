//! A raft actor with real files under a machine that only keeps a list of commands.
//!
//! Owns what root does for raft: applying, acknowledging, handing over the state. Never a part of
//! mill's own machine.

use mill::actors::raft::{Appended, Args, Committed, Event, Msg, ProposeError, Raft};
use mill::consensus::raft::Entry;
use mill::consensus::raft::node::{Conf, Member};
use mill::id::{Index, NodeId};
use ractor::{Actor, ActorRef, RpcReplyPort};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// What the machine has become.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The last applied index.
    pub index: u64,
    /// The commands, in order: what a snapshot held and what came after it.
    pub list: Vec<u64>,
    /// How many of them came in a snapshot.
    pub installed: usize,
    /// The current gate.
    pub confirmed: Option<u64>,
    /// Whether this node leads.
    pub leads: bool,
    /// The configuration, as a leader was last told of it.
    pub conf: Option<Conf>,
    /// Why raft ended.
    pub fatal: Option<String>,
    /// Snapshots that were asked for.
    pub snapshots: usize,
}

/// The messages between nodes: handed over at once, or lost where the way is cut.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Ways>>);

#[derive(Default)]
struct Ways {
    nodes: HashMap<NodeId, ActorRef<Msg>>,
    cut: HashSet<(NodeId, NodeId)>,
}

impl Network {
    /// Loses what goes from one to the other, or no longer.
    pub fn cut(&self, from: u64, to: u64, is_cut: bool) {
        let mut ways = self.0.lock().expect("lock");
        let way = (NodeId(from), NodeId(to));
        if is_cut {
            ways.cut.insert(way);
        } else {
            ways.cut.remove(&way);
        }
    }

    fn join(&self, id: NodeId, raft: ActorRef<Msg>) {
        self.0.lock().expect("lock").nodes.insert(id, raft);
    }

    fn send(&self, from: NodeId, to: NodeId, bytes: bytes::Bytes, bulk: bool) {
        let ways = self.0.lock().expect("lock");
        let open = ways.nodes.get(&to).filter(|_| !ways.cut.contains(&(from, to)));
        let arrived =
            open.is_some_and(|node| node.cast(Msg::Step { from, messages: vec![bytes] }).is_ok());
        let Some(sender) = ways.nodes.get(&from) else { return };
        let _ = match bulk {
            true => sender.cast(Msg::SnapshotSent { to, ok: arrived }),
            false if arrived => Ok(()),
            false => sender.cast(Msg::Unreachable(to)),
        };
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<u64>>>>;

/// A node of the list machine.
pub struct ListNode {
    /// The actor.
    pub raft: ActorRef<Msg>,
    /// The machine as it is now.
    pub machine: watch::Receiver<Machine>,
    waiting: Waiting,
    actor: JoinHandle<()>,
    pad: usize,
}

fn encode(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn decode(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("8 bytes"))).collect()
}

/// What root does: applies in order, answers, acknowledges.
async fn apply(
    mut events: mpsc::UnboundedReceiver<Event>,
    raft: ActorRef<Msg>,
    told: watch::Sender<Machine>,
    waiting: Waiting,
    (id, network): (NodeId, Network),
) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Committed(entries) => {
                told.send_modify(|machine| entries.iter().for_each(|e| take(machine, e, &waiting)));
                let _ = raft.cast(Msg::Applied(Index(told.borrow().index)));
            }
            Event::Installed { index, state } => {
                told.send_modify(|machine| {
                    machine.list = decode(&state);
                    machine.installed = machine.list.len();
                    machine.index = index.0;
                });
                let _ = raft.cast(Msg::Applied(index));
            }
            Event::SnapshotWanted => {
                told.send_modify(|machine| machine.snapshots += 1);
                let machine = told.borrow().clone();
                let encode = Box::new(move || Ok(encode(&machine.list)));
                let _ = raft.cast(Msg::Snapshot { index: Index(machine.index), encode });
            }
            Event::Leader { is_leader, .. } => told.send_modify(|m| m.leads = is_leader),
            Event::Confirmed(index) => told.send_modify(|m| m.confirmed = Some(index.0)),
            Event::Fatal(error) => {
                told.send_modify(|m| m.fatal = Some(error.to_string()));
                waiting.lock().expect("lock").clear();
            }
            Event::Conf(conf) => told.send_modify(|m| m.conf = Some(conf)),
            Event::Send { to, bytes, bulk } => network.send(id, to, bytes, bulk),
            Event::Refused { .. } | Event::Disk(_) | Event::Stuck(_) => {}
        }
    }
}

fn take(machine: &mut Machine, committed: &Committed, waiting: &Waiting) {
    assert_eq!(committed.index.0, machine.index + 1, "committed entries have no gap");
    machine.index = committed.index.0;
    let Some(entry) = &committed.entry else { return };
    let number = u64::from_le_bytes(entry.command[..8].try_into().expect("8 bytes"));
    machine.list.push(number);
    if let Some(reply) = waiting.lock().expect("lock").remove(&entry.seq) {
        let _ = reply.send(committed.index.0);
    }
}

impl ListNode {
    /// Starts node 1, alone, with its log in `dir`; commands are padded to `pad` bytes.
    pub async fn start(dir: &Path, pad: usize) -> Result<Self, ractor::SpawnErr> {
        Self::join(1, dir, pad, Network::default()).await
    }

    /// Starts a node on a network. Node 1 begins the log; another one waits until it is brought.
    pub async fn join(
        id: u64,
        dir: &Path,
        pad: usize,
        network: Network,
    ) -> Result<Self, ractor::SpawnErr> {
        let (sink, events) = mpsc::unbounded_channel();
        let (told, machine) = watch::channel(Machine::default());
        let waiting = Waiting::default();
        let args = Args {
            node: NodeId(id),
            dir: dir.to_owned(),
            sink: std::sync::Arc::new(move |event| drop(sink.send(event))),
        };
        let (raft, actor) = Raft::spawn(None, Raft, args).await?;
        network.join(NodeId(id), raft.clone());
        let sends = (NodeId(id), network);
        tokio::spawn(apply(events, raft.clone(), told, Arc::clone(&waiting), sends));
        Ok(Self { raft, machine, waiting, actor, pad })
    }

    /// Waits until the machine is as asked; fails after 20 s.
    pub async fn until(&self, what: &str, is: impl FnMut(&Machine) -> bool) -> Machine {
        let mut machine = self.machine.clone();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(20), machine.wait_for(is));
        let seen = wait.await.unwrap_or_else(|_| panic!("not in 20 s: {what}"));
        seen.expect("the machine lives").clone()
    }

    /// Waits until it leads and has applied everything that it was sure of at start.
    pub async fn ready(&self) -> Machine {
        self.until("current", |m| m.confirmed.is_some_and(|c| m.leads && m.index >= c)).await
    }

    /// Appends a number; answers where. `seq` is its own.
    pub async fn append(&self, seq: u64, number: u64) -> Result<Appended, ProposeError> {
        let mut command = number.to_le_bytes().to_vec();
        command.resize(self.pad.max(8), 7);
        let entry = Entry { seq, command, ..Entry::default() };
        let (port, reply) = oneshot::channel();
        let reply_port = RpcReplyPort::from(port);
        let _ = self.raft.cast(Msg::Propose { entry, reply: Some(reply_port) });
        reply.await.unwrap_or(Err(ProposeError::NotLeader { leader: None }))
    }

    /// Asks for a change of the members, which appends `number` in the same entry; none leave a
    /// joint configuration.
    pub fn change(&self, members: &[Member], number: u64) {
        let command = number.to_le_bytes().to_vec();
        let entry = Entry { command, ..Entry::default() };
        let _ = self.raft.cast(match members {
            [] => Msg::Leave,
            members => Msg::Change { members: members.to_vec(), entry },
        });
    }

    /// Appends a number and waits until it is applied; None if that can't happen any more.
    pub async fn propose(&self, seq: u64, number: u64) -> Option<u64> {
        let (applied, done) = oneshot::channel();
        self.waiting.lock().expect("lock").insert(seq, applied);
        if self.append(seq, number).await.is_err() {
            self.waiting.lock().expect("lock").remove(&seq);
            return None;
        }
        done.await.ok()
    }

    /// Stops as root does and waits for the end.
    pub async fn stop(self) {
        let _ = self.raft.cast(Msg::Stop);
        let _ = self.actor.await;
    }
}
