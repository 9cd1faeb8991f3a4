//! The connection to containerd: channel, metadata of a request, repetition while it is away.
//!
//! Never knows what the calls mean.

use super::error::is_disk_full;
use super::status::is_away;
use super::{Config, Containerd, Error};
use crate::backoff::Backoff;
use crate::limits;
use containerd_client::services::v1 as api;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// Largest message from containerd: a list of some thousand containers.
const MESSAGE_MAX: usize = 64 << 20;

impl Containerd {
    /// Opens a connection, waits until containerd answers, and makes the namespace.
    ///
    /// # Errors
    /// It doesn't answer in time.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let channel = channel(config.socket.clone());
        let this =
            Self { config: Arc::new(config), channel, works: super::whole::Works::default() };
        let namespace = api::Namespace {
            name: this.config.namespace.clone(),
            labels: std::collections::HashMap::new(),
        };
        let made = retry(|| {
            let request = api::CreateNamespaceRequest { namespace: Some(namespace.clone()) };
            let request = this.request(request);
            let mut client = this.namespaces();
            async move { client.create(request).await }
        })
        .await;
        match made {
            Err(status) if status.code() != Code::AlreadyExists => {
                Err(this.error("make namespace", &this.config.namespace, status))
            }
            _ => Ok(this),
        }
    }

    /// Whether it answers a small question. The caller bounds the wait.
    pub async fn answers(&self) -> bool {
        let name = self.config.namespace.clone();
        let request = self.request(api::GetNamespaceRequest { name });
        match self.namespaces().get(request).await {
            Ok(_) => true,
            // A refusal is an answer, too.
            Err(status) => !is_away(&status) && status.code() != Code::DeadlineExceeded,
        }
    }

    /// What it was connected with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A request with this client's namespace and the bound on its duration.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.unbounded(message);
        request.set_timeout(limits::CONTAINERD_CALL);
        request
    }

    /// A request with this client's namespace that may take for ever.
    pub(crate) fn unbounded<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        insert(&mut request, "containerd-namespace", &self.config.namespace);
        request
    }

    /// A request whose results are kept from garbage collection by a lease.
    pub(crate) fn leased<T>(&self, message: T, lease: &str) -> Request<T> {
        let mut request = self.request(message);
        insert(&mut request, "containerd-lease", lease);
        request
    }

    pub(crate) fn error(&self, doing: &'static str, id: &str, status: Status) -> Error {
        if is_away(&status) {
            let socket = self.config.socket.clone();
            return Error::Away { socket, source: Box::new(status) };
        }
        if is_disk_full(status.message()) {
            return Error::DiskFull;
        }
        Error::Call { doing, id: id.to_owned(), source: Box::new(status) }
    }

    pub(crate) fn namespaces(&self) -> api::namespaces_client::NamespacesClient<Channel> {
        api::namespaces_client::NamespacesClient::new(self.channel.clone())
    }

    pub(crate) fn containers(&self) -> api::containers_client::ContainersClient<Channel> {
        api::containers_client::ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn tasks(&self) -> api::tasks_client::TasksClient<Channel> {
        api::tasks_client::TasksClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn snapshots(&self) -> api::snapshots::snapshots_client::SnapshotsClient<Channel> {
        api::snapshots::snapshots_client::SnapshotsClient::new(self.channel.clone())
    }

    pub(crate) fn content(&self) -> api::content_client::ContentClient<Channel> {
        api::content_client::ContentClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn images(&self) -> api::images_client::ImagesClient<Channel> {
        api::images_client::ImagesClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn leases(&self) -> api::leases_client::LeasesClient<Channel> {
        api::leases_client::LeasesClient::new(self.channel.clone())
    }

    pub(crate) fn diff(&self) -> api::diff_client::DiffClient<Channel> {
        api::diff_client::DiffClient::new(self.channel.clone())
    }

    pub(crate) fn event_stream(&self) -> api::events_client::EventsClient<Channel> {
        api::events_client::EventsClient::new(self.channel.clone())
    }
}

fn insert<T>(request: &mut Request<T>, key: &'static str, value: &str) {
    // A value that is no metadata would be refused by containerd as a missing namespace.
    if let Ok(value) = value.parse::<MetadataValue<Ascii>>() {
        request.metadata_mut().insert(key, value);
    }
}

/// A channel to a UNIX socket that connects at the first call and again after a break.
pub(crate) fn channel(socket: std::path::PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is never used: the connector knows the socket.
    Endpoint::from_static("http://containerd.invalid").connect_with_connector_lazy(connector)
}

/// Repeats a call while containerd is away, up to [`limits::CONTAINERD_AWAY`].
pub(crate) async fn retry<T, F>(mut call: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let started = Instant::now();
    let mut backoff = Backoff::new(limits::CONTAINERD_RETRY);
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if is_away(&status) && started.elapsed() < limits::CONTAINERD_AWAY => {
                tokio::time::sleep(backoff.pause()).await;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Takes a refusal with one of these codes for success without a result.
pub(crate) fn allow<T>(result: Result<T, Status>, codes: &[Code]) -> Result<Option<T>, Status> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(status) if codes.contains(&status.code()) => Ok(None),
        Err(status) => Err(status),
    }
}
