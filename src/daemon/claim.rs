//! How an unclaimed node becomes a member: what `init`, `join` and `restore` share.
//!
//! Owns the order: everything that can fail is tried before the identity is written. Never claims a
//! node twice.

mod first;
mod joined;
mod restored;

use super::{Identity, Shared, address, begin, equipment, recover};
use crate::actors::api::{ApiError, Membership};
use crate::actors::peer::keys::NodeKeys;
use crate::actors::root::{self, RootRef};
use crate::api::wire::{InitRequest, InitView, JoinRequest, JoinView};
use crate::api::wire::{RestoreRequest, RestoreView};
use crate::backup::Backup;
use crate::cluster::join::{self, is_name};
use crate::limits;
use crate::reasons::with_reasons;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Makes this node the first of a new cluster.
///
/// # Errors
/// It is a member already, or can't run containers, or its ports are taken.
pub(super) async fn init(
    shared: &Arc<Shared>,
    root: &RootRef,
    request: InitRequest,
) -> Result<InitView, ApiError> {
    let _one_at_a_time = shared.claiming.lock().await;
    check_unclaimed(shared)?;
    check_labels(&request.labels)?;
    first::init(shared, root, request).await
}

/// Makes this node one more of a cluster.
///
/// # Errors
/// It is a member already, or the cluster doesn't let it in, or it can't run containers.
pub(super) async fn join(
    shared: &Arc<Shared>,
    root: &RootRef,
    request: JoinRequest,
) -> Result<JoinView, ApiError> {
    let _one_at_a_time = shared.claiming.lock().await;
    check_unclaimed(shared)?;
    check_labels(&request.labels)?;
    joined::join(shared, root, request).await
}

/// Makes this node the first of a cluster that is lost, from a backup of it.
///
/// # Errors
/// It is a member already, or the backup can't be used, or it can't run containers.
pub(super) async fn restore(
    shared: &Arc<Shared>,
    root: &RootRef,
    backup: Backup,
    request: RestoreRequest,
) -> Result<RestoreView, ApiError> {
    let _one_at_a_time = shared.claiming.lock().await;
    check_unclaimed(shared)?;
    check_labels(&request.labels)?;
    restored::restore(shared, root, backup, request).await
}

fn check_unclaimed(shared: &Shared) -> Result<(), ApiError> {
    let Some(who) = shared.identity.get() else { return Ok(()) };
    let message = format!("this node is a member of {} already", who.cluster.name);
    let hint = "to go to another cluster: mill leave; to start over: mill down --all, stop the \
                daemon, mill clean"
        .to_owned();
    Err(ApiError::Conflict { message, hint: Some(hint) })
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let all: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    join::check_labels(&all).map_err(|no| ApiError::bad(no.to_string(), no.hint()))
}

/// The node begins the life of a member; done when it is ready.
async fn settle(
    shared: &Arc<Shared>,
    root: &RootRef,
    who: Identity,
    made: equipment::Made,
) -> Result<Arc<equipment::Equipment>, ApiError> {
    let keys = made.keys.clone();
    let equipment = equipment::of(&shared.config, &who, Some(made)).map_err(|e| conflict(&e))?;
    let equipment = Arc::new(equipment);
    let platform = shared.platform(&who, &equipment.keyring).await;
    platform.map_err(|error| conflict(&error))?;
    write_keys(shared, keys).await?;
    write(shared, who.clone()).await?;
    // Of a restored one the log lies ready; now it counts.
    recover::finish(&shared.config.data_dir, Some(&who)).map_err(|error| conflict(&error))?;
    let begun = begin(shared, root, who.clone(), Arc::clone(&equipment)).await;
    begun.map_err(|error| conflict(&error))?;
    let patience = if who.init.is_some() { limits::INIT_READY } else { limits::JOIN_READY };
    let ready = wait_until_ready(root, patience).await;
    if ready.is_err() {
        // It is a member all the same, and ready once the others answer.
        open_doors(shared, &equipment);
    }
    ready?;
    write(shared, Identity { begun: true, ..who }).await?;
    Ok(equipment)
}

/// From now on the API is served on TCP too.
fn open_doors(shared: &Shared, equipment: &equipment::Equipment) {
    shared.membership.send_replace(Membership::Member { tcp: equipment.api.clone() });
}

async fn write(shared: &Shared, who: Identity) -> Result<(), ApiError> {
    let data = shared.config.data_dir.clone();
    let wrote = tokio::task::spawn_blocking(move || who.write(&data)).await;
    wrote.map_err(|error| conflict(&error))?.map_err(|error| conflict(&error))
}

async fn write_keys(shared: &Shared, keys: NodeKeys) -> Result<(), ApiError> {
    let data = shared.config.data_dir.clone();
    let wrote = tokio::task::spawn_blocking(move || keys.write(&data)).await;
    wrote.map_err(|error| conflict(&error))?.map_err(|error| conflict(&error))
}

fn checked_name(what: &str, name: String) -> Result<String, ApiError> {
    if is_name(&name) {
        return Ok(name);
    }
    let message = format!("{what} name {name:?} is not 1 to 50 of a-z, 0-9 and -");
    Err(ApiError::BadRequest { message, hint: Some(format!("pass --{what} NAME")) })
}

/// The address that was given, else the one of the peer port if it is on one only, else another.
/// Whether it is one that the host doesn't have comes with it.
fn advertised(
    shared: &Shared,
    (given, nat): (Option<&str>, bool),
    otherwise: impl FnOnce() -> IpAddr,
) -> Result<(IpAddr, bool), ApiError> {
    let bound = address::bound(&shared.config);
    let Some(text) = given else { return Ok((bound.unwrap_or_else(otherwise), false)) };
    let address = parsed_address(text)?;
    if nat || address::is_here(address) {
        return Ok((address, nat));
    }
    Err(ApiError::BadRequest {
        message: format!("this host does not have the address {address}"),
        hint: Some(format!(
            "pass --advertise with one that it has; if others reach it at {address} by \
             translation: --advertise-nat {address}"
        )),
    })
}

fn parsed_address(text: &str) -> Result<IpAddr, ApiError> {
    let parsed = text.parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
    parsed.ok_or_else(|| ApiError::BadRequest {
        message: format!("{text:?} is not an address that others could reach"),
        hint: Some("pass --advertise 192.0.2.7".to_owned()),
    })
}

/// The host's name in the letters that a name may have.
fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let first = name.split('.').next().unwrap_or_default();
    let kept: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(50).collect();
    let kept = kept.trim_matches('-').to_owned();
    if kept.is_empty() { "n1".to_owned() } else { kept }
}

fn conflict(error: &dyn std::error::Error) -> ApiError {
    ApiError::Conflict { message: with_reasons(error), hint: None }
}

async fn wait_until_ready(root: &RootRef, patience: Duration) -> Result<(), ApiError> {
    let ready = root.call(root::Msg::Ready, Some(patience)).await;
    match ready {
        Ok(answer) if answer.is_success() => Ok(()),
        _ => Err(ApiError::Conflict {
            message: "the node was let in, but it is not ready yet".to_owned(),
            hint: Some(
                "whether it gets there, and why not: mill status; to undo it: mill leave"
                    .to_owned(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_name_is_made_one_and_addresses_are_checked() {
        assert!(is_name(&host_name()));
        assert!(parsed_address("10.0.0.1").is_ok());
        for wrong in ["", "0.0.0.0", "n1.lan", "10.0.0.1:4401"] {
            assert!(parsed_address(wrong).is_err(), "{wrong}");
        }
    }
}
