//! Lives as a script of inputs, and at random.

mod tasks;

use super::*;
use crate::spec::model::{HealthProbe, HealthSpec};
use proptest::prelude::*;

const START: Timestamp = Timestamp(1_000_000);

fn at(ms: u64) -> Timestamp {
    START.plus(Millis(ms))
}

fn terms() -> Terms {
    let health = HealthSpec {
        explicit: true,
        probe: HealthProbe::Http("/".into()),
        interval: Millis::secs(10),
        timeout: Millis::secs(2),
        grace: Millis::secs(30),
        host: None,
    };
    Terms { health, restarts: true, timeout: None }
}

fn fresh() -> (Life, Effects) {
    Life::begin(terms(), Want::Run(Attempt(1)), &AllocationStatus::default(), None, START)
}

fn running() -> Life {
    let (mut life, effects) = fresh();
    assert_eq!(effects, [Effect::Report, Effect::Pull(1)]);
    assert_eq!(life.observed().phase, Phase::Pulling);
    let effects = life.step(Input::Pulled(1, Ok(())), at(1));
    assert_eq!(effects, [Effect::Report, Effect::Start(2, Attempt(1))]);
    assert_eq!(life.observed().phase, Phase::Starting);
    let effects = life.step(Input::Started(2, Ok(())), at(2));
    assert_eq!(effects, [Effect::Report, Effect::Probe(3, Millis(0))]);
    assert_eq!(life.observed().phase, Phase::Running);
    assert_eq!(life.observed().health, Health::Checking);
    life
}

fn healthy() -> Life {
    let mut life = running();
    let effects = life.step(Input::Probed(3, Ok(())), at(3));
    assert_eq!(effects, [Effect::Report, Effect::Probe(3, Millis::secs(10))]);
    assert_eq!(life.observed().health, Health::Healthy);
    life
}

fn clear(op: u64, attempt: u32, gently: bool, last: bool) -> Effect {
    Effect::Clear { op, attempt: Attempt(attempt), gently, last }
}

fn ended(code: i32) -> Ended {
    Ended { code, at: at(10) }
}

fn permanent(message: &str) -> Failure {
    Failure { message: message.into(), temporary: false, wait: None, code: None }
}

#[test]
fn a_crash_is_followed_by_backoff_and_the_next_attempt() {
    let mut life = healthy();
    let effects = life.step(Input::Exited(Attempt(1), ended(3)), at(10));
    assert_eq!(effects, [Effect::Report, clear(4, 1, false, false)]);
    assert_eq!(life.observed().health, Health::None, "no traffic to what has ended");
    let effects = life.step(Input::Cleared(4, None, "table is missing\n".into()), at(11));
    assert_eq!(effects, [Effect::Report, Effect::Wake(5, Millis::secs(1))]);
    let seen = life.observed().clone();
    assert_eq!((seen.phase, seen.restarts), (Phase::Backoff, 0));
    assert_eq!(seen.message.as_deref(), Some("exited 3, next try in 1s"));
    assert_eq!(seen.retry_at, Some(at(1_011)));
    let exit =
        Exit { code: Some(3), reason: ExitReason::Error, message: Some("table is missing".into()) };
    assert_eq!(seen.exit, Some(exit));
    let effects = life.step(Input::Woken(5), at(1_011));
    assert_eq!(effects, [Effect::Report, Effect::Pull(6)]);
    assert_eq!((life.attempt(), life.observed().restarts), (Attempt(2), 1));
    assert_eq!(life.observed().retry_at, None);
}

#[test]
fn the_backoff_grows_and_starts_over_after_a_long_run() {
    let mut life = running();
    let mut pauses = Vec::new();
    let mut now = at(2);
    for (attempt, ran) in [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (6, 500_000)] {
        now = now.plus(Millis(ran));
        let effects = life.step(Input::Exited(Attempt(attempt), ended(1)), now);
        let Effect::Clear { op, .. } = effects[1] else { panic!("{effects:?}") };
        let effects = life.step(Input::Cleared(op, None, String::new()), now);
        let Effect::Wake(op, pause) = effects[1] else { panic!("{effects:?}") };
        pauses.push(pause.0 / 1000);
        let _ = life.step(Input::Woken(op), now);
        let _ = life.step(Input::Pulled(op + 1, Ok(())), now);
        let _ = life.step(Input::Started(op + 2, Ok(())), now);
        assert!(life.is_running());
    }
    assert_eq!(pauses, [1, 5, 30, 60, 60, 1]);
}

