//! One step of a volume at the provider: looked up first, so that an answer that was lost and a
//! leader that came between cost nothing.
//!
//! Owns what the provider is asked for each step. Never decides which step it is.

use crate::actors::platform::block_storage::{BlockStorage, Disk, StorageError};
use crate::fsm::State;
use crate::fsm::volumes::{Attachment, DROPLET, Provided, ProvidedStep, Volume};
use crate::id::VolumeName;
use crate::scheduler::provided::compare::{Shown, difference, gone};
use crate::scheduler::provided::{Work, whole};
use crate::units::Bytes;
use std::net::IpAddr;

/// Carries it out; what the state is to hear.
///
/// # Errors
/// The provider does not do it, or its answer was lost: it is tried again.
pub async fn carry_out(
    storage: &BlockStorage,
    state: &State,
    (name, volume): (&VolumeName, &Volume),
    work: Work,
) -> Result<ProvidedStep, StorageError> {
    let odd = |what: &str| StorageError::Odd(what.to_owned());
    let provided = volume.provided.as_ref().ok_or_else(|| odd("it isn't the provider's"))?;
    match work {
        Work::Make => make(storage, volume, provided).await,
        Work::Grow => {
            let (id, size) = (known(provided)?, whole(volume.size));
            let disk = there(storage, (name, provided)).await?;
            if disk.size_gigabytes < gigabytes(size) {
                storage.resize(id, gigabytes(size)).await?;
            }
            Ok(ProvidedStep::Grown { size: size.max(Bytes(disk.size_gigabytes << 30)) })
        }
        Work::Attach(at) => attach(storage, state, (name, provided), &at).await,
        Work::Detach(at) => detach(storage, provided, &at).await,
        Work::Delete => {
            let found = match &provided.id {
                Some(id) => Some(id.clone()),
                // It may have been made, and the answer lost.
                None => storage.find(&provided.name).await?.map(|disk| disk.id),
            };
            if let Some(id) = found {
                storage.delete(&id).await?;
            }
            Ok(ProvidedStep::Deleted)
        }
        Work::Compare => {
            let disk = storage.get(known(provided)?).await?;
            let shown = disk.map(|disk| Shown {
                size: Bytes(disk.size_gigabytes << 30),
                droplets: disk.droplet_ids,
            });
            let why = difference(state, (name, volume), shown.as_ref());
            Ok(ProvidedStep::Hindered { why })
        }
        Work::Tell(step) => Ok(step),
    }
}

fn gigabytes(size: Bytes) -> u64 {
    size.0 >> 30
}

fn known(provided: &Provided) -> Result<&str, StorageError> {
    let none = || StorageError::Odd("it isn't made yet".to_owned());
    provided.id.as_deref().ok_or_else(none)
}

/// The volume at the provider. One that is gone there is never made anew: it had data.
async fn there(
    storage: &BlockStorage,
    (name, provided): (&VolumeName, &Provided),
) -> Result<Disk, StorageError> {
    let gone = || StorageError::Odd(gone(name, provided));
    storage.get(known(provided)?).await?.ok_or_else(gone)
}

async fn make(
    storage: &BlockStorage,
    volume: &Volume,
    provided: &Provided,
) -> Result<ProvidedStep, StorageError> {
    let disk = match storage.find(&provided.name).await? {
        Some(disk) => disk,
        None if volume.used => {
            let name = &provided.name;
            let what = format!("the provider has no volume {name}, and it has had data");
            return Err(StorageError::Odd(what));
        }
        None => storage.make(&provided.name, gigabytes(whole(volume.size))).await?,
    };
    Ok(ProvidedStep::Made { id: disk.id, size: Bytes(disk.size_gigabytes << 30) })
}

fn droplet(at: &Attachment) -> Result<u64, StorageError> {
    let text = &at.droplet;
    let odd = |_| StorageError::Odd(format!("label {DROPLET}={text} isn't the id of a droplet"));
    text.parse().map_err(odd)
}

async fn attach(
    storage: &BlockStorage,
    state: &State,
    (name, provided): (&VolumeName, &Provided),
    at: &Attachment,
) -> Result<ProvidedStep, StorageError> {
    let (wanted, number, id) = (droplet(at)?, at.number, known(provided)?);
    let disk = there(storage, (name, provided)).await?;
    if disk.droplet_ids != [wanted] {
        for other in disk.droplet_ids.iter().filter(|one| **one != wanted) {
            // Nobody has it mounted there: the state would say so. It was an answer that came late.
            let other_text = other.to_string();
            let mut nodes = state.nodes.values();
            if !nodes.any(|node| node.labels.get(DROPLET) == Some(&other_text)) {
                return Err(StorageError::Odd(format!(
                    "volume {} is attached to droplet {other}, which is no node of this cluster. \
                     Detach it there",
                    provided.name
                )));
            }
            storage.detach(id, *other).await?;
        }
        if !disk.droplet_ids.contains(&wanted) {
            is_machine_of(storage, state, at, wanted).await?;
            storage.attach(id, wanted).await?;
        }
        let disk = there(storage, (name, provided)).await?;
        if disk.droplet_ids != [wanted] {
            let what = "the provider says that it has attached the volume, and hasn't".to_owned();
            return Err(StorageError::Odd(what));
        }
    }
    Ok(ProvidedStep::Attached { number })
}

/// The provider itself has to say that the node is that machine: what a member says of itself, or
/// a label that was mistyped, would bring the data to another one.
async fn is_machine_of(
    storage: &BlockStorage,
    state: &State,
    at: &Attachment,
    droplet: u64,
) -> Result<(), StorageError> {
    let odd = |what: String| Err(StorageError::Odd(what));
    let Some(node) = state.nodes.get(&at.node) else { return odd("its node was removed".into()) };
    let (name, address) = (&node.name, &node.address);
    let Some(addresses) = storage.addresses(droplet).await? else {
        return odd(format!(
            "the provider has no droplet {droplet}. Say which one {name} is: mill label {name} \
             {DROPLET}=ID"
        ));
    };
    let ip = |text: &String| text.parse::<IpAddr>().ok();
    if addresses.iter().any(|one| one == address || ip(one).is_some() && ip(one) == ip(address)) {
        return Ok(());
    }
    odd(format!(
        "droplet {droplet} has {} by the provider, and not {name}'s address {address}. Say which \
         one {name} is: mill label {name} {DROPLET}=ID; a node joins with an address of its \
         droplet: mill join --advertise IP",
        addresses.join(", ")
    ))
}

/// Only what the provider shows afterwards counts as confirmed.
async fn detach(
    storage: &BlockStorage,
    provided: &Provided,
    at: &Attachment,
) -> Result<ProvidedStep, StorageError> {
    let number = at.number;
    // Of what is no machine nothing was ever asked.
    let Ok(wanted) = droplet(at) else { return Ok(ProvidedStep::Detached { number }) };
    let id = match &provided.id {
        Some(id) => id.clone(),
        None => match storage.find(&provided.name).await? {
            Some(disk) => disk.id,
            None => return Ok(ProvidedStep::Detached { number }),
        },
    };
    let has_it =
        |disk: &Option<Disk>| disk.as_ref().is_some_and(|disk| disk.droplet_ids.contains(&wanted));
    if has_it(&storage.get(&id).await?) {
        storage.detach(&id, wanted).await?;
        if has_it(&storage.get(&id).await?) {
            let what = "the provider says that it has detached the volume, and hasn't".to_owned();
            return Err(StorageError::Odd(what));
        }
    }
    Ok(ProvidedStep::Detached { number })
}
