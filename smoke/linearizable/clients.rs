//! Clients of the API that write down what they ask and what they are told.
//!
//! Owns which answers are certain. Never judges a history, and never breaks anything.

use super::record::{Asked, End, Record};
use super::{Once, Run};
use crate::support::Api;
use crate::support::api::Answer;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::time::Duration;

/// One client waits for every answer that mill gives, the next gives up before.
const PATIENCE: [Duration; 2] = [Duration::from_secs(12), Duration::from_millis(2500)];
/// How often a request with the same `Idempotency-Key` is sent before it is given up.
const ATTEMPTS: usize = 6;

/// What is certain after an answer to a change.
pub fn end_of(answer: &io::Result<Answer>) -> End {
    match answer {
        // Nobody was there to hear it.
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => End::Fail,
            _ => End::Info,
        },
        Ok(answer) if (200..300).contains(&answer.status) => End::Ok,
        Ok(answer) => {
            let is_whole = serde_json::from_str::<Value>(&answer.body).is_ok();
            let is_certain = answer.header("mill-unconfirmed").is_none();
            let is_refusal = answer.status < 500 || answer.status == 503;
            if is_whole && is_certain && is_refusal { End::Fail } else { End::Info }
        }
    }
}

/// A document that came whole, with its index and whether it is stale.
fn document(answer: &Answer) -> Option<(Value, u64, bool)> {
    let document = serde_json::from_str(&answer.body).ok()?;
    let index = answer.header("mill-index")?.parse().ok()?;
    Some((document, index, answer.header("mill-stale").is_some()))
}

/// One client.
pub struct Client<'a> {
    run: &'a Run,
    number: usize,
    dice: StdRng,
}

impl<'a> Client<'a> {
    /// Number so and so.
    pub fn new(run: &'a Run, number: usize) -> Self {
        let dice = StdRng::seed_from_u64(run.seed.wrapping_mul(1_000).wrapping_add(number as u64));
        Self { run, number, dice }
    }

