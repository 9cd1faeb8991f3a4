//! The tests of `poll.rs`, apart from it because the end-to-end tests share it.

use crate::poll::*;
use std::cell::Cell;

#[test]
fn gives_the_value_once_it_is_there() {
    let looks = Cell::new(0);
    let value = poll(|| {
        looks.set(looks.get() + 1);
        (looks.get() == 3).then_some("here")
    })
    .secs(5)
    .expect("a third look");
    assert_eq!((value, looks.get()), ("here", 3));
}

#[test]
#[should_panic(expected = "waited 0ns for a miracle: last error: \"no\"")]
fn says_what_it_waited_for() {
    poll(|| Err::<(), _>("no")).secs(0).expect("a miracle");
}

#[tokio::test]
async fn waits_for_futures_too() {
    let looks = Cell::new(0);
    poll_async(|| {
        looks.set(looks.get() + 1);
        let ready = looks.get() > 2;
        async move { ready }
    })
    .secs(5)
    .expect_async("a third look")
    .await;
    assert_eq!(looks.get(), 3);
}
