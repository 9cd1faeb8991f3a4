//! The stream of what happens to containers' processes.
//!
//! Owns the subscription and its renewal after containerd was away. Never interprets an event.

use super::look::timestamp;
use super::status::is_away;
use super::{Containerd, Exit};
use crate::backoff::Backoff;
use crate::id::ContainerId;
use crate::limits;
use containerd_client::events::{TaskExit, TaskOom};
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// The topic of an event that only shows that a subscription is in force.
const HELLO: &str = "/mill/hello";

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// Its first process ended.
    Exited(ContainerId, Exit),
    /// A process in it was killed for want of memory; the container itself may live on.
    OutOfMemory(ContainerId),
    /// The subscription is new, or events were missed: look at every container.
    Subscribed,
}

/// The events of a namespace. Ends its subscription when dropped.
#[derive(Debug)]
pub struct TaskEvents {
    events: mpsc::Receiver<TaskEvent>,
    // Held so that dropping this ends the subscription.
    _reader: tokio::task::JoinSet<()>,
}

impl TaskEvents {
    /// The next event. Safe to cancel.
    pub async fn next(&mut self) -> Option<TaskEvent> {
        self.events.recv().await
    }
}

impl Containerd {
    /// Subscribes to this namespace's events; the first one is [`TaskEvent::Subscribed`], and so
    /// is the first one after every interruption.
    #[must_use]
    pub fn events(&self) -> TaskEvents {
        let (sender, events) = mpsc::channel(limits::TASK_EVENTS);
        let mut reader = tokio::task::JoinSet::new();
        let this = self.clone();
        reader.spawn(async move { this.forward(sender).await });
        TaskEvents { events, _reader: reader }
    }

    /// Runs until nobody listens any more.
    async fn forward(&self, sender: mpsc::Sender<TaskEvent>) {
        let mut backoff = Backoff::new(limits::CONTAINERD_RETRY);
        while !sender.is_closed() {
            match self.subscribe().await {
                Ok(stream) => {
                    backoff.reset();
                    if read(stream, &sender).await.is_none() {
                        return;
                    }
                }
                Err(status) if !is_away(&status) => {
                    tracing::warn!(%status, "containerd refuses its events");
                }
                Err(_) => {}
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// A subscription that is known to be in force. containerd says nothing before the first
    /// event, so we cause one of our own.
    async fn subscribe(&self) -> Result<Streaming<Envelope>, Status> {
        let namespace = &self.config().namespace;
        let filters = ["/tasks/exit", "/tasks/oom", HELLO]
            .map(|topic| format!("namespace=={namespace},topic=={topic:?}"));
        let request = self.unbounded(SubscribeRequest { filters: filters.to_vec() });
        let mut client = self.event_stream();
        tokio::select! {
            stream = client.subscribe(request) => Ok(stream?.into_inner()),
            failed = self.hello() => Err(failed),
        }
    }

    /// Publishes until the caller has seen it; returns only to say why it can't.
    async fn hello(&self) -> Status {
        let mut backoff = Backoff::new(limits::CONTAINERD_RETRY);
        loop {
            let event = prost_types::Any { type_url: "mill.Hello".to_owned(), value: Vec::new() };
            let message = PublishRequest { topic: HELLO.to_owned(), event: Some(event) };
            if let Err(status) = self.event_stream().publish(self.request(message)).await {
                return status;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Passes on one subscription's events; `None` if nobody listens any more.
async fn read(mut stream: Streaming<Envelope>, sender: &mpsc::Sender<TaskEvent>) -> Option<()> {
    sender.send(TaskEvent::Subscribed).await.ok()?;
    while let Ok(Some(envelope)) = stream.message().await {
        if let Some(event) = decode(&envelope) {
            sender.send(event).await.ok()?;
        }
    }
    Some(())
}

fn decode(envelope: &Envelope) -> Option<TaskEvent> {
    let body = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/exit" => {
            let event = TaskExit::decode(body).ok()?;
            // Another id than the container's is a process that was added to it.
            let first = event.id == event.container_id;
            let exit = Exit { code: event.exit_status, at: timestamp(event.exited_at) };
            first.then(|| TaskEvent::Exited(event.container_id.into(), exit))
        }
        "/tasks/oom" => {
            let event = TaskOom::decode(body).ok()?;
            Some(TaskEvent::OutOfMemory(event.container_id.into()))
        }
        _ => None,
    }
}
