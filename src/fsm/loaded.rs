//! Images that were loaded from archives: what their references lead to, and who has them.
//!
//! Owns their record. Never says which node should have one: that is `copies`.

use super::allocation::not_found;
use super::{Outcome, Rejection, State, Touched};
use crate::id::{Digest, NodeId, WorkloadName};
use crate::limits;
use crate::spec::image::Reference;
use crate::units::{Bytes, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The feature level from which on the state knows loaded images; before it each is on the node
/// that loaded it only.
pub const LOADED_LEVEL: u32 = 2;

/// Loaded images, by their canonical references.
pub type LoadedImages = OrdMap<String, Arc<LoadedImage>>;

/// What was loaded under a reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedImage {
    /// What the reference leads to; absent: nothing any more, and earlier ones are still needed.
    pub digest: Option<Digest>,
    /// What is kept: that, and earlier ones that a specification pins.
    pub copies: BTreeMap<Digest, Copies>,
}

/// One image and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Compressed size.
    pub size: Bytes,
    /// When it was loaded, the last time.
    pub since: Timestamp,
    /// The name of the node where it was.
    pub origin: String,
    /// The nodes that have all of it.
    pub nodes: BTreeSet<NodeId>,
}

/// An image by its canonical reference and its digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// The reference, without a digest.
    pub reference: String,
    /// Of the manifest or index.
    pub digest: Digest,
}

/// A change of the loaded images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageChange {
    /// A node has loaded images: their references lead to them from now on.
    Load {
        node: NodeId,
        /// By image: its compressed size.
        images: Vec<(Pin, Bytes)>,
        /// They were loaded before the cluster knew of such: a reference that leads somewhere
        /// already stays as it is.
        late: bool,
    },
    /// What a node has found that it has, and that it lacks.
    Hold { node: NodeId, has: BTreeSet<Pin>, lacks: BTreeSet<Pin> },
    /// Forget every image of a reference, or the one with that digest.
    Remove {
        /// The reference, without a digest.
        reference: String,
        digest: Option<Digest>,
    },
}

impl State {
    /// Whether every node knows of loaded images.
    #[must_use]
    pub fn shares_images(&self) -> bool {
        self.level() >= LOADED_LEVEL
    }

    /// What a reference, perhaps a short one or one with a digest, leads to among what was loaded.
    #[must_use]
    pub fn loaded_digest(&self, reference: &str) -> Option<Digest> {
        let parsed = Reference::parse(reference).ok()?;
        let name = parsed.plain();
        let Some(digest) = parsed.digest else { return self.loaded.get(&name)?.digest.clone() };
        // Without a tag it is meant under any.
        let is_meant = |reference: &str| match reference.strip_prefix(&name) {
            Some(rest) => rest.is_empty() || parsed.tag.is_none() && rest.starts_with(':'),
            None => false,
        };
        let mut known = self.loaded.iter().filter(|(reference, _)| is_meant(reference));
        known.any(|(_, image)| image.copies.contains_key(&digest)).then_some(digest)
    }

    /// The copies of a loaded image, whatever it is called.
    pub fn copies_of<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = &'a Copies> + 'a {
        self.loaded.values().filter_map(|image| image.copies.get(digest))
    }

    /// The service or task that a live allocation runs this image for.
    #[must_use]
    pub fn user_of(&self, digest: &Digest) -> Option<&WorkloadName> {
        let live = self.allocations.values().filter(|allocation| allocation.is_live());
        let mut users = live.filter(|allocation| {
            let run = self.spec(&allocation.spec).map(|stored| stored.spec.run());
            run.and_then(|run| run.digest.as_ref()) == Some(digest)
        });
        users.next().map(|allocation| &allocation.workload)
    }

    /// Whether a specification pins an image: to run, or to roll back to.
    #[must_use]
    pub fn pins(&self, digest: &Digest) -> bool {
        self.specs.values().any(|stored| stored.spec.run().digest.as_ref() == Some(digest))
    }

