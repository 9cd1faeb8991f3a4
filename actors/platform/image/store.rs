//! containerd's content store and leases: blobs written, read, labelled; nothing left of a failure.
//!
//! Owns the protocol of a write. Never knows where the bytes come from.

use super::error::ImageError;
use crate::actors::platform::containerd::client::{allow, retry};
use crate::actors::platform::containerd::status::is_away;
use crate::actors::platform::containerd::{Containerd, Error};
use crate::id::Digest;
use crate::limits;
use bytes::Bytes;
use containerd_client::services::v1 as api;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const DAY: Duration = Duration::from_secs(24 * 3600);
// A lease of this day outlives it by as much as a pull may take.
const _: () = assert!(limits::PULL_LEASE.as_secs() >= 2 * DAY.as_secs());

/// Messages of one write on their way to containerd.
const IN_FLIGHT: usize = 2;
/// Another writer of the same blob that was just given up may hold it this often.
const LOCKED_TRIES: u32 = 40;
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// Labels of content: what it keeps from garbage collection.
pub(super) type Labels = HashMap<String, String>;

/// Keeps what is written under it until it is dropped or its time is over.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub id: String,
}

impl Lease {
    /// Makes the lease, or takes up one that an interrupted attempt left today: each day has its
    /// own, so that none is taken up that is about to end.
    pub async fn make(containerd: &Containerd, name: &str) -> Result<Self, Error> {
        let now = SystemTime::now();
        let today = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs();
        let ends = jiff::Timestamp::try_from(now + limits::PULL_LEASE);
        let ends = ends.map(|time| time.to_string()).unwrap_or_default();
        let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), ends)]);
        let id = format!("mill-{name}-{today}");
        let made = retry(|| {
            let message = api::CreateRequest { id: id.clone(), labels: labels.clone() };
            let request = containerd.request(message);
            let mut leases = containerd.leases();
            async move { leases.create(request).await }
        })
        .await;
        allow(made, &[Code::AlreadyExists])
            .map(|_| Self { id: id.clone() })
            .map_err(|status| containerd.error("make lease", &id, status))
    }

    /// Gives up what is kept by nothing else; with `collect` at once.
    pub async fn end(&self, containerd: &Containerd, collect: bool) {
        let message = api::DeleteRequest { id: self.id.clone(), sync: collect };
        if let Err(status) = containerd.leases().delete(containerd.request(message)).await {
            // It ends by itself.
            tracing::debug!(lease = self.id, %status, "can't remove a lease");
        }
    }

    /// Keeps a snapshot that exists already.
    pub async fn hold(&self, containerd: &Containerd, kind: &str, id: &str) -> Result<(), Error> {
        let resource = api::Resource { id: id.to_owned(), r#type: kind.to_owned() };
        let message = api::AddResourceRequest { id: self.id.clone(), resource: Some(resource) };
        let held = containerd.leases().add_resource(containerd.request(message)).await;
        allow(held, &[Code::AlreadyExists])
            .map(|_| ())
            .map_err(|status| containerd.error("keep", id, status))
    }
}

/// The leases whose names begin so.
pub(super) async fn leases(containerd: &Containerd, start: &str) -> Result<Vec<Lease>, Error> {
    let request = containerd.request(api::ListRequest::default());
    let listed = containerd.leases().list(request).await;
    let failed =
        |status| containerd.error("list leases of", &containerd.config().namespace, status);
    let all = listed.map_err(failed)?.into_inner().leases;
    let start = format!("mill-{start}");
    let own = all.into_iter().filter(|lease| lease.id.starts_with(&start));
    Ok(own.map(|lease| Lease { id: lease.id }).collect())
}

/// The size of a blob; `None` if the store doesn't have it.
pub(super) async fn size(containerd: &Containerd, digest: &Digest) -> Result<Option<u64>, Error> {
    let found = retry(|| {
        let request = containerd.request(api::InfoRequest { digest: digest.to_string() });
        let mut content = containerd.content();
        async move { content.info(request).await }
    })
    .await;
    let found = allow(found, &[Code::NotFound])
        .map_err(|status| containerd.error("look for", digest.as_str(), status))?;
    let size = found.and_then(|found| found.info).map(|info| info.size);
    Ok(size.map(|size| u64::try_from(size).unwrap_or(0)))
}