    fn record(&self) -> &'a Record {
        &self.run.record
    }

    fn below(&mut self, n: usize) -> usize {
        self.dice.random_range(0..n)
    }

    /// Waits a moment; whether to go on after it.
    fn pause(&mut self, least: u64, more: u64) -> bool {
        let time = Duration::from_millis(least + self.dice.random_range(0..more));
        self.run.goes_on_after(time)
    }

    fn any_node(&mut self) -> usize {
        1 + self.below(self.run.apis.len())
    }

    fn api(&self, node: usize) -> Api {
        let patience = PATIENCE[self.number % PATIENCE.len()];
        self.run.apis[node - 1].clone().within(patience)
    }

    fn ask(&self, node: usize) -> Asked {
        Asked { client: self.number, node, began: self.record().now() }
    }

    /// Writes and reads labels, at one node or at all of them in turn.
    pub fn use_labels(mut self, home: Option<usize>) {
        while self.pause(5, 40) {
            let node = home.unwrap_or_else(|| self.any_node());
            let of = self.any_node();
            if self.below(2) == 0 {
                let _ = self.read_labels(node, of);
            } else {
                self.write(node, of);
            }
        }
    }

    /// Reads all registers of a node's labels.
    pub fn read_labels(&self, node: usize, of: usize) -> bool {
        let asked = self.ask(node);
        let answer = self.api(node).request("GET", &format!("/v1/nodes/n{of}")).try_send();
        let answer = answer.ok().filter(|answer| answer.status != 503);
        let Some((document, index, stale)) = answer.as_ref().and_then(document) else {
            self.record().count("read", End::Fail);
            return false;
        };
        let labels = &document["labels"];
        if !labels.is_object() && !stale {
            self.record().is_wrong(format!("n{node} has no labels of n{of}: {answer:?}"));
            return false;
        }
        for label in &self.run.labels {
            let value = labels[label].as_str().map(|text| text.parse().expect("a number"));
            self.record().read(&format!("n{of} {label}"), asked, value, stale, Some(index));
        }
        self.record().count(if stale { "stale read" } else { "read" }, End::Ok);
        !stale
    }

    /// Writes one, or sometimes takes it away.
    fn write(&mut self, node: usize, of: usize) {
        let label = self.below(self.run.labels.len());
        let value = (self.below(16) > 0).then(|| self.run.fresh());
        self.write_value(node, of, label, value);
    }

    /// Writes this to a register.
    pub fn write_value(&self, node: usize, of: usize, label: usize, value: Option<u64>) -> End {
        let label = &self.run.labels[label];
        let labels = json!({ "labels": { label: value.map(|value| value.to_string()) } });
        let asked = self.ask(node);
        let request = self.api(node);
        let answer = request.request("PATCH", &format!("/v1/nodes/n{of}")).json(&labels).try_send();
        let end = end_of(&answer);
        let index = answer.ok().and_then(|answer| answer.header("mill-index")?.parse().ok());
        self.record().wrote(&format!("n{of} {label}"), asked, value, end, index);
        self.record().count("write", end);
        end
    }

    /// Makes, lists and revokes tokens.
    pub fn use_tokens(mut self) {
        while self.pause(200, 500) {
            match self.below(10) {
                0..4 => self.make(&self.run.tokens, "create token", |api| {
                    api.request("POST", "/v1/tokens").json(&json!({ "role": "read" }))
                }),
                4..6 => self.revoke(),
                _ => {
                    let node = self.any_node();
                    let _ = self.list_tokens(node);
                }
            }
        }
    }

    /// Lists the tokens, if a leader confirms it.
    pub fn list_tokens(&self, node: usize) -> bool {
        let asked = self.ask(node);
        let answer = self.api(node).request("GET", "/v1/tokens").try_send();
        let answer = answer.ok().filter(|answer| answer.status == 200);
        let Some((document, _, stale)) = answer.as_ref().and_then(document) else {
            self.record().count("list tokens", End::Fail);
            return false;
        };
        self.record().count(if stale { "stale read" } else { "list tokens" }, End::Ok);
        if !stale {
            self.record().listed(asked, super::ids(&document));
        }
        !stale
    }

    fn revoke(&mut self) {
        let Some(id) = self.run.tokens.lock().unwrap().to_end.pop() else { return };
        for _ in 0..ATTEMPTS {
            let node = self.any_node();
            let asked = self.ask(node);
            let path = format!("/v1/tokens/{id}");
            let answer = self.api(node).request("DELETE", &path).try_send();
            let end = end_of(&answer);
            self.record().wrote(&format!("token {id}"), asked, None, end, None);
            self.record().count("revoke token", end);
            let is_over = answer.is_ok_and(|answer| {
                [204, 404].contains(&answer.status) && answer.header("mill-stale").is_none()
            });
            if is_over || !self.pause(50, 100) {
                return;
            }
        }
    }

    /// Spawns runs and looks for those that there are.
    pub fn use_runs(mut self) {
        while self.pause(200, 500) {
            if self.below(2) == 0 {
                self.make(&self.run.runs, "spawn", |api| {
                    api.request("POST", "/v1/tasks").json(&json!({ "task": "hold" }))
                });
                continue;
            }
            let known = self.run.runs.lock().unwrap().to_end.clone();
            if !known.is_empty() {
                let (node, id) = (self.any_node(), self.below(known.len()));
                self.look_for(node, &known[id]);
            }
        }
    }

    /// Asks whether a run is there.
    fn look_for(&self, node: usize, id: &str) {
        let asked = self.ask(node);
        let answer = self.api(node).request("GET", &format!("/v1/tasks/{id}")).try_send();
        let found = |answer: &Answer| [200, 404].contains(&answer.status);
        let answer = answer.ok().filter(found);
        let Some((document, _, stale)) = answer.as_ref().and_then(document) else {
            return self.record().count("read run", End::Fail);
        };
        let value = document["id"].is_string().then_some(1);
        // Where it was made nobody says: the same key again has an index of its own.
        self.record().read(&format!("run {id}"), asked, value, stale, None);
        self.record().count(if stale { "stale read" } else { "read run" }, End::Ok);
    }

    /// Makes something with an `Idempotency-Key`, here and there until one node says that it is
    /// done; then perhaps once more, which must not make another.
    fn make(
        &mut self,
        once: &std::sync::Mutex<Once>,
        what: &'static str,
        request: impl for<'r> Fn(&'r Api) -> crate::support::api::Request<'r>,
    ) {
        let key = format!("{}-{}", self.run.seed, self.run.fresh());
        let mut asked = None;
        let mut doubtful = false;
        for _ in 0..ATTEMPTS {
            let node = self.any_node();
            let first = *asked.get_or_insert(self.ask(node));
            let answer = request(&self.api(node)).header("Idempotency-Key", &key).try_send();
            let end = end_of(&answer);
            self.record().count(what, end);
            doubtful |= end == End::Info;
            let made = answer.as_ref().ok().and_then(|answer| made(answer, end));
            if let Some(id) = made {
                let register = format!("{} {id}", once.lock().unwrap().what);
                self.record().wrote(&register, first, Some(1), End::Ok, None);
                if !once.lock().unwrap().made(id.clone()) {
                    self.record().is_wrong(format!("{what} {key}: {id} was made before"));
                }
                return self.ask_once_more(once, what, &key, &id, request);
            }
            if answer.is_ok_and(|answer| answer.body.contains("with this Idempotency-Key, and")) {
                if !doubtful {
                    self.record().is_wrong(format!("{what} {key}: made by nobody before"));
                }
                once.lock().unwrap().unseen += 1;
                return;
            }
            if !self.pause(50, 100) {
                break;
            }
        }
        once.lock().unwrap().doubtful += usize::from(doubtful);
    }

    fn ask_once_more(
        &mut self,
        once: &std::sync::Mutex<Once>,
        what: &'static str,
        key: &str,
        id: &str,
        request: impl for<'r> Fn(&'r Api) -> crate::support::api::Request<'r>,
    ) {
        let node = self.any_node();
        let answer = request(&self.api(node)).header("Idempotency-Key", key).try_send();
        self.record().count("same key again", end_of(&answer));
        if let Some(again) = answer.ok().and_then(|answer| made(&answer, End::Ok))
            && (again != id || once.lock().unwrap().what == "token")
        {
            self.record().is_wrong(format!("{what} {key}: made {id}, and then {again}"));
        }
    }
}

/// The id of what was made, if it was.
fn made(answer: &Answer, end: End) -> Option<String> {
    let document: Value = serde_json::from_str(&answer.body).ok().filter(|_| end == End::Ok)?;
    document["id"].as_str().map(str::to_owned)
}
