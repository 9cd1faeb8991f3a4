//! How far pulls are: what a node knows of them for those who watch.
//!
//! Owns their shape and what of them is worth telling. Never part of the replicated state: figures
//! come many times a second.

use crate::id::Digest;
use crate::limits;
use std::collections::BTreeMap;

/// A layer that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPull {
    /// Its blob.
    pub digest: Digest,
    /// Bytes of it that are there.
    pub bytes: u64,
    /// Bytes that it has.
    pub total: u64,
}

/// The pull of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pull {
    /// What has to be fetched: layers that were there before are not among them.
    pub layers: Vec<LayerPull>,
    /// All is fetched and unpacked.
    pub done: bool,
}

impl Pull {
    /// Bytes that are there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Bytes to be fetched in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.layers.iter().map(|layer| layer.total).sum()
    }
}

/// The pulls of a node, by the digest that was asked for; those that are done for a while longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulls(BTreeMap<Digest, Pull>);

impl Pulls {
    /// How far one is.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<&Pull> {
        self.0.get(digest)
    }

    /// A pull begins, or begins anew.
    pub fn begin(&mut self, digest: &Digest, layers: Vec<LayerPull>) {
        while self.0.len() >= limits::IMAGES_CACHED {
            // What is done is only looked up again; of those under way there are few.
            let old = self.0.iter().find(|(_, pull)| pull.done).or(self.0.iter().next());
            let Some(old) = old.map(|(digest, _)| digest.clone()) else { break };
            self.0.remove(&old);
        }
        self.0.insert(digest.clone(), Pull { layers, done: false });
    }

    /// So many bytes of a layer are there.
    pub fn advance(&mut self, digest: &Digest, layer: usize, bytes: u64) {
        let pull = self.0.get_mut(digest);
        if let Some(layer) = pull.and_then(|pull| pull.layers.get_mut(layer)) {
            layer.bytes = bytes.min(layer.total);
        }
    }

    /// A pull has ended, well or not.
    pub fn end(&mut self, digest: &Digest, well: bool) {
        if well {
            self.0.entry(digest.clone()).and_modify(|pull| pull.done = true);
        } else {
            self.0.remove(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_and_what_is_done_goes_first() {
        let mut pulls = Pulls::default();
        let digest = |n: usize| Digest::from(format!("sha256:{n}"));
        let layer = |total| LayerPull { digest: digest(0), bytes: 0, total };
        pulls.begin(&digest(0), vec![layer(10), layer(30)]);
        pulls.advance(&digest(0), 1, 12);
        pulls.advance(&digest(0), 0, 99);
        let pull = pulls.get(&digest(0)).unwrap();
        assert_eq!((pull.bytes(), pull.total(), pull.done), (22, 40, false));
        pulls.begin(&digest(1), vec![]);
        pulls.end(&digest(1), true);
        pulls.begin(&digest(2), vec![]);
        pulls.end(&digest(2), false);
        assert!(pulls.get(&digest(2)).is_none(), "a failed one is forgotten");
        for n in 3..=limits::IMAGES_CACHED + 1 {
            pulls.begin(&digest(n), vec![]);
        }
        assert!(pulls.get(&digest(1)).is_none() && pulls.get(&digest(0)).is_some());
        assert_eq!(pulls.0.len(), limits::IMAGES_CACHED);
    }
}
