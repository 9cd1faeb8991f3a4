//! Linearizability: what clients see of three nodes on which things break, by seed.
//!
//! Owns the rounds: clients work while the nemesis strikes, then all is whole, read once more, and
//! judged. `JEPSEN_MINUTES` makes it longer, `JEPSEN_SEED` chooses what breaks.

mod clients;
mod nemesis;
mod record;

use crate::poll::poll;
use crate::support::{Api, TestCluster};
use clients::Client;
use nemesis::{Nemesis, revive};
use record::{Counts, End, Record};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long clients work on the same registers.
const ROUND: Duration = Duration::from_secs(30);
/// Clients of labels that stay at one node, each; two more go everywhere.
const AT_EACH: usize = 2;
/// Registers in the labels of each node.
const LABELS: usize = 3;

/// What has been made with an `Idempotency-Key`.
#[derive(Default)]
struct Once {
    /// What it is.
    what: &'static str,
    /// What was there before.
    before: BTreeSet<String>,
    /// What was told to be made.
    made: BTreeSet<String>,
    /// How much was made, but nobody was told its id.
    unseen: usize,
    /// How much may have been made.
    doubtful: usize,
    /// What nobody has ended yet.
    to_end: Vec<String>,
}

impl Once {
    /// Takes note; whether it is new.
    fn made(&mut self, id: String) -> bool {
        self.to_end.push(id.clone());
        self.made.insert(id)
    }

    /// What is there beyond what anybody was told, against how much may be.
    fn check(&self, there: &BTreeSet<String>) -> Option<String> {
        let known = |id: &&String| self.made.contains(*id) || self.before.contains(*id);
        let others: Vec<&String> = there.iter().filter(|id| !known(id)).collect();
        let most = self.unseen + self.doubtful;
        let Self { what, unseen, doubtful, .. } = self;
        let is_right = others.len() <= most && (*what != "token" || others.len() >= *unseen);
        let should = format!("{unseen} to {most} of them ({doubtful} doubtful)");
        (!is_right).then(|| format!("{what}: nobody asked for {others:?}: should be {should}"))
    }
}

/// What a round's clients share.
struct Run {
    record: Record,
    apis: Vec<Api>,
    labels: Vec<String>,
    seed: u64,
    values: AtomicU64,
    tokens: Mutex<Once>,
    runs: Mutex<Once>,
    over: Mutex<bool>,
    ended: Condvar,
}

impl Run {
    /// A number that was never given before.
    fn fresh(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits so long, or until the round is over; whether it goes on.
    fn goes_on_after(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap();
        !*self.ended.wait_timeout_while(over, time, |over| !*over).unwrap().0
    }
}

/// Ends the round, also when it panics.
struct Until<'a>(&'a Run);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap() = true;
        self.0.ended.notify_all();
    }
}

/// The ids in a list.
fn ids(list: &Value) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
}

/// What a list shows once a leader confirms it, at any node.
fn listed(run: &Run, path: &str) -> BTreeSet<String> {
    let fresh = || {
        run.apis.iter().find_map(|api| {
            let answer = api.request("GET", path).try_send().ok()?;
            let is_fresh = answer.status == 200 && answer.header("mill-stale").is_none();
            is_fresh.then(|| ids(&answer.json()))
        })
    };
    poll(fresh).secs(30).expect("a confirmed list")
}

/// All of it: the cluster, what outlives a round, and what is told at the end.
struct Jepsen {
    cluster: TestCluster,
    nemesis: Nemesis,
    seed: u64,
    rounds: u64,
    values: u64,
    tokens: Once,
    runs: Once,
    counts: Counts,
}

