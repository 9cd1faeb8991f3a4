//! A registry that misbehaves as it is told, with images of a few bytes.
//!
//! Owns its listener and its content. Never checks what it is asked.

use mill::id::Digest;
use mill::oci::image::sha256;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it does instead of answering a request for a path that contains `path`.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub path: String,
    pub kind: Kind,
    /// How often; then it behaves.
    pub times: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Half of the content, then the connection ends.
    BreakOff,
    /// Other content of the same length.
    Wrong,
    /// Only a status.
    Status(u16),
}

#[derive(Debug, Default)]
struct Content {
    /// By the end of the path: digest or tag.
    files: HashMap<String, (String, Vec<u8>)>,
    faults: Vec<Fault>,
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
        self.content.lock().unwrap().files.insert(digest.to_string(), (kind.to_owned(), bytes));
        digest
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

    /// An image of layers with a file each; returns its manifest's digest and its layers'.
    pub fn image(&self, architecture: &str, layers: &[&[u8]]) -> (Digest, Vec<Digest>) {
        let mut diff_ids = Vec::new();
        let mut descriptors = Vec::new();
        let mut digests = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let tar = tar_of(&format!("file{index}"), layer);
            let size = tar.len();
            let digest = self.put("application/octet-stream", tar);
            descriptors.push(serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest, "size": size,
            }));
            diff_ids.push(digest.clone());
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
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": config, "size": size},
            "layers": descriptors,
        });
        let manifest = manifest.to_string().into_bytes();
        (self.put("application/vnd.oci.image.manifest.v1+json", manifest), digests)
    }
}

fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
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
        let Some((line, from)) = request(&mut stream).await else { return };
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !path.starts_with("/v2/") {
            // Not HTTP at all: a greeting in TLS, for one.
            return;
        }
        let (found, fault) = look(&content, path);
        if path.len() > "/v2/".len() {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        let (kind, mut body) = match found {
            Some(found) => found,
            None if path == "/v2/" => ("text/plain".to_owned(), Vec::new()),
            None => (String::new(), Vec::new()),
        };
        let missing = kind.is_empty();
        let status = match &fault {
            Some(Kind::Status(status)) => *status,
            _ if missing => 404,
            _ if from > 0 => 206,
            _ => 200,
        };
        if !matches!(status, 200 | 206) {
            body.clear();
        }
        if matches!(fault, Some(Kind::Wrong)) {
            body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let digest = format!("Docker-Content-Digest: {}\r\n", sha256(&body));
        let digest = if kind.contains("manifest") || kind.contains("index") { &digest } else { "" };
        let body = body.get(from..).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: {kind}\r\n{digest}\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        if matches!(fault, Some(Kind::BreakOff)) {
            let _ = stream.write_all(&body[..body.len() / 2]).await;
            return;
        }
        if method != "HEAD" {
            let _ = stream.write_all(body).await;
        }
    }
}

/// The request's first line, and where a range begins.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let mut first = String::new();
    let mut from = 0;
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if first.is_empty() {
            first = line;
            if !first.contains("HTTP/1.1") {
                return None;
            }
        } else if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.split('-').next()?.parse().ok()?;
        } else if line.is_empty() {
            return Some((first, from));
        }
    }
}

type Found = Option<(String, Vec<u8>)>;

fn look(content: &Mutex<Content>, path: &str) -> (Found, Option<Kind>) {
    let mut content = content.lock().unwrap();
    let name = path.rsplit('/').next().unwrap_or_default();
    let found = content.files.get(name).cloned();
    let fault = content.faults.iter_mut().find(|f| f.times > 0 && path.contains(&f.path));
    let kind = fault.map(|fault| {
        fault.times -= 1;
        fault.kind.clone()
    });
    (found, kind)
}
