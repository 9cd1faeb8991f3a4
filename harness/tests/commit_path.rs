//! Changes with the real log: what root answered is in the state, also after a restart.

use crate::real_root::RealRoot;
use std::collections::BTreeSet;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_the_state_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let real = Arc::new(RealRoot::start(dir.path(), 1).await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..32 {
        let real = Arc::clone(&real);
        tasks.spawn(async move {
            let mut answered = Vec::new();
            for nth in 0..5 {
                let id = format!("t{writer}-{nth}");
                let done = real.token(&id, 300).await.unwrap();
                answered.push((done.index, id));
            }
            answered
        });
    }
    let answered: BTreeSet<_> = tasks.join_all().await.into_iter().flatten().collect();
    let indexes: BTreeSet<_> = answered.iter().map(|(index, _)| *index).collect();
    assert_eq!((answered.len(), indexes.len()), (160, 160), "an index each");
    let before = real.until("all", |v| v.state.tokens.len() == 160).await;
    let mut real = Arc::into_inner(real).unwrap();
    assert_eq!(real.failed(), None);
    real.stop().await;
    let real = RealRoot::start(dir.path(), 2).await;
    let after = real.until("current", |v| v.current).await;
    assert_eq!(after.state.tokens, before.state.tokens);
    assert_eq!(after.state.cluster, before.state.cluster);
    assert!(after.index > before.index);
    real.stop().await;
}
