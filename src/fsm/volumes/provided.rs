//! Volumes that a provider of block storage keeps: made there once, attached to one node at a time.
//!
//! Owns the fence: who may mount one is written here before the provider is asked, and another node
//! only once the provider has confirmed that the last one doesn't have it. Never asks the provider.

use super::{Volume, VolumeChange};
use crate::bugs::{Bug, is_on};
use crate::fsm::allocation::not_found;
use crate::fsm::model::{Allocation, Node, NodeStatus};
use crate::fsm::{Outcome, Rejection, State, Touched};
use crate::id::{Index, NodeId, VolumeName};
use crate::limits;
use crate::secret::Sealed;
use crate::spec::model::hash_of;
use crate::units::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the provider's token is sealed for.
pub const TOKEN_PURPOSE: &str = "provider token";
/// The label that says which machine of the provider a node is.
pub const DROPLET: &str = "droplet";
/// The label that says in which of the provider's regions a node is.
pub const REGION: &str = "region";

/// Whose block storage the cluster uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderKind {
    /// `DigitalOcean`.
    #[serde(rename = "digitalocean")]
    DigitalOcean,
}

impl ProviderKind {
    /// The provider of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (name == Self::DigitalOcean.name()).then_some(Self::DigitalOcean)
    }

    /// Its name, as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DigitalOcean => "digitalocean",
        }
    }
}

/// The provider, and who the cluster is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    pub kind: ProviderKind,
    /// Where its API is.
    pub api: String,
    /// The token that it knows the cluster by.
    pub token: Sealed,
}

/// A volume as the provider has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    /// Its name there, which no other volume of any cluster has: one that was made is found by it.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// The provider's id of it; absent: it isn't made yet, as far as is known.
    pub id: Option<String>,
    /// How large it is there.
    pub made: Bytes,
    /// Where it is attached, or on its way to or from.
    pub attachment: Option<Attachment>,
    /// What keeps it from the next step.
    pub error: Option<String>,
}

/// A node that has a volume, or had it until the provider says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub node: NodeId,
    /// The provider's id of its machine.
    pub droplet: String,
    /// The number of the attachment, never given again: the index of the entry that made it.
    pub number: u64,
    /// How far it is.
    pub step: AttachStep,
}

/// How far an attachment is. It only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachStep {
    /// The provider is asked to attach it.
    Attaching,
    /// The provider has: its node may mount it.
    Attached,
    /// Its node may no longer, and is to say when it is unmounted.
    Releasing,
    /// Nobody has it mounted: the provider is asked to detach it.
    Detaching,
}

/// What has become of a volume of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvidedStep {
    /// The provider has made it, or has it already.
    Made {
        id: String,
        /// How large it is.
        size: Bytes,
    },
    /// The provider has made it larger.
    Grown {
        /// How large it is.
        size: Bytes,
    },
    /// The provider has attached it.
    Attached {
        /// The attachment's number.
        number: u64,
    },
    /// Nothing needs it where it is.
    Release {
        /// The attachment's number.
        number: u64,
    },
    /// Its node has unmounted it.
    Unmounted {
        /// The attachment's number.
        number: u64,
        /// Who says so.
        node: NodeId,
    },
    /// Its node is lost, and has stopped by itself what wrote it.
    Expired {
        /// The attachment's number.
        number: u64,
    },
    /// The provider confirms that its node doesn't have it.
    Detached {
        /// The attachment's number.
        number: u64,
    },
    /// The provider has deleted it.
    Deleted,
    /// Something keeps it from the next step, or no longer.
    Hindered { why: Option<String> },
}

impl Provided {
    /// A volume that is to be made where a node is, by the entry at that index.
    fn new((cluster, index): (&str, Index), name: &VolumeName, node: &Node) -> Option<Self> {
        let region = node.labels.get(REGION)?.clone();
        let tag = hash_of(&(cluster, index));
        let tag: String = tag.as_str().chars().take(limits::PROVIDER_TAG).collect();
        Some(Self {
            name: format!("mill-{name}-{tag}"),
            region,
            id: None,
            made: Bytes(0),
            attachment: None,
            error: None,
        })
    }

