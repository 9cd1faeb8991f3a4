//! What an allocation's life is told and what it asks for.
//!
//! Owns the words between the life and the shell around it. Never decides anything.

use crate::id::{Attempt, Digest};
use crate::spec::model::HealthSpec;
use crate::units::{Millis, Timestamp};

/// What should become of the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It runs, at this attempt or a later one.
    Run(Attempt),
    /// It ends and leaves nothing.
    Stop,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The program's code; 128 + n for signal n.
    pub code: i32,
    pub at: Timestamp,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// The same may succeed later with nothing else changed.
    pub temporary: bool,
    /// How long to wait before the next try, where somebody said so.
    pub wait: Option<Millis>,
    /// What a shell would give for a program that isn't there (127) or can't be executed (126).
    pub code: Option<i32>,
}

/// What happened. `op` tells which effect it answers: an older one's outcome is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something else should be.
    Want(Want),
    /// The image is there, or not.
    Pulled(u64, Result<(), Failure>),
    /// So many bytes of the image's layers are there by now.
    Advanced(u64, Vec<(Digest, u64)>),
    /// The program runs, or could not be started.
    Started(u64, Result<(), Failure>),
    /// The program of this attempt ended.
    Exited(Attempt, Ended),
    /// A process of this attempt was killed for want of memory; so many were by now, if that is
    /// known.
    OutOfMemory(Attempt, Option<u32>),
    /// The container of this attempt is not there any more, and nobody knows how it ended.
    Gone(Attempt),
    /// A probe's outcome; an error says what was seen.
    Probed(u64, Result<(), String>),
    /// What was asked to end has ended and is removed, with its last output.
    Cleared(u64, Option<Ended>, String),
    /// It could not be removed.
    NotCleared(u64, String),
    /// The time asked for with [`Effect::Wake`] has come.
    Woken(u64),
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Fetch the image; answered by [`Input::Pulled`].
    Pull(u64),
    /// Make and start the container; answered by [`Input::Started`].
    Start(u64, Attempt),
    /// Probe after this long; answered by [`Input::Probed`].
    Probe(u64, Millis),
    /// End the program if it runs and remove the container; answered by [`Input::Cleared`].
    Clear {
        /// For the answer.
        op: u64,
        /// Which container.
        attempt: Attempt,
        /// Ask the program first and give it its time.
        gently: bool,
        /// Remove also what later attempts would need: network, files.
        last: bool,
    },
    /// Answer with [`Input::Woken`] after this long.
    Wake(u64, Millis),
    /// Tell what is.
    Report,
    /// Nothing is left to do, ever.
    Finish,
}

/// What does not change while the allocation lives.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How it is probed.
    pub health: HealthSpec,
    /// It is started again after its end: a service.
    pub restarts: bool,
    /// How long its program may run: a task's.
    pub timeout: Option<Millis>,
}
