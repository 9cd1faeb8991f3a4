//! A registry that misbehaves as it is told, with images of a few bytes.
//!
//! Owns its listener, its content, and a record of what it was asked. Never checks more of a
//! request than it was told to.

use mill::id::Digest;
use mill::node::oci::image::sha256;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What it does instead of answering a request for a path that contains `path`.
#[derive(Clone, Debug)]
struct Fault {
    path: String,
    kind: Kind,
    /// How often; then it behaves.
    times: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Half of the content, then the connection ends.
    BreakOff,
    /// Half of the content as if that were all.
    Short,
    /// Other content of the same length.
    Wrong,
    /// Only a status.
    Status(u16),
    /// A status with a header and a body.
    Says(u16, String, String),
    /// Half of the content, then silence.
    Stall,
    /// Without end.
    Endless,
}

#[derive(Debug, Default)]
struct Content {
    /// By the end of the path: digest or tag.
    files: HashMap<String, (String, Vec<u8>)>,
    faults: Vec<Fault>,
    /// The `Authorization` that it wants, and its challenge otherwise.
    guard: Option<(String, String)>,
    asked: Vec<Asked>,
}

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub from: usize,
}

pub(super) struct FakeRegistry {
    pub address: String,
    /// Requests for blobs and manifests so far.
    pub requests: Arc<AtomicU32>,
    content: Arc<Mutex<Content>>,
}

impl FakeRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let requests = Arc::new(AtomicU32::new(0));
        let (served, counted) = (Arc::clone(&content), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served), Arc::clone(&counted)));
            }
        });
        Self { address, requests, content }
    }

    pub fn put(&self, kind: &str, bytes: Vec<u8>) -> Digest {
        let digest = sha256(&bytes);
        let file = (kind.to_owned(), bytes);
        self.content.lock().unwrap().files.insert(digest.to_string(), file);
        digest
    }

    /// Content at the end of any path.
    pub fn serve_at(&self, name: &str, kind: &str, bytes: &[u8]) {
        let file = (kind.to_owned(), bytes.to_vec());
        self.content.lock().unwrap().files.insert(name.to_owned(), file);
    }

    pub fn tag(&self, tag: &str, digest: &Digest) {
        let mut content = self.content.lock().unwrap();
        let file = content.files[digest.as_str()].clone();
        content.files.insert(tag.to_owned(), file);
    }

    pub fn fail(&self, path: &str, kind: Kind, times: u32) {
        let fault = Fault { path: path.to_owned(), kind, times };
        self.content.lock().unwrap().faults.push(fault);
    }

    pub fn heal(&self) {
        self.content.lock().unwrap().faults.clear();
    }

    pub fn guard(&self, wanted: &str, challenge: &str) {
        self.content.lock().unwrap().guard = Some((wanted.to_owned(), challenge.to_owned()));
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.content.lock().unwrap().asked.clone()
    }

    /// How often a path that contains this was asked for by GET.
    pub fn gets(&self, path: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|one| one.method == "GET" && one.path.contains(path)).count()
    }

    /// The reference of a tag here.
    pub fn reference(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }

    /// An image of layers with a file each; returns its manifest's digest and its layers'.
    pub fn image(&self, architecture: &str, layers: &[&[u8]]) -> (Digest, Vec<Digest>) {
        let tars = layers.iter().enumerate();
        let tars = tars.map(|(index, layer)| tar_of(&format!("file{index}"), layer));
        let layers = tars.map(|tar| (tar.clone(), LAYER.to_owned(), sha256(&tar))).collect();
        self.image_of(architecture, layers)
    }

    /// An image of layers as they are: blob, media type, digest of the content.
    pub fn image_of(
        &self,
        architecture: &str,
        layers: Vec<(Vec<u8>, String, Digest)>,
    ) -> (Digest, Vec<Digest>) {
        let mut diff_ids = Vec::new();
        let mut descriptors = Vec::new();
        let mut digests = Vec::new();
        for (blob, media_type, diff_id) in layers {
            let size = blob.len();
            let digest = self.put("application/octet-stream", blob);
            descriptors.push(serde_json::json!({
                "mediaType": media_type, "digest": digest, "size": size,
            }));
            diff_ids.push(diff_id);
            digests.push(digest);
        }
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let size = config.len();
        let config = self.put("application/octet-stream", config);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": config, "size": size},
            "layers": descriptors,
        });
        (self.put(MANIFEST, manifest.to_string().into_bytes()), digests)
    }
}