#[test]
fn out_of_memory_is_told_from_other_kills() {
    for (code, event, reason) in [
        (137, true, ExitReason::Oom),
        (137, false, ExitReason::Error),
        (1, true, ExitReason::Error),
        (0, false, ExitReason::Completed),
    ] {
        let mut life = healthy();
        if event {
            // Told at once: perhaps the program lives on.
            assert_eq!(life.step(Input::OutOfMemory(Attempt(1), Some(1)), at(9)), [Effect::Report]);
            assert_eq!(life.observed().ooms, 1);
        }
        let _ = life.step(Input::Exited(Attempt(1), ended(code)), at(10));
        let _ = life.step(Input::Cleared(4, None, String::new()), at(11));
        assert_eq!(life.observed().exit.as_ref().unwrap().reason, reason);
        assert_eq!(life.observed().ooms, u32::from(event), "counted once");
    }
}

#[test]
fn kills_for_want_of_memory_count_by_the_kernels_count() {
    let mut life = healthy();
    let told = [(None, 1), (None, 1), (Some(0), 1), (Some(1), 1), (Some(1), 1), (Some(3), 3)];
    for (kills, counted) in told {
        let before = life.observed().ooms;
        let effects = life.step(Input::OutOfMemory(Attempt(1), kills), at(9));
        assert_eq!(life.observed().ooms, counted, "{kills:?}");
        assert_eq!(effects, if counted > before { vec![Effect::Report] } else { vec![] });
    }
    let _ = life.step(Input::Exited(Attempt(1), ended(137)), at(10));
    let _ = life.step(Input::Cleared(4, None, String::new()), at(11));
    assert_eq!(life.observed().ooms, 3, "its own end was among them");
}

#[test]
fn three_failed_probes_restart_it() {
    let mut life = healthy();
    for second in [10, 20] {
        let failed = Input::Probed(3, Err("GET / → 500".into()));
        let effects = life.step(failed, at(second * 1000));
        assert!(effects.contains(&Effect::Probe(3, Millis::secs(10))), "{effects:?}");
        assert_eq!(life.observed().health, Health::Healthy);
    }
    let effects = life.step(Input::Probed(3, Err("GET / → 500".into())), at(30_000));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, false)]);
    assert_eq!(life.observed().health, Health::Unhealthy);
    assert_eq!(life.observed().message.as_deref(), Some("GET / → 500 (3×)"));
    let _ = life.step(Input::Cleared(4, Some(ended(143)), String::new()), at(31_000));
    let exit = life.observed().exit.clone().unwrap();
    assert_eq!((exit.code, exit.reason), (Some(143), ExitReason::Killed));
    assert_eq!(exit.message.as_deref(), Some("GET / → 500 (3×)"));
    assert_eq!(life.observed().phase, Phase::Backoff);
}

#[test]
fn a_success_in_between_starts_the_count_over() {
    let mut life = healthy();
    for result in [Err("x".to_owned()), Err("x".into()), Ok(()), Err("x".into()), Err("x".into())] {
        let _ = life.step(Input::Probed(3, result), at(50_000));
    }
    assert!(life.is_running());
}

#[test]
fn failures_in_the_grace_do_not_count_and_are_told_late() {
    let mut life = running();
    let failed = || Input::Probed(3, Err("10.99.8.5:3000 refused".into()));
    assert_eq!(life.step(failed(), at(3)), [Effect::Probe(3, Millis(10))]);
    assert_eq!(life.step(failed(), at(402)), [Effect::Probe(3, Millis(100))]);
    let effects = life.step(failed(), at(5_000));
    assert_eq!(effects, [Effect::Report, Effect::Probe(3, Millis(500))]);
    assert_eq!(life.step(failed(), at(6_000)), [Effect::Probe(3, Millis(500))], "told once");
    for second in [31, 41] {
        let effects = life.step(failed(), at(second * 1000));
        assert_eq!(effects, [Effect::Probe(3, Millis::secs(10))]);
    }
    let effects = life.step(failed(), at(51_000));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, false)]);
}

#[test]
fn without_a_probe_being_up_is_enough() {
    let mut terms = terms();
    terms.health.probe = HealthProbe::Uptime;
    let want = Want::Run(Attempt(1));
    let (mut life, _) = Life::begin(terms, want, &AllocationStatus::default(), None, START);
    let _ = life.step(Input::Pulled(1, Ok(())), START);
    let effects = life.step(Input::Started(2, Ok(())), START);
    assert_eq!(effects, [Effect::Report, Effect::Probe(3, Millis::secs(2))]);
    assert_eq!(life.step(Input::Probed(3, Ok(())), at(2_000)), [Effect::Report]);
    assert_eq!(life.observed().health, Health::Healthy);
}

