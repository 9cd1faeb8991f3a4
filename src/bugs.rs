//! Deliberate bugs that the simulation must find: a switch for tests, nothing in the program.
//!
//! Owns the list. Never on outside tests: there, asking costs nothing and answers no.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Stops without waiting until the draining is settled everywhere.
    StopUnsettled,
    /// Replaces more replicas at once than the policy allows.
    TooManyAtOnce,
    /// Judges a canary by however few requests.
    DecideByFew,
    /// Leaves a failed deployment's new replicas running.
    ForgetRevert,
    /// Takes steps that were planned against an older version.
    TakeStaleSteps,
    /// Lets go of what an allocation reserves while it still runs.
    ReleaseEarly,
    /// Begins a rollout before the deployment's tasks have succeeded.
    RollBeforeTasks,
    /// Replaces nothing while a deployment's tasks run.
    HoldNothing,
    /// Stops what is on a draining node at once.
    DrainAtOnce,
    /// Stops what a deployment removes before the rest of it has succeeded.
    DepartAtOnce,
    /// Takes a write to the log for durable before it is: the simulated disk's.
    #[cfg(test)]
    AcknowledgeEarly,
    /// Does not write down whom it voted for.
    ForgetVote,
    /// Does not carry out that a joint configuration is left.
    LoseJointLeave,
    /// Takes what it has applied for the newest, without asking a leader.
    SkipGate,
    /// Carries out anew what was carried out before.
    ForgetOutcomes,
    /// Leaves a replica on a node where it doesn't work.
    StayWithBadNode,
    /// Tries one node after the other for as long as a deployment lasts.
    TryForEver,
    /// Takes no notice of nodes that are silent.
    TrustSilent,
    /// Lets a time without a leader count for deadlines.
    CountStandstill,
    /// Puts an earlier configuration into a snapshot.
    StaleConf,
    /// Leaves who was removed in raft's configuration.
    KeepRemoved,
    /// Answers reads without asking whether it still leads.
    ReadWithoutQuorum,
    /// Attaches a volume to another node before the last one has let it go.
    AttachUnfenced,
    /// Deletes a volume that something names.
    DeleteInUse,
    /// Makes a file system where one should be.
    FormatAnew,
    /// Lets what is moved be written while it is copied.
    CopyWritten,
    /// Panics in the middle of applying a report with this number.
    PanicInReport(u64),
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is switched on in this thread.
#[must_use]
#[inline]
#[cfg(test)]
pub fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Whether a bug is switched on: never, outside tests.
#[must_use]
#[inline]
#[cfg(not(test))]
pub const fn is_on(_bug: Bug) -> bool {
    false
}

/// Switches a bug on in this thread, or all off.
#[cfg(test)]
pub fn switch(bug: Option<Bug>) {
    ON.set(bug);
}
