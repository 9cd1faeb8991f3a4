//! Certificates.

use super::support::Node;
use crate::api::wire::{
    CertificateRequest, CertificateSource, CertificateStatus, CertificateView, ErrorDocument,
};
use crate::fsm::{Command, FEATURE_LEVEL};
use rcgen::{CertificateParams, KeyPair};

/// A cluster whose nodes all know certificates.
async fn knowing() -> Node {
    let node = Node::start().await;
    node.apply(Command::Raise { level: FEATURE_LEVEL }).unwrap();
    node
}

/// A certificate for a host, as it is imported.
fn request(host: &str) -> CertificateRequest {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    CertificateRequest { certificate: made.pem(), key: key.serialize_pem() }
}

#[tokio::test]
async fn a_certificate_is_checked_and_its_key_never_shown() {
    let node = knowing().await;
    let json = node.local().header("content-type", "application/json");
    let body = |request: &CertificateRequest| serde_json::to_string(request).unwrap();
    let good = request("*.a.example");
    let other = CertificateRequest { key: request("x").key, ..good.clone() };
    for (host, request, why) in [
        ("b.example", &good, "the certificate is not for b.example: it is for *.a.example"),
        ("*.a.example", &other, "the key is not that of the certificate"),
        ("a_b..example", &good, "\"a_b..example\" is no host"),
    ] {
        let refused = json.send("PUT", &format!("/v1/certs/{host}"), body(request)).await;
        assert_eq!(refused.status, 400, "{host}");
        assert_eq!(refused.json::<ErrorDocument>().error.message, why);
    }
    assert!(node.state().certificates.is_empty());
    let set = json.send("PUT", "/v1/certs/*.A.example", body(&good)).await;
    assert_eq!(set.status, 200, "{}", set.body);
    let set: CertificateView = set.json();
    let seen = (set.host.as_str(), set.status.clone(), set.source.clone());
    let wanted = (CertificateStatus::Valid, Some(CertificateSource::Import));
    assert_eq!(seen, ("*.a.example", wanted.0, wanted.1));
    let all = node.local().get("/v1/certs").await;
    assert!(!all.body.contains("PRIVATE"), "{}", all.body);
    assert_eq!(all.json::<Vec<CertificateView>>(), [set]);
    let state = String::from_utf8(node.state().encode().unwrap()).unwrap();
    assert!(state.contains("BEGIN CERTIFICATE") && !state.contains("PRIVATE"), "sealed");
    let covered: CertificateView = node.local().get("/v1/certs/x.a.example").await.json();
    assert_eq!(covered.covered_by.as_deref(), Some("*.a.example"));
    let renew = json.send("POST", "/v1/certs/*.a.example/renew", "").await;
    assert_eq!(renew.status, 409, "{}", renew.body);
    assert_eq!(json.send("DELETE", "/v1/certs/*.a.example", "").await.status, 204);
    assert_eq!(node.local().get("/v1/certs/*.a.example").await.status, 404);
}

#[tokio::test]
async fn where_certificates_are_ordered_is_checked_and_sealed() {
    let node = knowing().await;
    let json = node.local().header("content-type", "application/json");
    for (body, why) in [
        ("{\"directory\": \"http://ca.example\"}", "is no https address"),
        ("{}", "is missing"),
        ("{\"email\": \"ops\"}", "is no address"),
        ("{\"eab\": \"kid\"}", "is no pair"),
        ("{\"eab\": \"kid:a+b/\"}", "is no base64url"),
        ("{\"staging\": true, \"directory\": \"https://ca.example\"}", "staging"),
    ] {
        let refused = json.send("PUT", "/v1/acme", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.body.contains(why), "{}", refused.body);
    }
    let good = "{\"email\": \"ops@a.example\", \"eab\": \"kid:c2VjcmV0\"}";
    assert_eq!(json.send("PUT", "/v1/acme", good).await.status, 204);
    let acme = node.state().certificates.acme.clone().unwrap();
    assert!(acme.directory.contains("letsencrypt") && acme.account.is_none());
    assert_eq!(acme.eab.as_ref().unwrap().id, "kid");
    assert!(!format!("{acme:?}").contains("c2VjcmV0"));
    assert_eq!(json.send("DELETE", "/v1/acme", "").await.status, 204);
    assert!(node.state().certificates.acme.is_none());
}