#[test]
fn a_registry_that_is_down_is_tried_again_and_a_missing_image_ends_the_attempt() {
    let (mut life, _) = fresh();
    let down =
        || Failure { message: "r doesn't answer".into(), temporary: true, wait: None, code: None };
    let effects = life.step(Input::Pulled(1, Err(down())), at(1));
    assert_eq!(effects, [Effect::Report, Effect::Wake(2, Millis::secs(1))]);
    assert_eq!(life.observed().phase, Phase::Pulling);
    assert_eq!(life.observed().message.as_deref(), Some("r doesn't answer"));
    assert_eq!(life.step(Input::Woken(2), at(1_001)), [Effect::Pull(3)]);
    let effects = life.step(Input::Pulled(3, Err(down())), at(2));
    assert_eq!(effects, [Effect::Wake(4, Millis::secs(5))], "the same is told once");
    let _ = life.step(Input::Woken(4), at(1_001));
    let effects = life.step(Input::Pulled(5, Err(permanent("not found (404)"))), at(3));
    assert_eq!(effects, [Effect::Report, Effect::Wake(6, Millis::secs(1))]);
    let exit = life.observed().exit.clone().unwrap();
    assert_eq!(exit.reason, ExitReason::PullFailed);
    assert_eq!(exit.message.as_deref(), Some("not found (404)"));
    assert_eq!(life.observed().phase, Phase::Backoff);
}

#[test]
fn a_program_that_can_not_start_ends_the_attempt() {
    let (mut life, _) = fresh();
    let _ = life.step(Input::Pulled(1, Ok(())), at(1));
    let _ = life.step(Input::Started(2, Err(permanent("no such program"))), at(2));
    let exit = life.observed().exit.clone().unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::StartFailed, None));
    assert_eq!(life.observed().phase, Phase::Backoff);
}

#[test]
fn an_end_before_the_start_was_told_is_not_lost() {
    let (mut life, _) = fresh();
    let _ = life.step(Input::Pulled(1, Ok(())), at(1));
    assert_eq!(life.step(Input::Exited(Attempt(1), ended(0)), at(2)), []);
    let effects = life.step(Input::Started(2, Ok(())), at(3));
    assert_eq!(effects, [Effect::Report, Effect::Report, clear(4, 1, false, false)]);
}

#[test]
fn it_is_stopped_from_every_stage() {
    let mut life = healthy();
    let effects = life.step(Input::Want(Want::Stop), at(5));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, true)]);
    assert_eq!(life.observed().phase, Phase::Stopping);
    let effects = life.step(Input::NotCleared(4, "containerd is away".into()), at(6));
    assert_eq!(effects, [Effect::Report, Effect::Wake(5, Millis::secs(1))]);
    let effects = life.step(Input::Woken(5), at(7));
    assert_eq!(effects, [Effect::Report, clear(6, 1, false, true)]);
    let effects = life.step(Input::Cleared(6, Some(ended(143)), String::new()), at(8));
    assert_eq!(effects, [Effect::Report, Effect::Finish]);
    assert_eq!(life.observed().phase, Phase::Stopped);
    assert_eq!(life.observed().exit.as_ref().unwrap().reason, ExitReason::Killed);

    let (mut life, _) = fresh();
    let effects = life.step(Input::Want(Want::Stop), at(5));
    assert_eq!(effects, [Effect::Report, clear(2, 1, false, true)], "while it is pulled");
    assert_eq!(life.step(Input::Pulled(1, Ok(())), at(6)), [], "the pull is over with");

    let (mut life, _) = fresh();
    let _ = life.step(Input::Pulled(1, Ok(())), at(1));
    assert_eq!(life.step(Input::Want(Want::Stop), at(5)), [], "the start is waited for");
    let effects = life.step(Input::Started(2, Ok(())), at(6));
    assert_eq!(effects.last(), Some(&clear(4, 1, true, true)));
}

#[test]
fn a_restart_is_the_next_attempt_at_once() {
    let mut life = healthy();
    let effects = life.step(Input::Want(Want::Run(Attempt(2))), at(5));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, false)]);
    let effects = life.step(Input::Cleared(4, Some(ended(0)), String::new()), at(6));
    assert_eq!(effects, [Effect::Report, Effect::Pull(5)]);
    assert_eq!(life.attempt(), Attempt(2));
    assert_eq!(life.step(Input::Want(Want::Run(Attempt(2))), at(7)), []);
}

fn reported(phase: Phase, health: Health) -> AllocationStatus {
    let started_at = Some(at(0));
    AllocationStatus {
        attempt: Attempt(2),
        phase,
        health,
        started_at,
        restarts: 1,
        ..AllocationStatus::default()
    }
}

use Phase::{Running, Starting, Stopping};

fn run(attempt: u32) -> Want {
    Want::Run(Attempt(attempt))
}

fn some(task: FoundTask) -> Option<FoundTask> {
    Some(task)
}

fn probe() -> Effect {
    Effect::Probe(1, Millis(0))
}

