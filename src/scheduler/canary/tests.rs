//! Tests of the comparison: a table of what was counted, and what it says.

use super::*;

fn requests(count: u64, errors: u64, slow: u64) -> Requests {
    let mut all = Requests::default();
    for n in 0..count {
        let code = if n < errors { 500 } else { 200 };
        let took = if n >= count - slow { 400 } else { 20 };
        all.add(code, Duration::from_millis(took), (0, 0));
    }
    all
}

fn spec(rate: Option<u32>, ratio: Option<u32>) -> CanarySpec {
    CanarySpec {
        count: 1,
        duration: crate::units::Millis::secs(60),
        max_error_rate: rate,
        max_latency_ratio: ratio,
        min_requests: 100,
    }
}

#[yare::parameterized(
    none_fails = { (1_000, 0, 0), (3_000, 0, 0), "good" },
    too_few = { (99, 99, 0), (3_000, 0, 0), "few" },
    half_a_percent_is_allowed = { (10_000, 50, 0), (30_000, 0, 0), "good" },
    two_percent_is_not = { (1_000, 20, 0), (3_000, 0, 0), "worse" },
    a_fifth_shows_soon = { (100, 20, 0), (300, 0, 0), "worse" },
    two_of_a_hundred_may_be_chance = { (100, 2, 0), (300, 0, 0), "good" },
    the_old_one_fails_as_often = { (1_000, 20, 0), (3_000, 60, 0), "good" },
    nobody_to_compare_with = { (1_000, 30, 0), (0, 0, 0), "worse" },
    slow = { (1_000, 0, 50), (3_000, 0, 0), "worse" },
    as_slow_as_before = { (1_000, 0, 50), (3_000, 0, 150), "good" },
    one_slow_request_is_none = { (100, 0, 2), (300, 0, 0), "good" },
)]
fn what_was_counted_says(new: (u64, u64, u64), old: (u64, u64, u64), said: &str) {
    let of = |(count, errors, slow)| requests(count, errors, slow);
    let sample = Sample { new: of(new), old: of(old), ..Sample::default() };
    let found = sample.compare(&spec(Some(1_000), Some(1_500)), Certainty::Usual);
    let name = match &found {
        Verdict::TooFew(_) => "few",
        Verdict::Good(_) => "good",
        Verdict::Worse(_) => "worse",
    };
    assert_eq!(name, said, "{found:?}");
}

#[test]
fn the_figures_are_told() {
    let (new, old) = (requests(1_000, 200, 0), requests(3_000, 3, 0));
    let sample = Sample { new: new.clone(), old, ..Sample::default() };
    let told = "20% of 1000 requests failed (at most 1%), 0.1% of 3000 on the old replicas";
    let found = sample.compare(&spec(Some(1_000), None), Certainty::Early);
    assert_eq!(found, Verdict::Worse(told.to_owned()));
    let alike = Sample { old: new.clone(), new, ..Sample::default() };
    let Verdict::Good(told) = alike.compare(&spec(None, None), Certainty::Usual) else {
        panic!("both fail alike");
    };
    assert!(told.starts_with("20% of 1000 requests failed, 20% of 1000 on"), "{told}");
}

#[test]
fn before_the_end_more_certainty_is_asked_for() {
    let (new, old) = (requests(500, 8, 0), requests(1_500, 4, 0));
    let sample = Sample { new, old, ..Sample::default() };
    let spec = spec(Some(1_000), None);
    assert!(matches!(sample.compare(&spec, Certainty::Early), Verdict::Good(_)));
    assert!(matches!(sample.compare(&spec, Certainty::Usual), Verdict::Worse(_)));
}
