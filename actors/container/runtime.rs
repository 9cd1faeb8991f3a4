//! Whether containerd answers: looked at now and then, since a hang tells of itself nowhere.
//!
//! Owns what the cluster is told of it. Never ends or starts containerd.

use super::{Msg, State};
use crate::actors::platform::containerd::Containerd;
use crate::actors::root;
use crate::fsm::Command;
use crate::fsm::command::{Notice, Sign};
use crate::limits;
use crate::units::Millis;
use ractor::ActorRef;
use std::time::Instant;

/// What is known of containerd.
#[derive(Clone, Copy, Debug, Default)]
pub enum Runtime {
    /// Nothing yet.
    #[default]
    Unknown,
    Answers,
    /// It has not answered since then.
    Silent(Instant),
}

/// Looks whether containerd answers, for ever, and tells when that changes.
pub(super) async fn watch(containerd: Containerd, listener: ActorRef<Msg>) {
    let mut told = None;
    loop {
        let begun = Instant::now();
        let mut is_there = ask(&containerd).await;
        while !is_there && begun.elapsed() < limits::RUNTIME_SILENT {
            tokio::time::sleep(limits::RUNTIME_AGAIN).await;
            is_there = ask(&containerd).await;
        }
        if told != Some(is_there) {
            told = Some(is_there);
            let runtime = if is_there { Runtime::Answers } else { Runtime::Silent(begun) };
            // The actor has ended, and this task with it.
            let _ = listener.cast(Msg::Runtime(runtime));
        }
        let pause = if is_there { limits::RUNTIME_LOOK } else { limits::RUNTIME_AGAIN };
        tokio::time::sleep(pause).await;
    }
}

async fn ask(containerd: &Containerd) -> bool {
    let answer = tokio::time::timeout(limits::RUNTIME_ANSWER, containerd.answers());
    answer.await.unwrap_or(false)
}

impl State {
    /// Containerd answers from now on, or has not for a while.
    pub(super) fn on_runtime(&mut self, runtime: Runtime) {
        match runtime {
            Runtime::Silent(_) => tracing::error!("containerd doesn't answer: nothing can be done"),
            Runtime::Answers if matches!(self.runtime, Runtime::Silent(_)) => {
                tracing::info!("containerd answers again");
            }
            Runtime::Answers | Runtime::Unknown => {}
        }
        self.runtime = runtime;
        self.notice_runtime();
    }

    /// Tells the cluster, where the state says otherwise.
    pub(super) fn notice_runtime(&self) {
        let Some(view) = self.view.as_ref().filter(|v| v.state.is_next() && v.is_let_in()) else {
            return;
        };
        let node = view.state.nodes.get(&view.node);
        let is_known = node.is_some_and(|node| node.condition.runtime_since.is_some());
        let lasts = match self.runtime {
            Runtime::Silent(since) if !is_known => Some(Millis::from(since.elapsed())),
            Runtime::Answers if is_known => None,
            _ => return,
        };
        let (node, boot, sign) = (view.node, view.boot, Sign::Runtime(lasts));
        let command = Command::Notice(Notice { node, boot, sign });
        // Looked at again before long: nothing waits for the answer.
        let (sender, _) = tokio::sync::oneshot::channel();
        let proposal = root::Proposal::new(&command, None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Propose(proposal));
    }
}
