//! Lives of tasks, and ends that nobody saw.

use super::*;
use crate::id::Digest;

fn task_terms() -> Terms {
    Terms { restarts: false, timeout: Some(Millis::secs(60)), ..terms() }
}

/// A task whose program runs since 2 ms.
fn task() -> Life {
    let reported = AllocationStatus::default();
    let (mut life, effects) =
        Life::begin(task_terms(), Want::Run(Attempt(1)), &reported, None, START);
    assert_eq!(effects, [Effect::Report, Effect::Pull(1)]);
    let _ = life.step(Input::Pulled(1, Ok(())), at(1));
    let effects = life.step(Input::Started(2, Ok(())), at(2));
    assert_eq!(effects, [Effect::Report, Effect::Wake(3, Millis::secs(60))]);
    assert_eq!((life.observed().phase, life.observed().health), (Phase::Running, Health::None));
    life
}

fn over(mut life: Life, ended: Option<Ended>) -> AllocationStatus {
    let effects = life.step(Input::Cleared(4, ended, "bye\n".into()), at(20));
    assert_eq!(effects, [Effect::Report, Effect::Finish]);
    life.observed().clone()
}

#[test]
fn a_task_ends_once_with_its_code() {
    for (code, phase, reason) in
        [(0, Phase::Stopped, ExitReason::Completed), (3, Phase::Failed, ExitReason::Error)]
    {
        let mut life = task();
        let effects = life.step(Input::Exited(Attempt(1), ended(code)), at(10));
        assert_eq!(effects, [Effect::Report, clear(4, 1, false, true)], "all goes at once");
        let seen = over(life, None);
        let message = Some("bye".to_owned());
        assert_eq!((seen.phase, seen.restarts), (phase, 0));
        assert_eq!(seen.exit, Some(Exit { code: Some(code), reason, message }));
    }
}

#[test]
fn a_task_that_takes_too_long_is_asked_to_end_and_has_failed() {
    let mut life = task();
    let effects = life.step(Input::Woken(3), at(60_002));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, true)]);
    assert_eq!(life.observed().phase, Phase::Stopping);
    let stopping = life.observed().clone();
    // Whoever kills it now comes too late to change why.
    assert_eq!(life.step(Input::Want(Want::Stop), at(60_003)), []);
    let seen = over(life, Some(ended(143)));
    let exit = seen.exit.unwrap();
    assert_eq!(
        (seen.phase, exit.code, exit.reason),
        (Phase::Failed, Some(124), ExitReason::Timeout)
    );
    // The daemon was killed while the program was being stopped.
    let found = Some((Attempt(1), FoundTask::Ended(ended(143))));
    let want = Want::Run(Attempt(1));
    let (mut life, effects) = Life::begin(task_terms(), want, &stopping, found, at(70_000));
    assert_eq!(effects, [Effect::Report, clear(1, 1, false, true)]);
    let _ = life.step(Input::Cleared(1, None, String::new()), at(70_001));
    assert_eq!(life.observed().exit.as_ref().unwrap().reason, ExitReason::Timeout);
}

#[test]
fn a_killed_task_has_stopped() {
    let mut life = task();
    let effects = life.step(Input::Want(Want::Stop), at(10));
    assert_eq!(effects, [Effect::Report, clear(4, 1, true, true)]);
    let seen = over(life, Some(ended(143)));
    let exit = Exit { code: Some(143), reason: ExitReason::Killed, message: None };
    assert_eq!((seen.phase, seen.exit), (Phase::Stopped, Some(exit)));
}

#[test]
fn a_task_survives_the_daemon_and_its_deadline_too() {
    let running = task().observed().clone();
    let want = Want::Run(Attempt(1));
    let found = Some((Attempt(1), FoundTask::Running));
    let begin = |now| Life::begin(task_terms(), want, &running, found, now).1;
    assert_eq!(begin(at(40_002)), [Effect::Report, Effect::Wake(1, Millis::secs(20))]);
    assert_eq!(begin(at(90_000)), [Effect::Report, Effect::Wake(1, Millis(0))], "past it");
    let found = Some((Attempt(1), FoundTask::Ended(ended(7))));
    let (mut life, _) = Life::begin(task_terms(), want, &running, found, at(90_000));
    let _ = life.step(Input::Cleared(1, None, String::new()), at(90_001));
    assert_eq!(life.observed().exit.as_ref().unwrap().code, Some(7), "it ended by itself");
}

