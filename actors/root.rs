//! The root actor: its state is the replicated machine; it supervises everything else.
//!
//! Owns the way of a change: proposals down to raft, committed entries through `apply`, views out
//! to the children. Never does I/O, encodes or hashes: that would hold up all changes.

mod children;
mod commit_path;
mod peers;
mod propose;
mod time;
mod vitals;

#[cfg(test)]
mod tests;

use crate::actors::container;
use crate::actors::mailbox::{Mailbox, Stamp};
use crate::actors::mesh;
use crate::actors::raft as consensus;
pub use crate::actors::view::View;
use crate::cluster::clock::Clock;
use crate::consensus::propose::CommittedEntry;
use crate::consensus::raft::event::LogDisk;
use crate::consensus::raft::node::Conf;
use crate::fsm;
use crate::fsm::command::{Init, Register};
use crate::id::{AllocId, BootId, Index, NodeId, Term, VolumeName};
use crate::limits;
use crate::node::mesh::Figures;
use crate::units::{Bytes, MilliCpu, Millis};
use children::Children;
pub use children::{ChildMessage, Factories, Factory, Started, Supervised};
pub use commit_path::{replayed, sink};
pub use peers::{MembersStep, PeerEvent};
use propose::Pending;
pub use propose::{Done, Proposal, ProposeError, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
pub use vitals::Vitals;

/// What root is told and asked.
pub enum Msg {
    /// Begin the life of a member: start raft and the children that need it.
    Begin(Box<Member>),
    /// Change the state: answered after the entry was applied, or with the reason why it was not.
    Propose(Proposal),
    /// Raft committed entries, or told of its leader.
    Raft(RaftEvent),
    /// Other nodes were heard, or reached.
    Peer(PeerEvent),
    /// The scheduler wants the configuration of raft changed.
    Members(MembersStep),
    /// Proposals that were not taken are due again, and those that waited too long are to be
    /// answered.
    Again,
    /// A child has made true what it saw at this index.
    Settled {
        child: Child,
        /// Up to where.
        index: Index,
    },
    /// Usage of this node's allocations, answered by the container actor.
    Usage(RpcReplyPort<NodeUsage>),
    /// How the other nodes are heard in the mesh, answered by its actor.
    MeshFigures(RpcReplyPort<BTreeMap<NodeId, Figures>>),
    /// What root has counted, for the metrics.
    Vitals(RpcReplyPort<Vitals>),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// Confirm that this node's view is the newest: answered with the index to wait for.
    ReadIndex(RpcReplyPort<Option<Index>>),
    /// A failed child's backoff is over.
    Restart(Child),
    /// A child has been started again, or not.
    Restarted(Child, Result<Started, String>),
    /// The leader's scheduler has looked at the nodes, so much later than it meant to if that was
    /// long.
    Looked(Millis),
    /// That nobody led for a while is in the log; an earlier number's is ignored.
    Stood(u64),
    /// The node's introduction was answered: look whether another is needed.
    Introduced,
    /// Answered once the node is current and the state shows its life.
    Ready(RpcReplyPort<()>),
    /// Stop the children in order, then root: answered when all is stopped.
    Stop(RpcReplyPort<()>),
}

/// What raft tells, decoded off root's thread.
#[derive(Debug)]
pub enum RaftEvent {
    /// The whole state was replaced.
    Installed(Box<fsm::State>),
    /// Entries to apply, in order.
    Committed(Vec<CommittedEntry>),
    /// Raft did not take this proposal.
    Refused(NodeId, BootId, u64, Refusal),
    /// Who leads changed, or the term.
    Leader(Option<NodeId>, Term),
    /// The configuration of raft, or who has caught up, while this node leads.
    Conf(Conf),
    /// Everything up to here was committed when a leader first confirmed it in this boot.
    Confirmed(Index),
    /// Raft would like to shorten its log.
    SnapshotWanted,
    /// How the disk of the log is.
    Disk(LogDisk),
    /// The log can't be trusted any further, or it holds what this build can't apply.
    Fatal(String),
}

/// The children of root, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Child {
    /// Consensus.
    Raft,
    /// The connections to other nodes.
    Peer,
    /// The interface to the other nodes, and the ways to their containers.
    Mesh,
    /// The node's containers.
    Container,
    /// Names.
    Dns,
    /// Requests from outside.
    Proxy,
    /// The planner's shell.
    Scheduler,
    /// The provider's volumes.
    Provider,
    /// The HTTP API.
    Api,
}

impl Child {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Raft,
        Self::Peer,
        Self::Mesh,
        Self::Container,
        Self::Dns,
        Self::Proxy,
        Self::Scheduler,
        Self::Provider,
        Self::Api,
    ];

    /// Its name, as metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Peer => "peer",
            Self::Mesh => "mesh",
            Self::Container => "container",
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Scheduler => "scheduler",
            Self::Provider => "provider",
            Self::Api => "api",
        }
    }
}

/// What this node's allocations use.
#[derive(Clone, Debug, Default)]
pub struct NodeUsage {
    /// By allocation: cores and memory.
    pub allocations: BTreeMap<AllocId, (MilliCpu, Bytes)>,
    /// By allocation: processor time since the attempt's start.
    pub cpu_totals: BTreeMap<AllocId, std::time::Duration>,
    /// By persistent volume: bytes on the disk.
    pub volumes: BTreeMap<VolumeName, Bytes>,
    /// The whole machine.
    pub node: (MilliCpu, Bytes),
    /// What a person should know of the machine, each with its remedy.
    pub trouble: Vec<String>,
    /// By allocation: what it has written to the node's disk, as of the last minute.
    pub written: BTreeMap<AllocId, Bytes>,
    /// The disks of data and images: where, what is free, and all.
    pub disks: Vec<(String, Bytes, Bytes)>,
}

