//! Keeping this node's certificate good: a new one when two thirds of it are over.
//!
//! Owns when another member is asked, and what is done when none answers. Never ends a connection:
//! those that are open go on with the certificate that they began with.

use super::credentials::{Credentials, SignError};
use super::dial::{Dial, DialError, dial};
use super::{call, join_service, place, wire};
use crate::actors::root::View;
use crate::cluster::trust;
use crate::id::{Incarnation, Index, NodeId};
use crate::limits;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// Why there is no new certificate yet.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    /// Nobody else could be asked, and this node can't sign either.
    #[error("no member signs a new certificate, and this node can't itself")]
    Nobody(#[source] Status),
    /// It isn't what was asked for, or can't be kept.
    #[error("the new certificate can't be used")]
    Useless(#[from] super::tls::TrustError),
    /// The disk.
    #[error(transparent)]
    Keys(#[from] super::keys::KeysError),
    #[error(transparent)]
    Request(#[from] SignError),
    /// Writing was broken off.
    #[error("writing the new certificate was broken off")]
    Aborted(#[from] tokio::task::JoinError),
}

/// Why a member did not sign.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    Refused(#[from] Status),
    #[error("no answer in {}s", limits::RENEW_ANSWER.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
}

/// What renewing needs.
pub(super) struct Renewal {
    pub(super) credentials: Arc<Credentials>,
    pub(super) incarnation: Incarnation,
    pub(super) dial: Dial,
    pub(super) views: watch::Receiver<Option<View>>,
}

impl Renewal {
    /// Renews the certificate for ever.
    pub(super) async fn keep(self) {
        loop {
            tokio::time::sleep(self.pause()).await;
            if !self.is_due() {
                continue;
            }
            let Some(view) = self.view().await else { return };
            let seen = view.index;
            match self.renew(view).await {
                Ok(()) => {
                    tracing::info!("this node's certificate was renewed");
                    continue;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "this node's certificate was not renewed; trying again");
                }
            }
            self.wait(seen).await;
        }
    }

    fn validity(&self) -> Option<trust::Validity> {
        trust::validity(&self.credentials.trust().certificate()).ok()
    }

    /// Until it is due, at most a while: the clock may be set meanwhile.
    fn pause(&self) -> Duration {
        if !self.is_good() {
            return Duration::ZERO;
        }
        let now = super::ca::now();
        let due = self.validity().map_or(now, trust::Validity::renew_at);
        Duration::from_millis(due.0.saturating_sub(now.0)).min(limits::RENEW_LOOK)
    }

    fn is_due(&self) -> bool {
        self.pause().is_zero()
    }

    /// Others take it as it is. One from the future, after the clock was wrong, they don't.
    fn is_good(&self) -> bool {
        self.validity().is_some_and(|validity| validity.holds_at(super::ca::now()))
    }

    /// Between two tries: many fit into what is left of the certificate.
    fn patience(&self) -> Duration {
        (self.credentials.life() / 60).min(limits::RENEW_AGAIN)
    }

    /// After a try with the state at that index failed. What is replayed may not have this node
    /// yet: without a good certificate each newer state is tried.
    async fn wait(&self, seen: Index) {
        if self.is_good() {
            return tokio::time::sleep(self.patience()).await;
        }
        tokio::time::sleep(limits::RENEW_SOON).await;
        let mut views = self.views.clone();
        let is_newer = |view: &Option<View>| view.as_ref().is_some_and(|v| v.index > seen);
        // Either way it is tried again.
        let _ = tokio::time::timeout(self.patience(), views.wait_for(is_newer)).await;
    }

    /// The state to go by: one that is current while the certificate is good, since the members
    /// of an old one may be none; the first at hand otherwise, for nobody confirms one then.
    async fn view(&self) -> Option<View> {
        let mut views = self.views.clone();
        if self.is_good() {
            let now = super::ca::now();
            let left = self.validity().map_or(0, |validity| validity.until.0.saturating_sub(now.0));
            let left = Duration::from_millis(left).min(limits::RENEW_LOOK);
            let is_current = |view: &Option<View>| view.as_ref().is_some_and(|view| view.current);
            if let Ok(seen) = tokio::time::timeout(left, views.wait_for(is_current)).await {
                return seen.ok()?.clone();
            }
        }
        views.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn renew(&self, view: View) -> Result<(), RenewError> {
        let csr = self.credentials.request()?;
        // The others refuse it, or may have none themselves: every member has what signing takes.
        if !self.is_good()
            && let Ok(certificate) = self.sign(&view, csr.clone()).await
        {
            return self.take(certificate).await;
        }
        let mut others: Vec<(NodeId, String)> = view
            .state
            .nodes
            .values()
            .filter(|node| node.id != view.node && node.is_up())
            .filter_map(|node| Some((node.id, place(node)?)))
            .collect();
        // The leader's clock is the cluster's.
        others.sort_by_key(|(id, _)| Some(*id) != view.leader);
        for (id, place) in others.into_iter().take(limits::RENEW_ASKS) {
            match self.ask(id, &place, csr.clone()).await {
                Ok(certificate) => return self.take(certificate).await,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::info!(node = %id, error, "a member did not renew the certificate");
                }
            }
        }
        // Alone, or cut off.
        let signed = self.sign(&view, csr).await.map_err(RenewError::Nobody)?;
        self.take(signed).await
    }

    /// Signed by this node itself.
    async fn sign(&self, view: &View, csr: Vec<u8>) -> Result<CertificateDer<'static>, Status> {
        let request = wire::CertificateRequest { csr: csr.into() };
        let credentials = Arc::clone(&self.credentials);
        let signed = join_service::renew(credentials, view.clone(), view.node, request).await?;
        Ok(CertificateDer::from(signed.certificate.to_vec()))
    }

    async fn ask(
        &self,
        node: NodeId,
        place: &str,
        csr: Vec<u8>,
    ) -> Result<CertificateDer<'static>, AskError> {
        let channel = dial(&self.dial, self.credentials.trust(), node, place).await?;
        let mut client = wire::peer_client::PeerClient::new(channel);
        let request = call(wire::CertificateRequest { csr: csr.into() }, self.incarnation);
        let signed = tokio::time::timeout(limits::RENEW_ANSWER, client.renew(request)).await??;
        Ok(CertificateDer::from(signed.into_inner().certificate.to_vec()))
    }

    async fn take(&self, certificate: CertificateDer<'static>) -> Result<(), RenewError> {
        // Shown first: a full disk is no reason to show one that expires.
        self.credentials.trust().renew(certificate.clone())?;
        loop {
            let (credentials, new) = (Arc::clone(&self.credentials), certificate.clone());
            let kept = tokio::task::spawn_blocking(move || credentials.keep(&new)).await?;
            let Err(error) = kept else { return Ok(()) };
            if self.is_due() {
                return Err(error.into());
            }
            let error: &(dyn std::error::Error + Sync) = &error;
            tracing::warn!(error, "the new certificate is used but not written; trying again");
            tokio::time::sleep(self.patience()).await;
        }
    }
}
