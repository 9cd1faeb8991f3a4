//! Handlers of backups of the whole cluster, and of beginning it again from one.
//!
//! Owns that none leaves a member but encrypted. Never writes one to a disk.

use super::claims::check_unclaimed;
use super::context::{Context, now};
use super::error::ApiError;
use super::request::{self, Request, json};
use super::secrets::keyring;
use crate::actors::platform::backup;
use crate::api::views;
use crate::api::wire::{RestoreRequest, ScheduleRequest};
use crate::backup::Backup;
use crate::fsm::Command;
use crate::fsm::backups::BackupChange;
use crate::limits;
use crate::spec::cron::Schedule;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::http::header::CONTENT_TYPE;
use warp::http::{HeaderValue, Response as HttpResponse};
use warp::reply::Response;
use zeroize::Zeroizing;

/// `GET /v1/backup`.
pub async fn take(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let given: Vec<&str> = request.all("recipient").collect();
    let hint = "mill backup FILE makes one by itself; else: ?recipient=age1…";
    if given.is_empty() || given.len() > limits::BACKUP_RECIPIENTS {
        let most = limits::BACKUP_RECIPIENTS;
        let message = format!("a backup is encrypted for 1 to {most} recipients");
        return Err(ApiError::bad(message, hint));
    }
    let bad = |why: String| ApiError::bad(why, hint);
    let recipients = given.into_iter().map(backup::recipient).collect::<Result<Vec<_>, _>>();
    let recipients = recipients.map_err(bad)?;
    let reading = context.read().await?;
    let (state, keyring) = (Arc::clone(&reading.view.state), keyring(&context)?);
    let made =
        tokio::task::spawn_blocking(move || backup::of(&state, &keyring, now(), &recipients)).await;
    let failed = |reason: String| ApiError::Internal { doing: "taking a backup", reason };
    let file = made.unwrap_or_else(|lost| Err(lost.to_string())).map_err(failed)?;
    let mut response = HttpResponse::new(bytes::Bytes::from(file).into());
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reading.mark(response))
}

/// `GET /v1/backup/schedule`.
pub async fn schedule(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    Ok(reading.mark(json(StatusCode::OK, &views::backups(reading.state()))?))
}

/// `PUT /v1/backup/schedule`.
pub async fn set_schedule(
    context: Arc<Context>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let example = "{\"cron\": \"0 4 * * *\", \"to\": \"/srv/backups\", \"keep\": 7, \
                   \"recipients\": [\"age1…\"]}";
    let wanted: ScheduleRequest = request.json(example).await?;
    let ScheduleRequest { cron, to, keep, recipients } = wanted;
    let bad = |why: String| ApiError::bad(why, format!("send: {example}"));
    if let Err(why) = Schedule::parse(&cron) {
        return Err(bad(format!("the schedule {cron:?} {why}")));
    }
    if !to.starts_with('/') || to.contains('\0') {
        return Err(bad(format!("{to:?} is no absolute path of a folder on the nodes")));
    }
    if keep == 0 || keep > limits::BACKUP_KEEP_MAX {
        return Err(bad(format!("keep is {keep}, and not 1 to {}", limits::BACKUP_KEEP_MAX)));
    }
    if recipients.is_empty() || recipients.len() > limits::BACKUP_RECIPIENTS {
        let most = limits::BACKUP_RECIPIENTS;
        return Err(bad(format!("backups on a schedule are encrypted for 1 to {most} recipients")));
    }
    recipients.iter().try_for_each(|one| backup::recipient(one).map(drop).map_err(&bad))?;
    let recipients = recipients.iter().map(|one| one.trim().to_owned()).collect();
    change(&context, BackupChange::Set { cron, to, keep, recipients }).await
}

/// `DELETE /v1/backup/schedule`.
pub async fn end_schedule(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    change(&context, BackupChange::Off).await
}

async fn change(context: &Context, change: BackupChange) -> Result<Response, ApiError> {
    let done = context.propose(Command::Backups(change), None).await?;
    let view = context.view_after(&done)?;
    Ok(request::at(done.index, json(StatusCode::OK, &views::backups(&view.state))?))
}

/// `POST /v1/restore`.
pub async fn restore(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    check_unclaimed(&context)?;
    let labels = request.all("label").map(|label| {
        let pair = label.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| ApiError::bad("no KEY=VALUE", "?label=zone=a"))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    let wanted = RestoreRequest {
        labels: labels.collect::<Result<_, ApiError>>()?,
        node: request.one("node").map(str::to_owned),
        advertise: request.one("advertise").map(str::to_owned),
        nat: request.flag("nat")?,
    };
    let bytes = Zeroizing::new(request.bytes(limits::BACKUP_MAX).await?);
    let read = tokio::task::spawn_blocking(move || {
        let kept = Backup::decode(&bytes)?;
        kept.check(&mut crypto_box::aead::OsRng)?;
        Ok::<_, crate::backup::BackupError>(kept)
    });
    let lost = |error: tokio::task::JoinError| ApiError::Internal {
        doing: "reading the backup",
        reason: error.to_string(),
    };
    let unusable = |error: crate::backup::BackupError| {
        let message = format!("the backup can't be used: {error}");
        ApiError::BadRequest { message, hint: None }
    };
    let kept = read.await.map_err(lost)?.map_err(unusable)?;
    let done = context.ports.claims.restore(kept, wanted).await?;
    json(StatusCode::OK, &done)
}
