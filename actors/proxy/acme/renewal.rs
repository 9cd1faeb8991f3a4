//! When an authority wants its certificates renewed (RFC 9773).
//!
//! Owns what is asked and how it is read. Never orders anything.

use super::{Desk, time};
use crate::actors::root::View;
use crate::fsm::certificates::{Certificate, CertificateChange, Source};
use crate::limits;
use crate::node::certificates::{all_due, renew_within};
use crate::units::{Millis, Timestamp};
use instant_acme::{CertificateIdentifier, Error};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::sync::Arc;

/// As what an authority knows a certificate that was ordered.
pub(super) fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    if certificate.source != Source::Acme {
        return None;
    }
    let own = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).ok()?;
    CertificateIdentifier::try_from(&own).ok().map(CertificateIdentifier::into_owned)
}

/// Asks when the next certificates are due, where the authority says so.
pub(super) async fn look_at_renewals(desk: Arc<Desk>, view: View) {
    if view.state.certificates.acme.as_ref().is_none_or(|acme| acme.account.is_none()) {
        return;
    }
    let Ok(account) = desk.account().await else { return };
    for (host, due) in all_due(&view.state) {
        let known = view.state.certificates.of(&host).filter(|_| due > time(&view));
        let Some(certificate) = known else { continue };
        let Some(id) = identifier(certificate) else { continue };
        let asked = tokio::time::timeout(limits::ACME_CALL, account.renewal_info(&id)).await;
        let window = match asked {
            Ok(Ok((info, _))) => info.suggested_window,
            Ok(Err(Error::Unsupported(_))) => return,
            _ => continue,
        };
        let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0) * 1000);
        let (start, end) = (at(window.start.unix_timestamp()), at(window.end.unix_timestamp()));
        if certificate.renew_at.is_some_and(|at| start <= at && at <= end) {
            continue;
        }
        let life = (certificate.not_before, certificate.not_after);
        let at = renew_within((start, end), life, rand::random());
        // A window that was missed is as good as now, and once is enough.
        let is_news = certificate.renew_at.is_none_or(|known| {
            known.since(at).0.max(at.since(known).0) > Millis::from(limits::HOST_LOOK_CALM).0
        });
        if is_news {
            tracing::info!(host, %at, "the authority asks for a renewal then");
            desk.tell(CertificateChange::RenewAt { host, at });
        }
    }
}
