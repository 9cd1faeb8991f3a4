//! Commands and streams that go on while a test does something else.
//!
//! Owns their processes and threads. Never judges what they tell.

use super::api::{Event, Events};
use crate::poll::poll;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// A command whose lines are read as they come. It is killed when it is dropped.
pub struct Followed {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Followed {
    /// Starts it; lines of both outputs, in each one's order.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::default();
        read(child.stdout.take().unwrap(), &lines);
        read(child.stderr.take().unwrap(), &lines);
        Self { child, lines }
    }

    /// What it has told so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until a line has this text.
    #[track_caller]
    pub fn until(&self, text: &str) {
        let told = || {
            let lines = self.lines();
            if lines.iter().any(|line| line.contains(text)) { Ok(()) } else { Err(lines) }
        };
        poll(told).secs(60).expect(text);
    }

    /// Whether it goes on.
    pub fn goes_on(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        poll(|| child.try_wait().unwrap()).secs(60).expect("the command to end")
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// A stream of the API that is read as it comes, to its end.
#[derive(Clone)]
pub struct Heard(Arc<Mutex<(Vec<Event>, bool)>>);

impl Heard {
    /// Reads it from now on.
    #[must_use]
    pub fn start(events: Events) -> Self {
        let heard = Self(Arc::default());
        let copy = heard.clone();
        std::thread::spawn(move || {
            for event in events {
                copy.0.lock().unwrap().0.push(event);
            }
            copy.0.lock().unwrap().1 = true;
        });
        heard
    }

    /// What came so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().0.clone()
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.0.lock().unwrap().1
    }
}