/// A blob from an offset on, as it is read.
pub(super) async fn stream(
    containerd: &Containerd,
    digest: &Digest,
    from: u64,
) -> Result<Streaming<api::ReadContentResponse>, Error> {
    let offset = i64::try_from(from).unwrap_or(i64::MAX);
    let message = api::ReadContentRequest { digest: digest.to_string(), offset, size: 0 };
    // For as long as whoever reads it takes.
    let opened = containerd.content().read(containerd.unbounded(message)).await;
    let failed = |status| containerd.error("read", digest.as_str(), status);
    Ok(opened.map_err(failed)?.into_inner())
}

/// A small blob; `None` if the store doesn't have it.
pub(super) async fn read(containerd: &Containerd, digest: &Digest) -> Result<Option<Bytes>, Error> {
    let failed = |status| containerd.error("read", digest.as_str(), status);
    let message = api::ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
    let opened = retry(|| {
        let request = containerd.request(message.clone());
        let mut content = containerd.content();
        async move { content.read(request).await }
    })
    .await;
    let Some(mut stream) = allow(opened, &[Code::NotFound]).map_err(failed)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    loop {
        match allow(stream.message().await, &[Code::NotFound]).map_err(failed)? {
            None => return Ok(None),
            Some(None) => return Ok(Some(bytes.into())),
            Some(Some(part)) => bytes.extend_from_slice(&part.data),
        }
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limits::MANIFEST_MAX {
            return Err(failed(Status::out_of_range("it is too large for a manifest")));
        }
    }
}

/// Adds labels to a blob.
pub(super) async fn label(
    containerd: &Containerd,
    lease: &Lease,
    digest: &Digest,
    labels: &Labels,
) -> Result<(), Error> {
    let info =
        api::Info { digest: digest.to_string(), labels: labels.clone(), ..api::Info::default() };
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let message = api::UpdateRequest {
        info: Some(info),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let request = containerd.leased(message, &lease.id);
    let updated = containerd.content().update(request).await;
    updated.map(|_| ()).map_err(|status| containerd.error("label", digest.as_str(), status))
}

/// Writes a small blob whose digest is known.
pub(super) async fn put(
    containerd: &Containerd,
    lease: &Lease,
    digest: &Digest,
    bytes: Bytes,
    labels: &Labels,
) -> Result<(), ImageError> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let name = digest.to_string();
    if let Some(mut writer) =
        Writer::open(containerd, lease, digest.as_str(), Some((digest, size))).await?
    {
        writer.write(0, bytes).await.map_err(|status| writer.told(&name, status))?;
        writer.commit(labels.clone()).await.map_err(|status| writer.told(&name, status))?;
    }
    if !labels.is_empty() {
        label(containerd, lease, digest, labels).await?;
    }
    Ok(())
}

/// A blob being written.
pub(super) struct Writer {
    containerd: Containerd,
    name: String,
    digest: Option<Digest>,
    total: i64,
    requests: mpsc::Sender<api::WriteContentRequest>,
    answers: Streaming<api::WriteContentResponse>,
    /// Bytes that containerd has.
    pub offset: u64,
}

impl Writer {
    /// Begins a write under a name of its own; `None` if the store has the blob already. Without
    /// an expected digest and size, both are what was written.
    pub async fn open(
        containerd: &Containerd,
        lease: &Lease,
        name: &str,
        expected: Option<(&Digest, u64)>,
    ) -> Result<Option<Self>, ImageError> {
        let mut tries = 0;
        loop {
            match Self::try_open(containerd, lease, name, expected).await {
                Ok(writer) => return Ok(Some(writer)),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(None),
                Err(status)
                    if tries < LOCKED_TRIES
                        && (status.code() == Code::Unavailable || is_away(&status)) =>
                {
                    tries += 1;
                    tokio::time::sleep(LOCKED_PAUSE).await;
                }
                Err(status) => return Err(told(containerd, name, status)),
            }
        }
    }