    pub(super) fn change_images(
        &mut self,
        change: ImageChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.images = true;
        match change {
            ImageChange::Load { node, images, late } => self.load_images(node, images, late),
            ImageChange::Hold { node, has, lacks } => self.hold_images(node, &has, &lacks),
            ImageChange::Remove { reference, digest } => self.remove_image(&reference, digest),
        }
    }

    fn load_images(
        &mut self,
        node: NodeId,
        images: Vec<(Pin, Bytes)>,
        late: bool,
    ) -> Result<Outcome, Rejection> {
        let origin = self.node(node)?.name.clone();
        for (Pin { reference, digest }, size) in images {
            let known = self.loaded.get(&reference);
            let mut image = known.map(|image| LoadedImage::clone(image)).unwrap_or_default();
            if !late || image.digest.is_none() {
                image.digest = Some(digest.clone());
            }
            let nodes = image.copies.remove(&digest).map(|copies| copies.nodes);
            let mut nodes = nodes.unwrap_or_default();
            nodes.insert(node);
            let copies = Copies { size, since: self.time, origin: origin.clone(), nodes };
            image.copies.insert(digest, copies);
            let current = image.digest.clone();
            image.copies.retain(|digest, _| current.as_ref() == Some(digest) || self.pins(digest));
            self.loaded.insert(reference, Arc::new(image));
        }
        let count: usize = self.loaded.values().map(|image| image.copies.len()).sum();
        if count > limits::LOADED_MAX {
            let what = format!("loaded images: the cluster keeps {}", limits::LOADED_MAX);
            return Err(Rejection::TooMany { what });
        }
        Ok(Outcome::Done)
    }

    /// What isn't known any more was removed meanwhile: its node finds that out by itself.
    fn hold_images(
        &mut self,
        node: NodeId,
        has: &BTreeSet<Pin>,
        lacks: &BTreeSet<Pin>,
    ) -> Result<Outcome, Rejection> {
        self.node(node)?;
        for (pin, is_there) in
            has.iter().map(|pin| (pin, true)).chain(lacks.iter().map(|pin| (pin, false)))
        {
            self.change_copies(pin, |copies| match is_there {
                true => copies.nodes.insert(node),
                false => copies.nodes.remove(&node),
            });
        }
        Ok(Outcome::Done)
    }

    fn change_copies(&mut self, pin: &Pin, change: impl FnOnce(&mut Copies) -> bool) {
        let Some(known) = self.loaded.get(&pin.reference) else { return };
        let mut image = LoadedImage::clone(known);
        if image.copies.get_mut(&pin.digest).is_some_and(change) {
            self.loaded.insert(pin.reference.clone(), Arc::new(image));
        }
    }

    fn remove_image(
        &mut self,
        reference: &str,
        digest: Option<Digest>,
    ) -> Result<Outcome, Rejection> {
        let known = self.loaded.get(reference).ok_or_else(|| not_found("image", reference))?;
        let mut image = LoadedImage::clone(known);
        let gone: Vec<Digest> = match digest {
            Some(digest) => vec![digest],
            None => image.copies.keys().cloned().collect(),
        };
        for digest in gone {
            if let Some(user) = self.user_of(&digest) {
                let what = format!("{reference} is what {user} runs");
                return Err(Rejection::Illegal { what });
            }
            if image.copies.remove(&digest).is_none() {
                return Err(not_found("image", &format!("{reference}@{digest}")));
            }
            if image.digest == Some(digest) {
                image.digest = None;
            }
        }
        if image.copies.is_empty() {
            self.loaded.remove(reference);
        } else {
            self.loaded.insert(reference.to_owned(), Arc::new(image));
        }
        Ok(Outcome::Done)
    }

