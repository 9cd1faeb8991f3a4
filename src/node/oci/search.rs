//! The way from what a reference leads to down to the image that this machine can run.
//!
//! Owns which entry of which index is tried next. Never fetches anything.

use super::image::Index;
use super::{Manifest, Platform};
use crate::id::Digest;
use crate::limits::{INDEX_DEPTH, INDEX_TRIED};
use bytes::Bytes;

/// A document that may be the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub digest: Digest,
    /// The indexes that lead to it, the outermost first.
    pub indexes: Vec<(Digest, Bytes)>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// There are images, for these platforms.
    Platforms(String),
    /// It is something else.
    Artifact(String),
    /// Indexes within indexes, too many of them.
    Deep,
}

/// A search that goes on.
#[derive(Debug)]
pub struct Search {
    host: Platform,
    /// The next one last.
    todo: Vec<Candidate>,
    tried: usize,
    platforms: Vec<Platform>,
    artifact: Option<String>,
    is_deep: bool,
}

impl Search {
    /// Begins at what a reference leads to.
    #[must_use]
    pub fn new(host: Platform, top: Digest) -> Self {
        let todo = vec![Candidate { digest: top, indexes: Vec::new() }];
        Self { host, todo, tried: 0, platforms: Vec::new(), artifact: None, is_deep: false }
    }

    /// What is to be looked at next.
    #[must_use]
    pub fn next_candidate(&mut self) -> Option<Candidate> {
        self.tried += 1;
        if self.tried > INDEX_TRIED {
            self.is_deep = true;
            return None;
        }
        self.todo.pop()
    }

    /// It is an index: its entries come next.
    pub fn enter(&mut self, at: Candidate, text: Bytes, index: &Index) {
        for platform in index.platforms() {
            self.saw(platform);
        }
        if at.indexes.len() >= INDEX_DEPTH {
            self.is_deep = true;
            return;
        }
        let mut indexes = at.indexes;
        indexes.push((at.digest, text));
        for entry in index.ranked(&self.host).into_iter().rev() {
            let (digest, indexes) = (entry.digest.clone(), indexes.clone());
            self.todo.push(Candidate { digest, indexes });
        }
    }

    /// Whether it is an image at all; what it is otherwise is remembered.
    pub fn is_image(&mut self, manifest: &Manifest) -> bool {
        let other = manifest.other_kind();
        if let Some(other) = other {
            self.artifact.get_or_insert_with(|| other.to_owned());
        }
        other.is_none()
    }

    /// Whether an image for that platform runs here.
    pub fn runs(&mut self, platform: &Platform) -> bool {
        let runs = platform.runs_on(&self.host);
        if !runs {
            self.saw(platform.clone());
        }
        runs
    }

    fn saw(&mut self, platform: Platform) {
        if !self.platforms.contains(&platform) {
            self.platforms.push(platform);
        }
    }

    /// Why nothing was found.
    #[must_use]
    pub fn unfound(self) -> Unfound {
        match self.artifact {
            Some(kind) if self.platforms.is_empty() => Unfound::Artifact(kind),
            _ if self.is_deep && self.platforms.is_empty() => Unfound::Deep,
            _ if self.platforms.is_empty() => Unfound::Platforms("no platform".to_owned()),
            _ => {
                let all: Vec<String> = self.platforms.iter().map(Platform::to_string).collect();
                Unfound::Platforms(all.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::oci::image::{Document, document};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn host() -> Platform {
        let (architecture, os) = ("amd64".to_owned(), "linux".to_owned());
        Platform { architecture, os, variant: Some("v3".to_owned()) }
    }

    fn entry(digest: &str, platform: Value) -> Value {
        let mut entry = json!({ "digest": digest, "size": 1 });
        if !platform.is_null() {
            entry["platform"] = platform;
        }
        entry
    }

    fn on(architecture: &str, variant: Option<&str>) -> Value {
        json!({ "os": "linux", "architecture": architecture, "variant": variant })
    }

    /// What is found in these documents from `top` on; images are named by their platform.
    fn found(documents: &BTreeMap<&str, Value>) -> Result<(String, usize), Unfound> {
        let mut search = Search::new(host(), "top".into());
        while let Some(at) = search.next_candidate() {
            let text = Bytes::from(documents[at.digest.as_str()].to_string());
            match document(&text).unwrap() {
                Document::Index(index) => search.enter(at, text, &index),
                Document::Image(manifest) => {
                    let platform: Platform =
                        serde_json::from_value(documents[at.digest.as_str()]["for"].clone())
                            .unwrap();
                    if search.is_image(&manifest) && search.runs(&platform) {
                        return Ok((at.digest.to_string(), at.indexes.len()));
                    }
                }
            }
        }
        Err(search.unfound())
    }

    fn image(architecture: &str, variant: Option<&str>) -> Value {
        let config = json!({ "digest": "c", "size": 1 });
        json!({ "config": config, "layers": [], "for": on(architecture, variant) })
    }

    fn index(entries: &[Value]) -> Value {
        json!({ "manifests": entries })
    }

    #[test]
    fn the_best_variant_that_runs_is_taken() {
        let all = [("v4", Some("v4")), ("plain", None), ("v2", Some("v2")), ("v3", Some("v3"))];
        let entries = all.map(|(name, variant)| entry(name, on("amd64", variant)));
        let mut documents: BTreeMap<&str, Value> = BTreeMap::from([("top", index(&entries))]);
        documents.extend(all.map(|(name, variant)| (name, image("x86_64", variant))));
        assert_eq!(found(&documents), Ok(("v3".to_owned(), 1)));
        let top = index(&entries[..1]);
        documents.insert("top", top);
        assert_eq!(found(&documents), Err(Unfound::Platforms("linux/amd64/v4".to_owned())));
    }

    #[test]
    fn an_index_within_an_index_is_followed() {
        let attestation = entry("att", json!({ "os": "unknown", "architecture": "unknown" }));
        let inner =
            index(&[attestation.clone(), entry("arm", on("arm64", None)), entry("x", Value::Null)]);
        let documents = BTreeMap::from([
            (
                "top",
                index(&[
                    attestation,
                    entry("arm", on("arm64", None)),
                    entry("inner", on("amd64", None)),
                ]),
            ),
            ("inner", inner),
            ("x", image("amd64", None)),
        ]);
        assert_eq!(found(&documents), Ok(("x".to_owned(), 2)));
    }

    #[test]
    fn entries_without_a_platform_are_looked_into() {
        let documents = BTreeMap::from([
            ("top", index(&[entry("a", Value::Null), entry("i", Value::Null)])),
            ("a", image("arm64", None)),
            ("i", index(&[entry("j", Value::Null)])),
            ("j", index(&[entry("k", Value::Null)])),
            ("k", image("amd64", None)),
        ]);
        assert_eq!(found(&documents), Ok(("k".to_owned(), 3)));
    }

    #[test]
    fn an_index_that_holds_itself_ends() {
        let documents = BTreeMap::from([("top", index(&[entry("top", Value::Null)]))]);
        assert_eq!(found(&documents), Err(Unfound::Deep));
    }

    #[test]
    fn an_artifact_says_what_it_is() {
        let kind = "application/vnd.cncf.helm.config.v1+json";
        let config = json!({ "digest": "c", "size": 1, "mediaType": kind });
        let chart = json!({ "config": config, "layers": [], "for": {} });
        let documents = BTreeMap::from([("top", chart)]);
        assert_eq!(found(&documents), Err(Unfound::Artifact(kind.to_owned())));
    }
}
