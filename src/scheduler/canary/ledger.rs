//! What the nodes have told of the requests of canaries.
//!
//! Owns the sum. Never asks a node: each tells by itself, and a new leader hears all of it anew.

use super::{Sample, Stage};
use crate::fsm::State;
use crate::id::{AllocId, BootId, NodeId, WorkloadName};
use crate::limits::CANARY_REPORTS;
use crate::node::ingress::figures::Requests;
use crate::units::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a node has counted of a service since its canary began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub service: WorkloadName,
    /// Which canary.
    pub stage: Stage,
    /// By replica.
    pub replicas: BTreeMap<AllocId, Requests>,
}

/// What is known of one canary.
#[derive(Debug)]
struct Page {
    stage: Stage,
    /// When it was first asked for.
    since: Millis,
    /// By node and its life: what a daemon counted before it was started again counts, too.
    by: BTreeMap<(NodeId, BootId), BTreeMap<AllocId, Requests>>,
}

/// What is known of all canaries.
#[derive(Debug, Default)]
pub struct Ledger {
    pages: BTreeMap<WorkloadName, Page>,
}

impl Ledger {
    /// A node has told what it counted; what it told last counts.
    pub fn heard(&mut self, node: NodeId, boot: BootId, counted: Vec<Counted>, now: Millis) {
        for one in counted {
            let page = self.page(&one.service, one.stage, now);
            page.by.insert((node, boot), one.replicas);
        }
    }

    fn page(&mut self, service: &WorkloadName, stage: Stage, now: Millis) -> &mut Page {
        let fresh = || Page { stage, since: now, by: BTreeMap::new() };
        let page = self.pages.entry(service.clone()).or_insert_with(fresh);
        // What is told of an earlier one comes too late.
        if page.stage < stage {
            *page = fresh();
        }
        page
    }

    /// The requests of every canary under way, and nothing of others from now on.
    pub fn samples(&mut self, state: &State, now: Millis) -> BTreeMap<WorkloadName, Sample> {
        let mut samples = BTreeMap::new();
        for (name, canary) in state.canaries() {
            let Some(progress) = canary.progress else { continue };
            let stage = (canary.deployment.revision, progress.since);
            let page = self.page(name, stage, now);
            if page.stage != stage {
                continue;
            }
            let mut sample = Sample { stage, ..Sample::default() };
            let run = &canary.new.stored.run;
            for (id, requests) in page.by.values().flatten() {
                // What is forgotten by now is neither.
                let Some(one) = state.allocations.get(id) else { continue };
                let is_new = state.spec(&one.spec).is_some_and(|stored| stored.run == *run);
                let side = if is_new { &mut sample.new } else { &mut sample.old };
                side.merge(requests);
            }
            let has_told = |id: &NodeId| page.by.keys().any(|(node, _)| node == id);
            let mut there = state.nodes.values().filter(|node| node.is_up());
            let waited = now.since(page.since) >= CANARY_REPORTS.into();
            sample.complete = waited || there.all(|node| has_told(&node.id));
            samples.insert(name.clone(), sample);
        }
        self.pages.retain(|name, _| samples.contains_key(name));
        samples
    }
}
