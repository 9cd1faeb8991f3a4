//! What the provider says of a volume, beside what the state says.
//!
//! Owns which differences people hear of, and what they can do. Never changes either side: what
//! runs is never detached for it.

use crate::fsm::State;
use crate::fsm::volumes::{AttachStep, DROPLET, Provided, Volume};
use crate::id::VolumeName;
use crate::units::Bytes;

/// A volume as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How large it is.
    pub size: Bytes,
    /// The machines that it is attached to.
    pub droplets: Vec<u64>,
}

/// Whether the two can be compared now: it is made, and nothing is on its way.
#[must_use]
pub fn is_settled(volume: &Volume) -> bool {
    let Some(provided) = volume.provided.as_ref().filter(|one| one.id.is_some()) else {
        return false;
    };
    let at = provided.attachment.as_ref();
    !volume.deleting && at.is_none_or(|at| at.step == AttachStep::Attached)
}

/// That the provider has a volume no more, and what to do.
#[must_use]
pub fn gone(name: &VolumeName, provided: &Provided) -> String {
    format!(
        "the provider has no volume {} any more: its data is gone. Give it up: mill down the \
         service, then mill volume delete {name}",
        provided.name
    )
}

/// What differs, and what to do; `shown`: as the provider has it, none if it hasn't.
#[must_use]
pub fn difference(
    state: &State,
    (name, volume): (&VolumeName, &Volume),
    shown: Option<&Shown>,
) -> Option<String> {
    let provided = volume.provided.as_ref()?;
    let Some(shown) = shown else { return Some(gone(name, provided)) };
    attached(state, (name, provided), shown).or_else(|| sized(provided, shown))
}

fn attached(
    state: &State,
    (name, provided): (&VolumeName, &Provided),
    shown: &Shown,
) -> Option<String> {
    let at = provided.attachment.as_ref();
    let is_own = |droplet: &&u64| at.is_some_and(|at| at.droplet == droplet.to_string());
    let here = at.map(|at| match state.nodes.get(&at.node) {
        Some(node) => node.name.clone(),
        None => format!("node {}, which was removed", at.node),
    });
    let expected = match &here {
        Some(here) => format!("and not to {here} alone"),
        None => "and nothing uses it".to_owned(),
    };
    if let Some(other) = shown.droplets.iter().find(|droplet| !is_own(droplet)) {
        let text = other.to_string();
        let node = state.nodes.values().find(|node| node.labels.get(DROPLET) == Some(&text));
        return Some(match (node, &here) {
            (Some(node), None) => format!(
                "it is attached to {} at the provider, {expected}. It is taken from there once \
                 something does",
                node.name
            ),
            (Some(node), Some(_)) => format!(
                "it is attached to {0} at the provider, {expected}. Let it be there: mill volume \
                 move {name} {0}",
                node.name
            ),
            (None, _) => format!(
                "it is attached to droplet {other} at the provider, which is no node of this \
                 cluster, {expected}. Detach it there"
            ),
        });
    }
    let here = here.filter(|_| shown.droplets.is_empty())?;
    Some(format!(
        "it is attached to nothing at the provider, and {here} uses it: what is written may be \
         lost. Let it be attached anew: mill volume move {name} to another node, or mill down its \
         service and, once mill volume list shows no node, mill up"
    ))
}

fn sized(provided: &Provided, shown: &Shown) -> Option<String> {
    // The provider's are whole gibibytes.
    let [there, known] = [shown.size, provided.made].map(|size| size.0 >> 30);
    (there != known).then(|| match there > known {
        true => format!("it has {there}Gi at the provider, and {known}Gi here: size=\"{there}Gi\""),
        false => format!("it has {there}Gi at the provider, and had {known}Gi: is it the same?"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::volumes::Attachment;
    use crate::fsm::{Command, apply_next, fixture};
    use crate::id::NodeId;
    use crate::units::Timestamp;
    use std::sync::Arc;

    const GIB: u64 = 1 << 30;

    /// n1 is droplet 101, n2 is 102.
    fn state() -> State {
        let mut state = State::default();
        let _ = apply_next(&mut state, Timestamp(1), Command::Init(fixture::init()));
        for n in [1, 2] {
            let mut node = state.nodes[&NodeId(1)].as_ref().clone();
            (node.id, node.name) = (NodeId(n), format!("n{n}"));
            node.labels.insert(DROPLET.to_owned(), format!("10{n}"));
            state.nodes.insert(NodeId(n), Arc::new(node));
        }
        state
    }

    /// Of 5 GiB, attached to that node.
    fn volume(node: Option<u64>, step: AttachStep) -> Volume {
        let at = |n| Attachment { node: NodeId(n), droplet: format!("10{n}"), number: 1, step };
        let (name, region) = ("mill-data-x".to_owned(), "fra1".to_owned());
        let (id, made, error) = (Some("id".to_owned()), Bytes(5 * GIB), None);
        let attachment = node.map(at);
        let provided = Some(Provided { name, region, id, made, attachment, error });
        Volume { provided, ..fixture::volume(NodeId(1)) }
    }

    #[yare::parameterized(
        the_same = { Some(1), Some((5, &[101])), None },
        the_same_and_nowhere = { None, Some((5, &[])), None },
        gone = { Some(1), None, Some("no volume mill-data-x any more") },
        gone_and_nowhere = { None, None, Some("then mill volume delete data") },
        at_another_node = { Some(1), Some((5, &[102])), Some("mill volume move data n2") },
        at_two = { Some(1), Some((5, &[101, 102])), Some("attached to n2 at the provider") },
        at_a_stranger = {
            Some(1), Some((5, &[999])),
            Some("droplet 999 at the provider, which is no node of this cluster, and not to n1")
        },
        at_a_stranger_unused = { None, Some((5, &[999])), Some("Detach it there") },
        at_a_node_unused = { None, Some((5, &[102])), Some("attached to n2") },
        at_nothing = { Some(1), Some((5, &[])), Some("and n1 uses it") },
        of_one_that_was_removed = { Some(9), Some((5, &[])), Some("node 9, which was removed") },
        larger = { Some(1), Some((8, &[101])), Some("size=\"8Gi\"") },
        smaller = { Some(1), Some((4, &[101])), Some("had 5Gi") },
    )]
    fn a_difference_names_both_sides_and_a_way_on(
        node: Option<u64>,
        shown: Option<(u64, &[u64])>,
        told: Option<&str>,
    ) {
        let shown =
            shown.map(|(size, at)| Shown { size: Bytes(size * GIB), droplets: at.to_vec() });
        let (name, volume) = ("data".into(), volume(node, AttachStep::Attached));
        let found = difference(&state(), (&name, &volume), shown.as_ref());
        match (found, told) {
            (Some(found), Some(told)) => assert!(found.contains(told), "{found}"),
            (found, told) => assert_eq!(found.as_deref(), told),
        }
    }

    #[yare::parameterized(
        attaching = { Some(1), AttachStep::Attaching, false },
        attached = { Some(1), AttachStep::Attached, true },
        releasing = { Some(1), AttachStep::Releasing, false },
        detaching = { Some(1), AttachStep::Detaching, false },
        nowhere = { None, AttachStep::Attached, true },
    )]
    fn what_is_on_its_way_is_not_compared(node: Option<u64>, step: AttachStep, settled: bool) {
        let volume = volume(node, step);
        assert_eq!(is_settled(&volume), settled);
        assert!(!is_settled(&Volume { deleting: true, ..volume.clone() }));
        assert!(!is_settled(&Volume { provided: None, ..volume }), "a folder of a node");
    }
}