#[yare::parameterized(
    kept = { Running, some(FoundTask::Running), run(1), probe() },
    unreported = { Starting, some(FoundTask::Running), run(1), probe() },
    crashed = { Running, some(FoundTask::Ended(ended(3))), run(1), clear(1, 2, false, false) },
    unstarted = { Starting, some(FoundTask::Unstarted), run(1), clear(1, 2, false, false) },
    stop = { Stopping, some(FoundTask::Running), Want::Stop, clear(2, 2, true, true) },
    stop_ended = {
        Running, some(FoundTask::Ended(ended(0))), Want::Stop, clear(1, 2, false, true)
    },
    stop_nothing = { Stopping, None, Want::Stop, clear(1, 2, false, true) },
    vanished = { Running, None, run(1), Effect::Wake(1, Millis::secs(5)) },
    not_made = { Starting, None, run(1), Effect::Pull(1) },
    restart = { Running, some(FoundTask::Running), run(3), clear(2, 2, true, false) },
    between = { Stopping, None, run(3), Effect::Pull(1) },
)]
fn what_is_there_is_adopted(phase: Phase, found: Option<FoundTask>, want: Want, last: Effect) {
    let found = found.map(|task| (Attempt(2), task));
    let before = reported(phase, Health::Healthy);
    let (life, effects) = Life::begin(terms(), want, &before, found, at(60_000));
    assert_eq!(effects.last(), Some(&last), "{effects:?}");
    if matches!(last, Effect::Probe(..)) {
        assert_eq!(life.observed().started_at, Some(at(0)));
        let healthy = phase == Phase::Running;
        assert_eq!(life.observed().health == Health::Healthy, healthy);
    }
}

#[test]
fn a_backoff_goes_on_for_the_time_that_is_left() {
    let mut before = reported(Phase::Backoff, Health::None);
    before.retry_at = Some(at(4_000));
    let (_, effects) = Life::begin(terms(), Want::Run(Attempt(1)), &before, None, at(1_000));
    assert_eq!(effects, [Effect::Wake(1, Millis(3_000))]);
}

/// What the shell has been asked for and has not answered.
fn answer(effect: &Effect, life: &Life, dice: u8) -> Option<Input> {
    let failure =
        || Failure { message: "no".into(), temporary: dice & 1 == 0, wait: None, code: None };
    let ok = dice % 4 < 3;
    Some(match effect {
        Effect::Pull(op) => Input::Pulled(*op, if ok { Ok(()) } else { Err(failure()) }),
        Effect::Start(op, _) => Input::Started(*op, if ok { Ok(()) } else { Err(failure()) }),
        Effect::Probe(op, _) if dice < 200 => {
            Input::Probed(*op, if ok { Ok(()) } else { Err("no".into()) })
        }
        Effect::Probe(..) => Input::Exited(life.attempt(), ended(i32::from(dice & 3))),
        Effect::Clear { op, .. } if ok => Input::Cleared(*op, None, String::new()),
        Effect::Clear { op, .. } => Input::NotCleared(*op, "away".into()),
        Effect::Wake(op, _) => Input::Woken(*op),
        Effect::Report | Effect::Finish => return None,
    })
}

proptest! {
    /// Whatever happens: attempt and phase only advance, something is always under way, and a stop
    /// comes to its end.
    #[test]
    fn lives_advance_and_end(dice in proptest::collection::vec(any::<u8>(), 1..200)) {
        let (mut life, mut pending) = fresh();
        let mut before = (Attempt(0), Phase::Pending);
        let mut now = START;
        let stops = dice.iter().chain(std::iter::repeat_n(&0, 40)).enumerate();
        for (n, dice_now) in stops {
            now = now.plus(Millis(u64::from(*dice_now) * 50));
            let wanted = match n {
                n if n == dice.len() => Some(Want::Stop),
                n if n % 13 == 12 && n < dice.len() => Some(run(life.attempt().0 + 1)),
                _ => None,
            };
            if let Some(want) = wanted {
                let effects = life.step(Input::Want(want), now);
                pending.extend(effects);
            }
            pending.retain(|effect| *effect != Effect::Report);
            if pending.contains(&Effect::Finish) {
                break;
            }
            prop_assert!(!pending.is_empty(), "nothing is under way: {life:?}");
            let effect = pending.remove(usize::from(*dice_now) % pending.len());
            if let Some(input) = answer(&effect, &life, *dice_now) {
                pending.extend(life.step(input, now));
            }
            let after = (life.observed().attempt, life.observed().phase);
            prop_assert!(before <= after, "{before:?} then {after:?}");
            before = after;
        }
        prop_assert!(pending.contains(&Effect::Finish), "{life:?} {pending:?}");
        prop_assert_eq!(life.observed().phase, Phase::Stopped);
    }
}