    async fn try_open(
        containerd: &Containerd,
        lease: &Lease,
        name: &str,
        expected: Option<(&Digest, u64)>,
    ) -> Result<Self, Status> {
        let total = expected.map_or(0, |(_, size)| i64::try_from(size).unwrap_or(i64::MAX));
        let digest = expected.map(|(digest, _)| digest.clone());
        let first = api::WriteContentRequest {
            action: api::WriteAction::Stat.into(),
            r#ref: format!("mill-{name}"),
            total,
            expected: digest.as_ref().map(|d| d.to_string()).unwrap_or_default(),
            ..api::WriteContentRequest::default()
        };
        let (requests, receiver) = mpsc::channel(IN_FLIGHT);
        // The channel is new and has room.
        let _ = requests.try_send(first.clone());
        let mut request = containerd.unbounded(ReceiverStream::new(receiver));
        if let Ok(lease) = lease.id.parse() {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        let mut answers = containerd.content().write(request).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("no answer"))?;
        Ok(Self {
            containerd: containerd.clone(),
            name: first.r#ref,
            digest,
            total,
            requests,
            answers,
            offset: u64::try_from(answer.offset).unwrap_or(0),
        })
    }

    /// Writes a piece; at offset 0 all that was written before is dropped.
    pub async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Status> {
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let message = self.message(api::WriteAction::Write, offset, data.into());
        self.exchange(message).await?;
        self.offset = offset + size;
        Ok(())
    }

    /// Ends the write; containerd compares size and digest. Returns the digest.
    pub async fn commit(&mut self, labels: Labels) -> Result<Digest, Status> {
        let mut message = self.message(api::WriteAction::Commit, self.offset, Vec::new());
        message.labels = labels;
        if message.total == 0 {
            message.total = i64::try_from(self.offset).unwrap_or(i64::MAX);
        }
        match self.exchange(message).await {
            Ok(answer) => Ok(Digest::from(answer.digest)),
            // Somebody else wrote it meanwhile.
            Err(status) if status.code() == Code::AlreadyExists => {
                self.digest.clone().ok_or(status)
            }
            Err(status) => Err(status),
        }
    }

    /// Drops what was written.
    pub async fn abort(self) {
        let Self { containerd, name, requests, answers, .. } = self;
        drop((requests, answers));
        let message = api::AbortRequest { r#ref: name.clone() };
        for _ in 0..LOCKED_TRIES {
            let aborted = containerd.content().abort(containerd.request(message.clone())).await;
            match aborted {
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(LOCKED_PAUSE).await;
                }
                Err(status) if status.code() != Code::NotFound => {
                    tracing::debug!(name, %status, "can't drop a part of a blob");
                    return;
                }
                _ => return,
            }
        }
    }

    /// The error of a write, told for the person who named `reference`.
    pub fn told(&self, reference: &str, status: Status) -> ImageError {
        let wrong = status.message().contains("unexpected commit digest")
            || status.message().contains("unexpected commit size");
        match &self.digest {
            Some(digest) if wrong => {
                ImageError::WrongDigest { reference: reference.to_owned(), digest: digest.clone() }
            }
            _ => told(&self.containerd, reference, status),
        }
    }

    fn message(
        &self,
        action: api::WriteAction,
        offset: u64,
        data: Vec<u8>,
    ) -> api::WriteContentRequest {
        api::WriteContentRequest {
            action: action.into(),
            r#ref: self.name.clone(),
            total: self.total,
            expected: self.digest.as_ref().map(|d| d.to_string()).unwrap_or_default(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            data,
            labels: Labels::new(),
        }
    }

    async fn exchange(
        &mut self,
        message: api::WriteContentRequest,
    ) -> Result<api::WriteContentResponse, Status> {
        // A closed channel has its reason in the answers.
        let _ = self.requests.send(message).await;
        self.answers.message().await?.ok_or_else(|| Status::unavailable("the write has ended"))
    }
}

/// A failure of the store for the person who named `reference`.
pub(super) fn told(containerd: &Containerd, reference: &str, status: Status) -> ImageError {
    match containerd.error("store", reference, status) {
        Error::DiskFull => ImageError::DiskFull { reference: reference.to_owned() },
        error => error.into(),
    }
}
