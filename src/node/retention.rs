//! Which of a node's logs go: those that ended long ago, and the oldest where there are too many.
//!
//! Owns the order in which they go. Never touches a file.

use crate::id::{AllocId, Attempt};
use crate::limits;
use crate::units::{Bytes, Timestamp};

/// One file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSegment {
    /// The start of the container that it belongs to.
    pub attempt: Attempt,
    /// Counts up within the attempt.
    pub sequence: u32,
    /// Its size.
    pub bytes: Bytes,
    /// When it was written to last.
    pub written: Timestamp,
}

/// The log of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Whose it is.
    pub id: AllocId,
    /// When the allocation ended; none while it lives.
    pub ended: Option<Timestamp>,
    /// Its files, oldest first.
    pub parts: Vec<LogSegment>,
}

/// What goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// All of an allocation's log.
    Log(AllocId),
    /// One file of a log whose allocation lives.
    Part(AllocId, Attempt, u32),
}

/// Something that may go, with what decides about its turn: the lower, the sooner.
struct Candidate {
    turn: (Rank, Timestamp),
    bytes: u64,
    gone: Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// An ended allocation's log, or a file with a successor.
    Old,
    /// The end of the attempt before, which tells why it ended.
    Previous,
}

impl Log {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.0).sum()
    }

    /// The files that may go while the allocation lives: never the newest.
    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let newest = self.parts.last().map(|part| part.attempt);
        let rest = self.parts.split_last().map_or(&[][..], |(_, rest)| rest);
        let previous = rest.iter().rposition(|part| Some(part.attempt) != newest);
        rest.iter().enumerate().map(move |(at, part)| Candidate {
            turn: (if Some(at) == previous { Rank::Previous } else { Rank::Old }, part.written),
            bytes: part.bytes.0,
            gone: Gone::Part(self.id.clone(), part.attempt, part.sequence),
        })
    }
}

/// What goes so that nothing is kept longer than [`limits::ENDED_KEPT`] after its allocation's end
/// and all takes at most `room`: what is oldest first, ended allocations' logs whole, files that
/// have a successor one by one. The newest file of an allocation that lives always stays.
#[must_use]
pub fn retire(logs: &[Log], now: Timestamp, room: Bytes) -> Vec<Gone> {
    let too_old =
        |log: &&Log| log.ended.is_some_and(|ended| now.since(ended) > limits::ENDED_KEPT.into());
    let (old, kept): (Vec<&Log>, Vec<&Log>) = logs.iter().partition(too_old);
    let mut gone: Vec<Gone> = old.iter().map(|log| Gone::Log(log.id.clone())).collect();
    let mut candidates: Vec<Candidate> = Vec::new();
    for log in &kept {
        match log.ended {
            Some(ended) => candidates.push(Candidate {
                turn: (Rank::Old, ended),
                bytes: log.bytes(),
                gone: Gone::Log(log.id.clone()),
            }),
            None => candidates.extend(log.candidates()),
        }
    }
    candidates.sort_by_key(|candidate| candidate.turn);
    let mut used: u64 = kept.iter().map(|log| log.bytes()).sum();
    for candidate in candidates {
        if used <= room.0 {
            break;
        }
        used -= candidate.bytes;
        gone.push(candidate.gone);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;
    use yare::parameterized;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    /// `NAME[@END]: ATTEMPT.SEQUENCE=BYTES@WRITTEN …; …`, times in seconds ago.
    fn logs(text: &str) -> Vec<Log> {
        let ago = |text: &str| Timestamp(NOW.0 - text.parse::<u64>().unwrap() * 1000);
        let part = |text: &str| {
            let (name, rest) = text.split_once('=').unwrap();
            let (attempt, sequence) = name.split_once('.').unwrap();
            let (bytes, written) = rest.split_once('@').unwrap();
            LogSegment {
                attempt: Attempt(attempt.parse().unwrap()),
                sequence: sequence.parse().unwrap(),
                bytes: Bytes(bytes.parse().unwrap()),
                written: ago(written),
            }
        };
        let log = |text: &str| {
            let (head, parts) = text.split_once(':').unwrap();
            let (name, ended) = match head.trim().split_once('@') {
                Some((name, ended)) => (name, Some(ago(ended))),
                None => (head.trim(), None),
            };
            let parts = parts.split_whitespace().map(part).collect();
            Log { id: name.into(), ended, parts }
        };
        text.split(';').map(log).collect()
    }

    fn names(gone: &[Gone]) -> String {
        let name = |gone: &Gone| match gone {
            Gone::Log(id) => id.to_string(),
            Gone::Part(id, attempt, sequence) => format!("{id}/{attempt}.{sequence}"),
        };
        gone.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[parameterized(
        nothing_is_too_much = { "a@10: 1.0=50@11; b: 1.0=50@0", 100, "" },
        oldest_end_goes_first =
            { "a@10: 1.0=50@99; b@30: 1.0=50@31; c@20: 1.0=50@21; d: 1.0=1@0", 101, "b" },
        as_many_as_needed =
            { "a@10: 1.0=50@99; b@30: 1.0=50@31; c@20: 1.0=50@21; d: 1.0=1@0", 60, "b c" },
        a_day_after_the_end_it_goes =
            { "a@86401: 1.0=1@90000; b@86400: 1.0=1@90000; c: 1.0=1@90000", 100, "a" },
        what_went_by_age_makes_room =
            { "a@86401: 1.0=50@86402; b@20: 1.0=50@21; c: 1.0=50@0", 100, "a" },
        whole_log_of_an_ended_one = { "a@5: 1.0=40@50 1.1=40@40 2.0=40@6; b: 1.0=1@0", 100, "a" },
        rotated_files_of_a_living_one =
            { "a: 1.0=40@50 1.1=40@40 1.2=40@30 1.3=10@0", 60, "a/1.0 a/1.1" },
        newest_of_a_living_one_stays =
            { "a: 1.0=40@50 1.1=400@0; b: 1.0=400@900", 100, "a/1.0" },
        newest_stays_also_when_nobody_writes =
            { "a: 1.0=60@800 1.1=60@700; b@5: 1.0=60@6", 130, "a/1.0" },
        by_age_between_both_kinds =
            { "a@30: 1.0=50@31; b: 1.0=50@40 1.1=50@20 1.2=50@0", 120, "b/1.0 a" },
        previous_attempt_ends_last =
            { "a: 1.0=50@90 1.1=50@80 2.0=50@70 2.1=50@0; b@5: 1.0=50@6", 120, "a/1.0 a/2.0 b" },
        previous_attempt_goes_too = { "a: 1.0=50@90 1.1=50@80 2.0=50@0", 60, "a/1.0 a/1.1" },
        only_the_attempt_right_before =
            { "a: 1.0=50@90 2.0=50@80 3.0=50@0", 110, "a/1.0" },
        nothing_to_gain = { "a: ; b@5:", 0, "" },
    )]
    fn logs_go(text: &str, room: u64, want: &str) {
        assert_eq!(names(&retire(&logs(text), NOW, Bytes(room))), want);
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let mut logs = logs("a@10: 1.0=50@11");
        logs[0].ended = Some(NOW.plus(Millis::secs(90_000)));
        assert_eq!(retire(&logs, NOW, Bytes(100)), []);
    }
}