    /// A node is no member any more: it has nothing.
    pub(super) fn forget_copies(&mut self, node: NodeId, touched: &mut Touched) {
        let holds = |image: &LoadedImage| image.copies.values().any(|c| c.nodes.contains(&node));
        let held: Vec<String> = self
            .loaded
            .iter()
            .filter(|(_, image)| holds(image))
            .map(|(reference, _)| reference.clone())
            .collect();
        for reference in held {
            let Some(known) = self.loaded.get(&reference) else { continue };
            let mut image = LoadedImage::clone(known);
            for copies in image.copies.values_mut() {
                copies.nodes.remove(&node);
            }
            self.loaded.insert(reference, Arc::new(image));
            touched.images = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::{Command, Register};
    use crate::fsm::deploy::tests::{change, put, running};
    use crate::fsm::fixture;
    use crate::fsm::model::{NodeStatus, StoredSpec, WorkloadSpec};
    use crate::id::BootId;

    const WEB: &str = "docker.io/library/web:v1";

    fn pin(digest: &str) -> Pin {
        Pin { reference: WEB.to_owned(), digest: digest.into() }
    }

    fn load(node: u64, digest: &str, late: bool) -> Command {
        let images = vec![(pin(digest), Bytes(10))];
        Command::Images(ImageChange::Load { node: NodeId(node), images, late })
    }

    fn hold(node: u64, has: &[&str], lacks: &[&str]) -> Command {
        let all = |digests: &[&str]| digests.iter().map(|digest| pin(digest)).collect();
        let (has, lacks) = (all(has), all(lacks));
        Command::Images(ImageChange::Hold { node: NodeId(node), has, lacks })
    }

    fn remove(digest: Option<&str>) -> Command {
        let (reference, digest) = (WEB.to_owned(), digest.map(Digest::from));
        Command::Images(ImageChange::Remove { reference, digest })
    }

    /// Two nodes.
    fn two() -> State {
        let mut state = running();
        change(&mut state, Command::Join(fixture::join("n2", "k"))).unwrap();
        let (node, boot) = (NodeId(2), BootId(2));
        let register = Register { node, boot, ..fixture::register() };
        change(&mut state, Command::Register(register)).unwrap();
        state
    }

    /// Which digests there are, each with its nodes.
    fn copies(state: &State) -> Vec<(String, Vec<u64>)> {
        let image = state.loaded.get(WEB);
        let each = image.iter().flat_map(|image| &image.copies);
        each.map(|(d, c)| (d.to_string(), c.nodes.iter().map(|n| n.0).collect())).collect()
    }

    fn sees(state: &State, seen: &[(&str, &[u64])]) -> bool {
        let seen: Vec<_> = seen.iter().map(|(d, n)| ((*d).to_owned(), n.to_vec())).collect();
        copies(state) == seen
    }

    /// Some specification pins a digest.
    fn pinned(state: &mut State, digest: &str) {
        let stored = state.specs.values().next().unwrap();
        let mut spec = StoredSpec::clone(stored);
        let WorkloadSpec::Service(service) = &mut spec.spec else { panic!("a service") };
        service.run.digest = Some(digest.into());
        state.specs.insert("other".into(), Arc::new(spec));
    }

    #[test]
    fn a_reference_leads_to_what_was_loaded_last() {
        let mut state = two();
        change(&mut state, load(1, "sha256:aa", false)).unwrap();
        for text in ["web:v1", "library/web:v1", WEB] {
            assert_eq!(state.loaded_digest(text), Some("sha256:aa".into()), "{text}");
        }
        assert_eq!(state.loaded_digest("web"), None, "another tag");
        change(&mut state, load(2, "sha256:aa", false)).unwrap();
        assert!(sees(&state, &[("sha256:aa", &[1, 2])]));
        // Nothing pins the one before.
        change(&mut state, load(2, "sha256:bb", false)).unwrap();
        assert!(sees(&state, &[("sha256:bb", &[2])]));
        put(&mut state, &[("web", "web:v1")]);
        pinned(&mut state, "sha256:bb");
        change(&mut state, load(1, "sha256:cc", false)).unwrap();
        assert!(sees(&state, &[("sha256:bb", &[2]), ("sha256:cc", &[1])]));
        assert_eq!(state.loaded_digest(WEB), Some("sha256:cc".into()));
        assert!(change(&mut state, load(7, "sha256:dd", false)).is_err(), "no such node");
        let exact = format!("sha256:{}", "e".repeat(64));
        change(&mut state, load(1, &exact, false)).unwrap();
        for (text, is_there) in [("web:v1", true), ("web", true), ("web:v2", false), ("we", false)]
        {
            let found = state.loaded_digest(&format!("{text}@{exact}"));
            assert_eq!(found.is_some(), is_there, "{text}");
        }
    }

    #[test]
    fn what_was_loaded_before_changes_no_reference() {
        let mut state = two();
        change(&mut state, load(1, "sha256:aa", true)).unwrap();
        assert_eq!(state.loaded_digest(WEB), Some("sha256:aa".into()));
        change(&mut state, load(2, "sha256:bb", true)).unwrap();
        assert!(sees(&state, &[("sha256:aa", &[1])]), "{:?}", copies(&state));
    }

    #[test]
    fn nodes_come_and_go() {
        let mut state = two();
        change(&mut state, load(1, "sha256:aa", false)).unwrap();
        change(&mut state, hold(2, &["sha256:aa", "sha256:zz"], &[])).unwrap();
        assert!(sees(&state, &[("sha256:aa", &[1, 2])]));
        change(&mut state, hold(1, &[], &["sha256:aa"])).unwrap();
        assert!(sees(&state, &[("sha256:aa", &[2])]));
        change(&mut state, Command::NodeDown { node: NodeId(2), boot: BootId(2) }).unwrap();
        assert_eq!(state.nodes[&NodeId(2)].status, NodeStatus::Down);
        assert!(sees(&state, &[("sha256:aa", &[2])]), "it may be back");
        change(&mut state, Command::Remove { node: NodeId(2) }).unwrap();
        assert!(sees(&state, &[("sha256:aa", &[])]), "and is still known");
        assert_eq!(state.loaded[WEB].copies.values().next().unwrap().origin, "n1");
    }

    #[test]
    fn one_is_removed_or_all_of_a_reference() {
        let mut state = two();
        put(&mut state, &[("web", "web:v1")]);
        pinned(&mut state, "sha256:aa");
        for digest in ["sha256:aa", "sha256:bb"] {
            change(&mut state, load(1, digest, false)).unwrap();
        }
        assert!(change(&mut state, remove(Some("sha256:zz"))).is_err());
        let mut one = state.clone();
        change(&mut one, remove(Some("sha256:bb"))).unwrap();
        assert!(sees(&one, &[("sha256:aa", &[1])]));
        assert_eq!(one.loaded_digest(WEB), None, "an earlier one isn't meant by it");
        change(&mut state, remove(None)).unwrap();
        assert!(state.loaded.is_empty());
        assert!(change(&mut state, remove(None)).is_err());
    }

    #[test]
    fn there_is_a_most() {
        let mut state = two();
        let many = |count: usize| {
            let one = |n| Pin { reference: format!("r{n}:v1"), digest: "sha256:aa".into() };
            let images = (0..count).map(|n| (one(n), Bytes(1))).collect();
            Command::Images(ImageChange::Load { node: NodeId(1), images, late: false })
        };
        let refused = change(&mut state, many(limits::LOADED_MAX + 1)).unwrap_err();
        assert!(refused.to_string().contains("loaded images"), "{refused}");
        assert!(state.loaded.is_empty());
        change(&mut state, many(limits::LOADED_MAX)).unwrap();
    }

    #[test]
    fn a_state_without_any_is_written_as_before() {
        let mut state = two();
        assert!(!String::from_utf8(state.encode().unwrap()).unwrap().contains("\"loaded\""));
        change(&mut state, load(1, "sha256:aa", false)).unwrap();
        assert_eq!(State::decode(&state.encode().unwrap()).unwrap(), state);
    }
}