    /// The attachment with that number, if it is this far.
    fn at(&mut self, number: u64, step: AttachStep) -> Option<&mut Attachment> {
        self.attachment.as_mut().filter(|at| at.number == number && at.step == step)
    }

    /// Begins to take it from where it is.
    fn release(&mut self) {
        if let Some(at) = self.attachment.as_mut().filter(|at| at.step < AttachStep::Releasing) {
            at.step = AttachStep::Releasing;
        }
    }
}

impl State {
    /// A new volume of the provider, where the cluster has one.
    pub(super) fn new_provided(
        &self,
        name: &VolumeName,
        node: NodeId,
    ) -> Result<Option<Provided>, Rejection> {
        let Some(_) = &self.provider else { return Ok(None) };
        let cluster = self.cluster.as_ref().map(|cluster| cluster.id.as_str()).unwrap_or_default();
        let made = Provided::new((cluster, self.index), name, self.node(node)?);
        made.map(Some).ok_or(Rejection::Stale)
    }

    /// A volume is wanted on a node: attached there if it is nowhere, else taken from where it is.
    pub(super) fn want_at(&self, volume: &mut Volume, node: NodeId) -> Result<(), Rejection> {
        let is_elsewhere = volume.moving.is_some_and(|moving| moving.to != node);
        let here = self.node(node)?;
        let droplet = here.labels.get(DROPLET).cloned().ok_or(Rejection::Stale)?;
        let Some(provided) = &mut volume.provided else { return Err(Rejection::Stale) };
        if is_elsewhere || here.labels.get(REGION) != Some(&provided.region) {
            return Err(Rejection::Stale);
        }
        volume.moving = None;
        volume.node = node;
        let is_here = |at: &Attachment| at.node == node && at.droplet == droplet;
        match &provided.attachment {
            Some(at) if is_here(at) => {}
            Some(_) if !is_on(Bug::AttachUnfenced) => provided.release(),
            _ => {
                let (number, step) = (self.index.0, AttachStep::Attaching);
                provided.attachment = Some(Attachment { node, droplet, number, step });
            }
        }
        Ok(())
    }

    /// The provider's machines that more than one node says to be, of those that are there.
    #[must_use]
    pub fn shared_droplets(&self) -> BTreeSet<String> {
        let there = self.nodes.values().filter(|node| node.status != NodeStatus::Down);
        let mut seen = BTreeSet::new();
        let all = there.filter_map(|node| node.labels.get(DROPLET));
        all.filter(|droplet| !seen.insert(*droplet)).cloned().collect()
    }

    /// It is on its way to a machine that its node doesn't say to be any more: nobody has it
    /// mounted, and nobody will.
    #[must_use]
    pub fn is_astray(&self, at: &Attachment) -> bool {
        let droplet = self.nodes.get(&at.node).and_then(|node| node.labels.get(DROPLET));
        at.step == AttachStep::Attaching && droplet.is_some_and(|one| *one != at.droplet)
    }

    /// Something that runs, or is about to, may write it.
    #[must_use]
    pub fn has_writer(&self, volume: &Volume) -> bool {
        self.allocations.get(&volume.holder).is_some_and(|one| one.is_live())
    }

    /// Whether what was lost with its node may go on there: nothing else has its volumes since.
    pub(in crate::fsm) fn may_take_back(&self, lost: &Allocation) -> bool {
        self.volumes_of(&lost.spec).iter().all(|(name, _)| {
            let volume = self.volumes.get(name);
            volume.is_none_or(|one| one.provided.is_none() || one.holder == lost.id)
        })
    }

    /// What was lost with its node goes on there: its volumes are wanted there again.
    pub(in crate::fsm) fn take_back_volumes(&mut self, back: &Allocation, touched: &mut Touched) {
        for (name, _) in self.volumes_of(&back.spec) {
            touched.volumes = true;
            self.attach_again(&name);
        }
    }

    /// A volume that is nowhere is attached where its holder is, if that goes on.
    fn attach_again(&mut self, name: &VolumeName) {
        let Some(known) = self.volumes.get(name) else { return };
        let mut volume = Volume::clone(known);
        let is_free = volume.provided.as_ref().is_some_and(|one| one.attachment.is_none());
        let node = self.allocations.get(&volume.holder).map_or(volume.node, |holder| holder.node);
        if is_free
            && !volume.deleting
            && self.has_writer(&volume)
            && self.want_at(&mut volume, node).is_ok()
        {
            self.volumes.insert(name.clone(), Arc::new(volume));
        }
    }

