//! One pull for all who want the same image.
//!
//! Owns which pulls are under way. Never keeps one that nobody waits for.

use super::error::ImageError;
use super::{Image, Inner, lock};
use crate::id::Digest;
use crate::spec::image::Reference;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

type Outcome = Result<Arc<Image>, ImageError>;

/// The pulls under way, by digest.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Digest, Weak<Flight>>>);

/// A pull under way; ends when the last who waits for it is gone.
#[derive(Debug)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    // Held so that dropping the flight ends the task.
    _task: JoinSet<()>,
}

/// Waits for the pull of an image, beginning it if nobody has.
pub(super) async fn join(inner: &Arc<Inner>, image: &Reference, digest: &Digest) -> Outcome {
    let flight = begin(inner, image, digest);
    let mut outcome = flight.outcome.clone();
    let done = outcome.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
    done.ok_or_else(|| ImageError::GivenUp { reference: image.to_string() })?
}

fn begin(inner: &Arc<Inner>, image: &Reference, digest: &Digest) -> Arc<Flight> {
    let mut flights = lock(&inner.flights.0);
    flights.retain(|_, flight| flight.strong_count() > 0);
    let under_way = flights.get(digest).and_then(Weak::upgrade);
    if let Some(flight) = under_way.filter(|flight| flight.outcome.borrow().is_none()) {
        return flight;
    }
    let (done, outcome) = watch::channel(None);
    let mut task = JoinSet::new();
    let (inner, image, top) = (Arc::clone(inner), image.clone(), digest.clone());
    task.spawn(async move {
        // Forgotten also when nobody waits any more and this ends in the middle.
        let mut figures = Forget { inner: &inner, top: &top, well: false };
        let mut pulled = inner.pull(&image, &top).await;
        // Room may be had: what nothing needs goes, and then once more.
        if let Err(ImageError::DiskFull { .. }) = &pulled
            && inner.collect(Duration::ZERO).await.is_ok_and(|gone| !gone.is_empty())
        {
            pulled = inner.pull(&image, &top).await;
        }
        let pulled = match pulled {
            Ok(resolved) => inner.finish(&resolved).await,
            Err(error) => Err(error),
        };
        figures.well = pulled.is_ok();
        drop(figures);
        let well = pulled.is_ok();
        let _ = done.send(Some(pulled));
        if well {
            // Not of this task, which ends when those who waited are gone.
            tokio::spawn(async move { inner.relieve().await });
        }
    });
    let flight = Arc::new(Flight { outcome, _task: task });
    flights.insert(digest.clone(), Arc::downgrade(&flight));
    flight
}

/// Ends the figures of a pull with it.
struct Forget<'a> {
    inner: &'a Inner,
    top: &'a Digest,
    well: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.inner.pulls.send_modify(|pulls| pulls.end(self.top, self.well));
    }
}