/// What a child holds: the way to root and nothing else.
pub type RootRef = ActorRef<Msg>;

/// What a node needs to begin the life of a member.
pub struct Member {
    pub node: NodeId,
    /// For the first node of a new cluster: the log's first command.
    pub init: Option<Init>,
    /// What it says of itself.
    pub register: Register,
}

/// What root starts with.
pub struct Args {
    /// This life of the node.
    pub boot: BootId,
    /// How children are started.
    pub factories: Factories,
    /// Where the reason goes when the process must end.
    pub fatal: tokio::sync::mpsc::UnboundedSender<String>,
}

/// The actor.
pub struct Root;

/// What root keeps.
pub struct State {
    /// This process: what its proposals are numbered in.
    boot: BootId,
    /// This life of the node: of the process, or later if the node was taken for lost meanwhile.
    epoch: BootId,
    member: Option<Box<Member>>,
    fsm: Arc<fsm::State>,
    leader: Option<NodeId>,
    /// The configuration of raft, while this node leads.
    conf: Option<Conf>,
    /// The commit index of the current gate, once it is known.
    confirmed: Option<Index>,
    introducing: bool,
    /// Who waits until the node is ready.
    waiting: Vec<RpcReplyPort<()>>,
    children: Children,
    pending: Pending,
    clock: Clock,
    /// That nobody led for a while is on its way into the log, with this number.
    standing: Option<u64>,
    stood: u64,
    started: Instant,
    vitals: Vitals,
    mailbox: Mailbox,
    fatal: tokio::sync::mpsc::UnboundedSender<String>,
}

impl Actor for Root {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let vitals = Vitals::default();
        Ok(State {
            boot: args.boot,
            epoch: args.boot,
            member: None,
            fsm: Arc::default(),
            leader: None,
            conf: None,
            confirmed: None,
            introducing: false,
            waiting: Vec::new(),
            children: Children::new(args.factories, &vitals.waits),
            pending: Pending::default(),
            clock: Clock::default(),
            standing: None,
            stood: 0,
            started: Instant::now(),
            mailbox: vitals.waits.of("root"),
            vitals,
            fatal: args.fatal,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.start_child(Child::Api, &myself).await;
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Begin(member) => state.begin(member, &myself).await,
            Msg::Propose(proposal) => state.propose(proposal, &myself),
            Msg::Raft(event) => state.on_raft(event, &myself),
            Msg::Peer(event) => state.on_peer(event, &myself),
            Msg::Members(step) => state.change_members(step),
            Msg::Again => state.send_again(&myself),
            Msg::Settled { child, index } => state.on_settled(child, index),
            Msg::Usage(reply) => state.children.container.tell(container::Msg::Usage(reply)),
            Msg::MeshFigures(reply) => state.children.mesh.tell(mesh::Msg::Figures(reply)),
            Msg::Vitals(reply) => {
                // Who asked may have gone.
                let _ = reply.send(state.vitals());
                // What waits now shows in the next answer.
                state.children.stamp_all();
                state.stamp(&myself);
            }
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::ReadIndex(reply) => state.read_index(reply),
            Msg::Restart(child) => state.restart_child(child, &myself),
            Msg::Restarted(child, result) => state.on_restarted(child, result, &myself),
            Msg::Stood(number) => state.on_stood(number),
            Msg::Looked(late) => state.on_looked(late, &myself),
            Msg::Introduced => {
                state.introducing = false;
                state.introduce(&myself);
            }
            Msg::Ready(reply) => {
                state.waiting.push(reply);
                state.tell_ready();
            }
            Msg::Stop(reply) => {
                state.children.stop_all().await;
                // The caller may have gone: nothing is lost with the answer.
                let _ = reply.send(());
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.on_supervision(event, &myself);
        Ok(())
    }
}

impl State {
    async fn begin(&mut self, member: Box<Member>, myself: &RootRef) {
        if self.member.is_some() {
            return;
        }
        self.member = Some(member);
        let members = [
            Child::Raft,
            Child::Peer,
            Child::Mesh,
            Child::Container,
            Child::Dns,
            Child::Proxy,
            Child::Scheduler,
            Child::Provider,
        ];
        for child in members {
            self.start_child(child, myself).await;
        }
    }

    /// Sends a stamp through root's own mailbox, if none is in it.
    fn stamp(&self, myself: &RootRef) {
        if let Some(stamp) = self.mailbox.stamp() {
            // Its own mailbox is there as long as root is.
            let _ = myself.cast(Msg::Stamped(stamp));
        }
    }

    fn vitals(&self) -> Vitals {
        Vitals { conf: self.conf.clone(), ..self.vitals.clone() }
    }

    fn fail(&self, reason: String) {
        // The receiver is the process's main loop; without it there is nothing left to end.
        let _ = self.fatal.send(reason);
    }

    fn read_index(&self, reply: RpcReplyPort<Option<Index>>) {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let port: RpcReplyPort<Result<Index, consensus::ReadError>> = sender.into();
        self.children.raft.tell(consensus::Msg::ReadIndex { reply: port });
        tokio::spawn(async move {
            let answer = tokio::time::timeout(limits::READ_CONFIRM, receiver).await;
            // A reader that has gone needs no answer.
            let _ = reply.send(answer.ok().and_then(Result::ok).and_then(Result::ok));
        });
    }
}