#[test]
fn a_service_that_lost_its_program_counts_an_attempt_and_no_exit_is_lost() {
    let want = Want::Run(Attempt(1));
    let found = Some((Attempt(1), FoundTask::Unstarted));
    let begin = |phase| {
        let reported =
            AllocationStatus { attempt: Attempt(1), phase, ..AllocationStatus::default() };
        Life::begin(terms(), want, &reported, found, at(5)).0
    };
    // After a reboot: it ran, and nobody knows how it ended.
    let mut life = begin(Phase::Running);
    let _ = life.step(Input::Cleared(1, None, String::new()), at(6));
    assert_eq!(life.observed().exit.as_ref().unwrap().reason, ExitReason::Lost);
    assert_eq!(life.observed().phase, Phase::Backoff);
    // Its start was on its way when the daemon was killed: never run, or ended since.
    let mut life = begin(Phase::Starting);
    let unstarted = Ended { code: 0, at: Timestamp(0) };
    let effects = life.step(Input::Cleared(1, Some(unstarted), String::new()), at(6));
    assert_eq!(effects, [Effect::Report, Effect::Pull(2)]);
    let mut life = begin(Phase::Starting);
    let _ = life.step(Input::Cleared(1, Some(ended(3)), String::new()), at(6));
    assert_eq!(life.observed().exit.as_ref().unwrap().code, Some(3));
}

#[test]
fn a_task_that_may_have_run_is_not_started_again() {
    let want = Want::Run(Attempt(1));
    for phase in [Phase::Starting, Phase::Running, Phase::Stopping] {
        let reported =
            AllocationStatus { attempt: Attempt(1), phase, ..AllocationStatus::default() };
        let found = Some((Attempt(1), FoundTask::Gone));
        let (mut life, effects) = Life::begin(task_terms(), want, &reported, found, at(5));
        assert_eq!(effects, [Effect::Report, clear(1, 1, false, true)], "{phase:?}");
        let effects = life.step(Input::Cleared(1, None, String::new()), at(6));
        assert_eq!(effects, [Effect::Report, Effect::Finish]);
        let seen = life.observed();
        assert_eq!(seen.exit.as_ref().unwrap().reason, ExitReason::Lost);
        assert_eq!((seen.phase, seen.attempt), (Phase::Failed, Attempt(1)));
    }
    let pulling = AllocationStatus {
        attempt: Attempt(1),
        phase: Phase::Pulling,
        ..AllocationStatus::default()
    };
    let (_, effects) = Life::begin(task_terms(), want, &pulling, None, at(5));
    assert_eq!(effects, [Effect::Report, Effect::Pull(1)]);
}

#[test]
fn a_registry_that_stays_down_fails_a_task_in_the_end() {
    let (mut life, _) =
        Life::begin(task_terms(), Want::Run(Attempt(1)), &AllocationStatus::default(), None, START);
    let down = || Failure {
        message: "the registry is down".into(),
        temporary: true,
        wait: None,
        code: None,
    };
    let effects = life.step(Input::Pulled(1, Err(down())), at(1));
    assert_eq!(effects, [Effect::Report, Effect::Wake(2, Millis::secs(1))]);
    assert_eq!(life.step(Input::Woken(2), at(299_000)), [Effect::Pull(3)]);
    let effects = life.step(Input::Pulled(3, Err(down())), at(300_000));
    assert_eq!(effects, [Effect::Report, clear(4, 1, false, true)]);
    let seen = over(life, None);
    assert_eq!((seen.phase, seen.exit.unwrap().reason), (Phase::Failed, ExitReason::PullFailed));
}

#[test]
fn a_pull_that_gets_further_is_not_given_up() {
    let (mut life, _) =
        Life::begin(task_terms(), Want::Run(Attempt(1)), &AllocationStatus::default(), None, START);
    let down = || Failure { message: "reset".into(), temporary: true, wait: None, code: None };
    let layers = |a: u64, b: u64| vec![(Digest::from("a"), a), (Digest::from("b"), b)];
    let advanced = |op, a, b| Input::Advanced(op, layers(a, b));
    assert_eq!(life.step(advanced(1, 10, 0), at(10_000)), [Effect::Report]);
    assert_eq!(life.step(advanced(1, 20, 0), at(20_000)), [], "told once a minute");
    assert_eq!(life.step(advanced(1, 30, 5), at(70_000)), [Effect::Report]);
    assert_eq!(life.observed().pulled, 35);
    assert_eq!(life.step(advanced(1, 30, 5), at(140_000)), [], "nothing new");
    assert_eq!(life.step(advanced(1, 40, 5), at(299_000)), [Effect::Report]);
    // Five minutes after its begin, but not after it got further.
    let effects = life.step(Input::Pulled(1, Err(down())), at(400_000));
    assert_eq!(effects, [Effect::Report, Effect::Wake(2, Millis::secs(1))]);
    assert_eq!(life.step(Input::Woken(2), at(401_000)), [Effect::Pull(3)]);
    // What is fetched once more counts for nothing.
    assert_eq!(life.step(advanced(3, 40, 5), at(500_000)), []);
    assert_eq!(life.step(advanced(1, 99, 5), at(500_000)), [], "of an earlier try");
    let effects = life.step(Input::Pulled(3, Err(down())), at(600_000));
    assert_eq!(effects, [Effect::Report, clear(4, 1, false, true)]);
}
