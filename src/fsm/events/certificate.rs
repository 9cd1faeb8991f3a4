//! What happened to the certificate of a host.

use super::{EventKind, Found};
use crate::fsm::State;
use crate::fsm::certificates::Source;

impl Found {
    pub(super) fn certificate(&mut self, host: &str, before: &State, after: &State) {
        let Some(new) = after.certificates.hosts.get(host) else { return };
        let old = before.certificates.hosts.get(host);
        if new.failures > old.map_or(0, |old| old.failures) {
            let error = new.error.as_deref().unwrap_or("no reason is known");
            let message = Some(format!("{host}: {error}"));
            self.push(EventKind::CertificateFailed, |event| event.message = message);
        }
        let known = before.certificates.of(host);
        let Some(certificate) = &new.certificate else { return };
        if known.is_some_and(|known| known.chain == certificate.chain) {
            return;
        }
        let kind = match (certificate.source, known) {
            (Source::Import, _) => EventKind::CertificateImported,
            (Source::Acme, None) => EventKind::CertificateIssued,
            (Source::Acme, Some(_)) => EventKind::CertificateRenewed,
        };
        let message = format!("{host}, until {}", certificate.not_after);
        self.push(kind, |event| event.message = Some(message));
    }
}
