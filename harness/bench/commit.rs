//! How long a change takes to be durable and committed: the raft actor alone, one voter.
//!
//! Never goes through root: the lap's other steps are no disk.

use super::disk;
use super::report::{Row, median, ms};
use mill::actors::raft::{Args, Event, Msg, Raft};
use mill::id::NodeId;
use mill::raft::Entry;
use ractor::{Actor, ActorRef};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const WRITERS: usize = 64;
const SINGLE: usize = 2000;
const MANY: usize = 20_000;

/// Who waits for which index, and what came before anybody waited.
#[derive(Default)]
struct Waiting {
    waiting: HashMap<u64, oneshot::Sender<()>>,
    committed: u64,
    leads: bool,
}

/// The figures of the log.
pub fn figures() -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let (growing, reserved) = disk::append(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (single, one_rate, many_rate) = runtime.block_on(measure(folder.path().join("raft")));
    let met = single.as_secs_f64() <= 2.5 * reserved.as_secs_f64();
    let factor = many_rate / one_rate;
    vec![
        Row {
            figure: "commit, one writer, median",
            mill: ms(single),
            peer: format!("raw append {} (growing file {})", ms(reserved), ms(growing)),
            aim: "at most 2.5 ×",
            met: Some(met),
        },
        Row {
            figure: "commits a second, 64 writers",
            mill: format!("{many_rate:.0}/s"),
            peer: format!("one writer {one_rate:.0}/s: {factor:.1} ×"),
            aim: "at least 10 ×",
            met: Some(factor >= 10.0),
        },
    ]
}

async fn measure(dir: std::path::PathBuf) -> (Duration, f64, f64) {
    let waiting = Arc::new(Mutex::new(Waiting::default()));
    let actor: Arc<Mutex<Option<ActorRef<Msg>>>> = Arc::default();
    let sink = {
        let (waiting, actor) = (Arc::clone(&waiting), Arc::clone(&actor));
        Box::new(move |event| on_event(event, &waiting, &actor))
    };
    let args = Args { node: NodeId(1), dir, bootstrap: true, sink };
    let (raft, joined) = Actor::spawn(None, Raft, args).await.unwrap();
    *actor.lock().unwrap() = Some(raft.clone());
    crate::poll::poll_async(|| async { waiting.lock().unwrap().leads })
        .secs(20)
        .expect_async("leadership")
        .await;
    let start = Instant::now();
    let mut times = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let one = Instant::now();
        commit(&raft, &waiting).await;
        times.push(one.elapsed());
    }
    let one_rate = SINGLE as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (raft, waiting) = (raft.clone(), Arc::clone(&waiting));
            tokio::spawn(async move {
                for _ in 0..MANY / WRITERS {
                    commit(&raft, &waiting).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let many_rate = (MANY / WRITERS * WRITERS) as f64 / start.elapsed().as_secs_f64();
    raft.cast(Msg::Stop).unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(10), joined).await;
    (median(&mut times), one_rate, many_rate)
}

fn on_event(event: Event, waiting: &Mutex<Waiting>, actor: &Mutex<Option<ActorRef<Msg>>>) {
    match event {
        Event::Committed(entries) => {
            let Some(last) = entries.last().map(|entry| entry.index) else { return };
            let mut waiting = waiting.lock().unwrap();
            waiting.committed = last.0;
            for entry in entries {
                if let Some(done) = waiting.waiting.remove(&entry.index.0) {
                    let _ = done.send(());
                }
            }
            if let Some(actor) = actor.lock().unwrap().as_ref() {
                let _ = actor.cast(Msg::Applied(last));
            }
        }
        Event::Leader { is_leader, .. } => waiting.lock().unwrap().leads = is_leader,
        Event::Fatal(error) => panic!("{error}"),
        _ => {}
    }
}

async fn commit(raft: &ActorRef<Msg>, waiting: &Mutex<Waiting>) {
    let entry = Entry { command: vec![7; disk::RECORD], ..Entry::default() };
    let appended =
        ractor::call!(raft, |reply| Msg::Propose { entry, reply }).unwrap().expect("a leader");
    let done = {
        let mut waiting = waiting.lock().unwrap();
        if waiting.committed >= appended.index.0 {
            return;
        }
        let (done, wait) = oneshot::channel();
        waiting.waiting.insert(appended.index.0, done);
        wait
    };
    done.await.unwrap();
}