    /// The node has ended by itself whatever wrote a volume there, or is no member.
    #[must_use]
    pub fn lease_is_over(&self, node: NodeId, now: Timestamp) -> bool {
        let Some(node) = self.nodes.get(&node) else { return true };
        let since = node.down_since.filter(|_| node.status == NodeStatus::Down);
        since.is_some_and(|since| now.since(since) >= limits::VOLUME_LEASE_OVER.into())
    }

    pub(super) fn change_provided(
        &mut self,
        change: VolumeChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.volumes = true;
        match change {
            VolumeChange::Provider(provider) => {
                self.check_key(&provider.token.key)?;
                if let Some(old) = &self.provider
                    && old.kind != provider.kind
                {
                    let what = format!("the cluster's provider is {}", old.kind.name());
                    return Err(Rejection::Illegal { what });
                }
                self.provider = Some(Arc::new(provider));
                touched.nodes = true;
                Ok(Outcome::Done)
            }
            VolumeChange::Provided { name, step } => self.step_provided(&name, step, touched),
            _ => Err(Rejection::Stale),
        }
    }

    fn step_provided(
        &mut self,
        name: &VolumeName,
        step: ProvidedStep,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let known = self.volumes.get(name).ok_or_else(|| not_found("volume", name.as_str()))?;
        let mut volume = Volume::clone(known);
        let has_writer = self.has_writer(&volume);
        let Some(provided) = &mut volume.provided else { return Err(Rejection::Stale) };
        if step == ProvidedStep::Deleted {
            if !volume.deleting || provided.attachment.is_some() {
                return Err(Rejection::Stale);
            }
            self.volumes.remove(name);
            return Ok(Outcome::Done);
        }
        let detached = matches!(step, ProvidedStep::Detached { .. });
        self.advance(provided, has_writer, step)?;
        let service = volume.service.clone();
        self.volumes.insert(name.clone(), Arc::new(volume));
        if detached {
            self.attach_again(name);
            // A node has room for another one.
            let owner = self.owner(&service).map(|app| app.name.clone());
            owner.into_iter().for_each(|app| self.outdate(&app, touched));
        }
        Ok(Outcome::Done)
    }

    fn advance(
        &self,
        provided: &mut Provided,
        has_writer: bool,
        step: ProvidedStep,
    ) -> Result<(), Rejection> {
        use AttachStep::{Attached, Attaching, Detaching, Releasing};
        match step {
            ProvidedStep::Made { id, size } if provided.id.is_none() => {
                provided.id = Some(id);
                provided.made = size;
            }
            ProvidedStep::Grown { size } if size > provided.made => provided.made = size,
            ProvidedStep::Attached { number } => {
                provided.at(number, Attaching).ok_or(Rejection::Stale)?.step = Attached;
            }
            ProvidedStep::Release { number } => {
                let is_free = |at: &Attachment| !has_writer || self.is_astray(at);
                let is_it = |at: &&Attachment| at.number == number && at.step < Releasing;
                let at = provided.attachment.as_ref().filter(is_it);
                at.filter(|at| is_free(at)).ok_or(Rejection::Stale)?;
                provided.release();
            }
            ProvidedStep::Unmounted { number, node } => {
                let at = provided.at(number, Releasing).filter(|at| at.node == node);
                at.ok_or(Rejection::Stale)?.step = Detaching;
            }
            ProvidedStep::Expired { number } => {
                let at = provided.at(number, Releasing).ok_or(Rejection::Stale)?;
                if !self.lease_is_over(at.node, self.time) {
                    return Err(Rejection::Stale);
                }
                at.step = Detaching;
            }
            ProvidedStep::Detached { number } => {
                provided.at(number, Detaching).ok_or(Rejection::Stale)?;
                provided.attachment = None;
            }
            ProvidedStep::Hindered { why } if provided.error != why => {
                provided.error = why.map(super::shortened);
                return Ok(());
            }
            _ => return Err(Rejection::Stale),
        }
        provided.error = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
