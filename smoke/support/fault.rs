//! What breaks on machines, by name.
//!
//! Owns how each fault is made and undone on a node of a cluster. Never chooses one. What is not
//! undone ends with the cluster, also after a failure: a paused process is killed, links go with
//! their namespaces, clocks and disks are the node's own.

use super::TestCluster;
use std::fmt;
use std::time::Duration;

/// How long a slow disk takes for a sync.
const SLOW: Duration = Duration::from_millis(700);
/// How far a clock jumps, in seconds.
const JUMP: i64 = 3_600;

/// One thing that goes wrong on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The daemon gets SIGKILL; its containers run on.
    Kill,
    /// The daemon is asked to end, and does.
    Stop,
    /// The daemon stands still (SIGSTOP).
    Pause,
    /// The link is down, and both ends see it.
    Cut,
    /// Nothing gets through, and nobody is told.
    Partition,
    /// The node hears the others, but isn't heard.
    Mute,
    /// The node is heard, but doesn't hear the others.
    Deaf,
    /// Every sync takes 700 ms longer.
    SlowDisk,
    /// The disk of the data directory is full. Only of a cluster on disks.
    FullDisk,
    /// The wall clock jumps an hour ahead.
    ClockAhead,
    /// The wall clock jumps an hour back.
    ClockBack,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::Cut,
        Self::Partition,
        Self::Mute,
        Self::Deaf,
        Self::SlowDisk,
        Self::FullDisk,
        Self::ClockAhead,
        Self::ClockBack,
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Partition => "partition",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::ClockAhead => "clock-ahead",
            Self::ClockBack => "clock-back",
        })
    }
}

impl TestCluster {
    /// Lets something go wrong on node number `n`.
    #[track_caller]
    pub fn strike(&mut self, n: usize, fault: Fault) {
        match fault {
            Fault::Kill => self.node_mut(n).kill(),
            Fault::Stop => assert_eq!(self.node_mut(n).stop(), Some(0), "a daemon that ends well"),
            Fault::Pause => self.node_mut(n).pause(),
            Fault::Cut => self.hub().cut(n),
            Fault::Partition => self.hub().part(&[n]),
            Fault::Mute => self.hub().mute(n),
            Fault::Deaf => self.hub().deafen(n),
            Fault::SlowDisk => self.node(n).dials().slow_syncs(SLOW),
            Fault::FullDisk => self.node(n).disk().fill(),
            Fault::ClockAhead => self.node(n).dials().set_clock(JUMP),
            Fault::ClockBack => self.node(n).dials().set_clock(-JUMP),
        }
        self.struck.insert((n, fault));
    }

    /// Undoes what went wrong on node number `n`; a daemon that ended by it is started again.
    #[track_caller]
    pub fn undo(&mut self, n: usize, fault: Fault) {
        match fault {
            Fault::Kill | Fault::Stop => self.node_mut(n).restart(),
            Fault::Pause => self.node_mut(n).resume(),
            Fault::Cut | Fault::Partition | Fault::Mute | Fault::Deaf => self.hub().heal(n),
            Fault::SlowDisk => self.node(n).dials().slow_syncs(Duration::ZERO),
            Fault::FullDisk => {
                self.node(n).disk().clear();
                if !self.node(n).is_running() {
                    let _ = self.node_mut(n).wait();
                    self.node_mut(n).restart();
                }
            }
            Fault::ClockAhead | Fault::ClockBack => self.node(n).dials().set_clock(0),
        }
        self.struck.remove(&(n, fault));
    }

    /// Undoes everything that went wrong and wasn't undone.
    #[track_caller]
    pub fn undo_all(&mut self) {
        for (n, fault) in self.struck.clone() {
            self.undo(n, fault);
        }
    }
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    for fault in Fault::ALL {
        assert_eq!(Fault::named(&fault.to_string()), Some(fault));
    }
    assert_eq!(Fault::named("earthquake"), None);
}