impl Jepsen {
    fn start(seed: u64) -> Self {
        let cluster = TestCluster::start_on_disks(3);
        cluster.await_voters(3);
        let memory = cluster.node(1).api().get("/v1/nodes/n1")["memory"]["total"].clone();
        // No node takes two: most runs wait, and no container is started for them.
        let memory = memory.as_u64().expect("bytes") / 1_000_000 * 3 / 4;
        let image = cluster.image("busybox:v1");
        let file = format!(
            "app \"jepsen\"\n\ntask \"hold\" {{\n    image \"{image}\"\n    \
             command \"sleep\" \"100000\"\n    memory \"{memory}M\"\n    stop grace=\"1s\"\n}}\n"
        );
        let _ = cluster.node(1).up(&file).ok();
        let once = |what, path: &str| {
            let before = ids(&cluster.node(1).api().get(path));
            Once { what, before, ..Once::default() }
        };
        let (tokens, runs) = (once("token", "/v1/tokens"), once("run", "/v1/tasks"));
        let (nemesis, counts) = (Nemesis::new(seed), Counts::new());
        Self { cluster, nemesis, seed, rounds: 0, values: 2, tokens, runs, counts }
    }

    fn run(&mut self) -> Run {
        self.rounds += 1;
        let rounds = self.rounds;
        Run {
            record: Record::default(),
            apis: (1..=self.cluster.len()).map(|n| self.cluster.node(n).api()).collect(),
            labels: (1..=LABELS).map(|n| format!("round{rounds}-{n}")).collect(),
            seed: self.seed.wrapping_add(rounds),
            values: AtomicU64::new(self.values),
            tokens: Mutex::new(std::mem::take(&mut self.tokens)),
            runs: Mutex::new(std::mem::take(&mut self.runs)),
            over: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    /// Clients work and things break, until then.
    fn round(&mut self, end: Instant) -> Run {
        let run = self.run();
        std::thread::scope(|scope| {
            let until = Until(&run);
            let nodes = run.apis.len();
            let homes = (0..nodes * AT_EACH).map(|n| Some(1 + n % nodes)).chain([None, None]);
            for (number, home) in homes.enumerate() {
                let client = Client::new(&run, number);
                scope.spawn(move || client.use_labels(home));
            }
            for number in [20, 21] {
                let (of_tokens, of_runs) =
                    (Client::new(&run, number), Client::new(&run, number + 10));
                scope.spawn(move || of_tokens.use_tokens());
                scope.spawn(move || of_runs.use_runs());
            }
            while Instant::now() < end {
                self.nemesis.strike(&mut self.cluster, &run, end);
            }
            drop(until);
        });
        run
    }

    /// Everything is read once more, at every node.
    fn read_all(&mut self, run: &Run) {
        revive(&mut self.cluster);
        let reader = Client::new(run, 40);
        for node in 1..=self.cluster.len() {
            for of in 1..=self.cluster.len() {
                poll(|| reader.read_labels(node, of)).secs(30).expect("a confirmed reading");
            }
            poll(|| reader.list_tokens(node)).secs(30).expect("a confirmed list");
        }
        let (tokens, runs) = (run.tokens.lock().unwrap(), run.runs.lock().unwrap());
        let there = listed(run, "/v1/tasks");
        let lost: Vec<&String> = runs.to_end.iter().filter(|id| !there.contains(*id)).collect();
        if !lost.is_empty() {
            run.record.is_wrong(format!("runs were lost: {lost:?}"));
        }
        let others = [tokens.check(&listed(run, "/v1/tokens")), runs.check(&there)];
        others.into_iter().flatten().for_each(|what| run.record.is_wrong(what));
    }

    /// What is wrong is written down and told.
    fn judge(&mut self, run: &Run) {
        let wrong = run.record.verdict();
        for (what, count) in run.record.counts() {
            *self.counts.entry(what).or_default() += count;
        }
        if wrong.is_empty() {
            return;
        }
        let path = format!("{}/jepsen-{}.txt", env!("CARGO_TARGET_TMPDIR"), self.seed);
        let text = format!("{}\n\n{}", self.nemesis.schedule.join("\n"), wrong.join("\n\n"));
        std::fs::write(&path, text).unwrap();
        let heads: Vec<String> =
            wrong.iter().map(|one| one.lines().take(4).collect::<Vec<_>>().join("\n")).collect();
        panic!("seed {}: {} wrong, all of it in {path}:\n{heads:#?}", self.seed, heads.len());
    }

    /// Takes away what the round made.
    fn clean(&mut self, run: Run) {
        let node = self.cluster.leader();
        let api = self.cluster.node(node).api();
        let labels: Value = run.labels.iter().map(|label| (label.clone(), Value::Null)).collect();
        for of in 1..=self.cluster.len() {
            let path = format!("/v1/nodes/n{of}");
            let body = json!({ "labels": labels });
            let patch = || api.request("PATCH", &path).json(&body).try_send();
            poll(|| patch().is_ok_and(|a| a.status == 200)).secs(30).expect("labels taken away");
        }
        self.values = run.fresh();
        self.tokens = run.tokens.into_inner().unwrap();
        for id in self.tokens.to_end.drain(..) {
            let revoke = || api.request("DELETE", &format!("/v1/tokens/{id}")).try_send();
            let is_over = |status: u16| [204, 404].contains(&status);
            poll(|| revoke().is_ok_and(|a| is_over(a.status))).secs(30).expect("a token revoked");
        }
        self.runs = run.runs.into_inner().unwrap();
        self.runs.to_end.clear();
        for one in api.get("/v1/tasks").as_array().into_iter().flatten() {
            if one["ended_at"].is_null() && one["node"].is_null() {
                let id = one["id"].as_str().expect("an id");
                let _ = api.request("DELETE", &format!("/v1/tasks/{id}")).try_send();
            }
        }
    }

    /// A node that is cut off answers what was, and says so. Were that taken for what is, the
    /// history would be refused: the whole arrangement can find what it looks for.
    fn show_that_it_can_find_something(&mut self) {
        let run = self.run();
        let client = Client::new(&run, 0);
        let (leader, cut) = (self.cluster.leader(), self.cluster.follower());
        let write = |value| assert_eq!(client.write_value(leader, 1, 0, Some(value)), End::Ok);
        write(run.fresh());
        poll(|| client.read_labels(cut, 1)).secs(20).expect("a confirmed reading");
        self.cluster.hub().part(&[cut]);
        write(run.fresh());
        poll(|| !client.read_labels(cut, 1)).secs(20).expect("a stale reading");
        self.cluster.hub().heal(cut);
        assert!(run.record.stale() > 0);
        let register = format!("n1 {}", run.labels[0]);
        assert!(run.record.would_be_refused_with_stale_readings(&register));
        self.clean(run);
    }

    fn tell(&self, began: Instant) {
        println!("seed {}, {} rounds, {:?}", self.seed, self.rounds - 1, began.elapsed());
        for ((what, end), count) in &self.counts {
            println!("  {what}: {count} {end:?}");
        }
        println!("  faults: {:?}", self.nemesis.struck);
        println!("  violations: 0");
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

#[test]
fn histories_under_faults_are_linearizable() {
    let minutes = number_of("JEPSEN_MINUTES");
    let drawn = minutes.map_or(1, |_| u64::from(rand::random::<u32>()));
    let seed = number_of("JEPSEN_SEED").unwrap_or(drawn);
    println!("seed {seed}: again with JEPSEN_SEED={seed}");
    let mut jepsen = Jepsen::start(seed);
    jepsen.show_that_it_can_find_something();
    let began = Instant::now();
    let length = minutes.map_or(ROUND, |minutes| Duration::from_secs(minutes * 60));
    while began.elapsed() < length {
        let end = (Instant::now() + ROUND).min(began + length);
        let run = jepsen.round(end);
        jepsen.read_all(&run);
        jepsen.judge(&run);
        jepsen.clean(run);
    }
    jepsen.tell(began);
    let of = |what| jepsen.counts.get(&(what, End::Ok)).copied().unwrap_or_default();
    assert!(of("write") > 20 && of("read") > 20, "too little to judge: {:?}", jepsen.counts);
}

#[test]
fn what_is_made_beyond_what_was_asked_for_is_noticed() {
    let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    let once = Once {
        what: "token",
        before: set(&["a"]),
        made: set(&["b"]),
        unseen: 1,
        doubtful: 1,
        ..Once::default()
    };
    for (there, is_right) in [
        (set(&["a", "b"]), false),
        (set(&["a", "b", "c"]), true),
        (set(&["c", "d"]), true),
        (set(&["b", "c", "d", "e"]), false),
    ] {
        assert_eq!(once.check(&there).is_none(), is_right, "{there:?}");
    }
}