pub(super) fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
    tar.into_inner().unwrap()
}

async fn serve(stream: TcpStream, content: Arc<Mutex<Content>>, requests: Arc<AtomicU32>) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(asked) = request(&mut stream).await else { return };
        let (found, fault) = look(&content, &asked);
        if asked.path.starts_with("/v2/") && asked.path.len() > "/v2/".len() {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(Kind::Says(status, header, body)) = &fault {
            let head = format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: ");
            let text = if asked.method == "HEAD" { "" } else { body };
            let text = format!("{head}{}\r\n\r\n{text}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
            continue;
        }
        if answer(&mut stream, &asked, found, fault).await.is_none() {
            return;
        }
    }
}

/// Answers one request; none: the connection ends.
async fn answer(
    stream: &mut BufReader<TcpStream>,
    asked: &Asked,
    found: Found,
    fault: Option<Kind>,
) -> Option<()> {
    let (kind, mut body) = match found {
        Some(found) => found,
        None if asked.path == "/v2/" => ("text/plain".to_owned(), Vec::new()),
        None => (String::new(), Vec::new()),
    };
    let status = match &fault {
        Some(Kind::Status(status)) => *status,
        _ if kind.is_empty() => 404,
        _ if asked.from > 0 => 206,
        _ => 200,
    };
    match fault {
        _ if !matches!(status, 200 | 206) => body.clear(),
        Some(Kind::Wrong) => body.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Kind::Short) => body.truncate(body.len() / 2),
        _ => {}
    }
    let digest = format!("Docker-Content-Digest: {}\r\n", sha256(&body));
    let digest = if kind.contains("manifest") || kind.contains("index") { &digest } else { "" };
    let body = body.get(asked.from..).unwrap_or_default();
    let length = match fault {
        Some(Kind::Endless) => "Connection: close\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} X\r\n{length}Content-Type: {kind}\r\n{digest}\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    if asked.method == "HEAD" {
        return Some(());
    }
    match fault {
        Some(Kind::BreakOff) => {
            let _ = stream.write_all(&body[..body.len() / 2]).await;
            None
        }
        Some(Kind::Stall) => {
            let _ = stream.write_all(&body[..body.len() / 2]).await;
            // Until the other side gives up.
            let _ = stream.read_until(0, &mut Vec::new()).await;
            None
        }
        Some(Kind::Endless) => loop {
            stream.write_all(&[b' '; 64 << 10]).await.ok()?;
        },
        _ => stream.write_all(body).await.ok(),
    }
}

/// The next request; none: it was the last, or no HTTP at all.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut asked = Asked::default();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if asked.path.is_empty() {
            let mut words = line.split(' ');
            if !line.ends_with("HTTP/1.1") {
                // A greeting in TLS, for one.
                return None;
            }
            asked.method = words.next()?.to_owned();
            asked.path = words.next()?.to_owned();
        } else if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            asked.from = range.split('-').next()?.parse().ok()?;
        } else if line.to_lowercase().starts_with("authorization: ") {
            asked.authorization = Some(line["authorization: ".len()..].to_owned());
        } else if line.is_empty() {
            return Some(asked);
        }
    }
}

type Found = Option<(String, Vec<u8>)>;

fn look(content: &Mutex<Content>, asked: &Asked) -> (Found, Option<Kind>) {
    let mut content = content.lock().unwrap();
    content.asked.push(asked.clone());
    if let Some((wanted, challenge)) = &content.guard
        && asked.path.starts_with("/v2/")
        && asked.authorization.as_ref() != Some(wanted)
    {
        let header = format!("WWW-Authenticate: {challenge}");
        let body = "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}".to_owned();
        return (None, Some(Kind::Says(401, header, body)));
    }
    let path = asked.path.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let found = content.files.get(name).cloned();
    let fault = content.faults.iter_mut().find(|f| f.times > 0 && asked.path.contains(&f.path));
    let kind = fault.map(|fault| {
        fault.times -= 1;
        fault.kind.clone()
    });
    (found, kind)
}
