//! Tests of what is ordered and what is taken.

use super::read::{ReadError, read};
use super::*;
use crate::fsm::certificates::{Certificate, CertificateChange, Claim, Eab, Shown, key_purpose};
use crate::fsm::events::EventKind;
use crate::fsm::model::Ca;
use crate::fsm::{Command, Rejection, apply_next};
use crate::id::{BootId, NodeId};
use crate::node::ingress::fixture::Case;
use crate::secret::Sealed;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use yare::parameterized;

const DAY: u64 = 24 * 3_600_000;
/// A day of 2030.
const NOW: Timestamp = Timestamp(1_900_000_000_000);

fn sealed(key: &str, text: &str) -> Sealed {
    Sealed { key: key.to_owned(), text: text.to_owned() }
}

fn change(state: &mut State, change: CertificateChange) -> Result<(), Rejection> {
    apply_next(state, NOW, Command::Certificates(change)).outcome.map(drop)
}

fn claim(number: u64) -> Claim {
    Claim { node: NodeId(1), boot: BootId(1), number }
}

fn certificate(source: Source, days: (u64, u64)) -> Certificate {
    let at = |days: u64| Timestamp(NOW.0 - 60 * DAY + days * DAY);
    Certificate {
        source,
        chain: format!("{days:?}"),
        key: sealed("k1", &format!("key {days:?}")),
        issuer: "Test".to_owned(),
        not_before: at(days.0),
        not_after: at(days.1),
        renew_at: (source == Source::Acme).then(|| renew_at(at(days.0), at(days.1), 0)),
    }
}

/// A cluster with routes, and an authority.
fn case() -> State {
    let file = "service \"web\" { image \"a\"; port 80; route \"a.example\"
        route \"*.b.example\"; route \"c.localhost\"; route \"x.b.example\" }";
    let mut state = Case::new(file).state;
    state.ca = Some(Ca { cert: "pem".to_owned(), key: sealed("k1", "ca") });
    let eab = Some(Eab { id: "kid".to_owned(), key: sealed("k1", "eab") });
    let directory = "https://ca.example/dir".to_owned();
    let acme = Acme { directory, email: None, eab, account: None };
    change(&mut state, CertificateChange::Authority(Some(acme))).unwrap();
    state
}

fn hosts(state: &State) -> Vec<String> {
    all_due(state).into_iter().map(|(host, _)| host).collect()
}

#[test]
fn only_names_that_an_authority_knows_are_ordered() {
    let mut state = case();
    assert_eq!(hosts(&state), ["a.example", "x.b.example"]);
    let put = |host: &str| CertificateChange::Put {
        host: host.to_owned(),
        certificate: certificate(Source::Import, (0, 90)),
    };
    change(&mut state, put("*.b.example")).unwrap();
    assert_eq!(hosts(&state), ["a.example"], "a wildcard covers the other");
    assert!(serving(&state, "any.b.example").is_some());
    assert!(serving(&state, "any.one.b.example").is_none(), "one label deep");
    change(&mut state, CertificateChange::Authority(None)).unwrap();
    assert_eq!(hosts(&state), [""; 0], "nobody to order from");
}

#[parameterized(
    name = { "a.example", true },
    alone = { "example", false },
    wildcard = { "*.a.example", false },
    four = { "192.0.2.1", false },
    six = { "[2001:db8::1]", false },
    local = { "a.local", false },
    localhost = { "a.localhost", false },
    not_quite = { "alocalhost.example", true },
    home = { "a.home.arpa", false },
)]
fn names_are_public_or_not(host: &str, public: bool) {
    assert_eq!(is_public(host), public);
}

#[test]
fn a_host_has_one_order_at_a_time() {
    let (mut state, host) = (case(), || "a.example".to_owned());
    let make = |number, over| CertificateChange::Claim { host: host(), claim: claim(number), over };
    change(&mut state, make(1, None)).unwrap();
    assert_eq!(change(&mut state, make(2, None)), Err(Rejection::Stale), "there is one");
    change(&mut state, make(3, Some(claim(1)))).unwrap();
    assert_eq!(change(&mut state, make(4, Some(claim(1)))), Err(Rejection::Stale), "taken over");
    let shown = Shown { token: "t".to_owned(), authorization: "t.x".to_owned() };
    let show = |number| CertificateChange::Show {
        host: host(),
        claim: claim(number),
        shown: shown.clone(),
    };
    assert_eq!(change(&mut state, show(1)), Err(Rejection::Stale));
    change(&mut state, show(3)).unwrap();
    assert_eq!(state.certificates.unsettled().count(), 1);
    change(&mut state, CertificateChange::Settled { host: host(), claim: claim(3) }).unwrap();
    assert_eq!(state.certificates.unsettled().count(), 0);
    let issued = |number| CertificateChange::Issued {
        host: host(),
        claim: claim(number),
        certificate: certificate(Source::Acme, (0, 90)),
    };
    assert_eq!(change(&mut state, issued(1)), Err(Rejection::Stale));
    change(&mut state, issued(3)).unwrap();
    assert_eq!(state.certificates.hosts[&host()].order, None);
    let last = state.events.values().next_back().map(|event| event.kind);
    assert_eq!(last, Some(EventKind::CertificateIssued));
    assert_eq!(due(&state, "a.example"), Some(Timestamp(NOW.0 - 3 * DAY)), "57 of 90 days");
}

#[test]
fn a_failure_waits_and_leaves_what_there_is() {
    let (mut state, host) = (case(), || "a.example".to_owned());
    let old = certificate(Source::Acme, (0, 90));
    let make = |number, over| CertificateChange::Claim { host: host(), claim: claim(number), over };
    change(&mut state, make(1, None)).unwrap();
    let certificate = old.clone();
    let issued = CertificateChange::Issued { host: host(), claim: claim(1), certificate };
    change(&mut state, issued).unwrap();
    for number in 2..4 {
        change(&mut state, make(number, None)).unwrap();
        let next = NOW.plus(backoff(number as u32 - 1));
        let (claim, error) = (claim(number), "refused".to_owned());
        change(&mut state, CertificateChange::Failed { host: host(), claim, error, next }).unwrap();
    }
    let one = &state.certificates.hosts[&host()];
    assert_eq!((one.failures, one.certificate.as_deref()), (2, Some(&old)));
    assert_eq!(due(&state, "a.example"), Some(NOW.plus(Millis(120_000))));
    change(&mut state, CertificateChange::Renew { host: host() }).unwrap();
    assert_eq!(due(&state, "a.example"), Some(NOW), "whoever asks doesn't wait");
    let certificate = self::certificate(Source::Import, (1, 90));
    change(&mut state, CertificateChange::Put { host: host(), certificate }).unwrap();
    assert!(change(&mut state, CertificateChange::Renew { host: host() }).is_err());
    let kinds: Vec<EventKind> = state.events.values().map(|event| event.kind).collect();
    let failed = EventKind::CertificateFailed;
    let last = [failed, failed, EventKind::CertificateImported];
    assert!(kinds.ends_with(&last), "{kinds:?}");
}

#[test]
fn the_keyring_seals_all_of_it() {
    let mut state = case();
    let directory = "https://ca.example/dir".to_owned();
    let account = Some(sealed("k1", "account"));
    change(&mut state, CertificateChange::Account { directory, account }).unwrap();
    let mut put = |host: &str, key: &str| {
        let certificate = certificate(Source::Import, (0, 90));
        let certificate = Certificate { key: sealed(key, "key of a"), ..certificate };
        change(&mut state, CertificateChange::Put { host: host.to_owned(), certificate })
    };
    assert_eq!(put("a.example", "k0"), Err(Rejection::Stale), "of a keyring that is past");
    put("a.example", "k1").unwrap();
    let purposes: Vec<String> = state.sealed().into_iter().map(|(purpose, _)| purpose).collect();
    for purpose in ["acme account", "acme external account", &key_purpose("a.example")] {
        assert!(purposes.iter().any(|one| one == purpose), "{purpose}");
    }
    let anew = |one: &Sealed| Ok::<_, ()>(sealed("k2", &one.text));
    state.reseal_for_test(anew);
    let all = state.sealed();
    let of_keyring = |key: &str| all.iter().filter(|(_, one)| one.key == key).count();
    assert_eq!((of_keyring("k1"), of_keyring("k2")), (1, 3), "all but that of the CA");
}

#[test]
fn waits_grow_to_six_hours() {
    let minutes: Vec<u64> = (1..=6).map(|failures| backoff(failures).0 / 60_000).collect();
    assert_eq!(minutes, [1, 2, 2, 5, 10, 10]);
    assert_eq!(backoff(u32::MAX).0, 6 * 3_600_000);
}

#[parameterized(
    alone = { 1, None, 60 },
    shorter = { 4, Some(1), 300 },
    longer = { 1, Some(3_600), 3_600 },
    days = { 18, Some(2 * 86_400), 2 * 86_400 },
    endless = { 1, Some(u64::MAX / 1000), 7 * 86_400 },
)]
fn whoever_is_asked_to_wait_waits(failures: u32, asked: Option<u64>, seconds: u64) {
    let asked = asked.map(|seconds| Millis(seconds * 1000));
    assert_eq!(wait(failures, asked), Millis(seconds * 1000));
}

#[test]
fn lets_encrypt_has_a_place_for_tries() {
    assert_eq!(trial(LETS_ENCRYPT), Some(STAGING));
    assert_eq!((trial(STAGING), trial("https://ca.example/dir")), (None, None));
}

#[parameterized(
    lets_encrypt = { LETS_ENCRYPT, None, "mill cert setup --eab KID:HMAC" },
    staging = { STAGING, None, "mill cert setup --staging --eab KID:HMAC" },
    other = { "https://ca.example/dir", Some("ops@a.example"),
        "mill cert setup --email ops@a.example --directory https://ca.example/dir --eab KID:HMAC" },
)]
fn an_authority_is_set_up_anew_with_all_that_was_said(
    directory: &str,
    email: Option<&str>,
    line: &str,
) {
    let (directory, email) = (directory.to_owned(), email.map(str::to_owned));
    assert_eq!(setup_line(&Acme { directory, email, eab: None, account: None }), line);
}

#[test]
fn renewals_are_spread_and_never_late() {
    let (from, until) = (Timestamp(0), Timestamp(90 * DAY));
    for random in [0, 1, u64::MAX / 2, u64::MAX] {
        let at = renew_at(from, until, random);
        assert!((57 * DAY..=63 * DAY).contains(&at.0), "{}", at.0 / DAY);
        let asked = (Timestamp(88 * DAY), Timestamp(89 * DAY));
        assert!(renew_within(asked, (from, until), random).0 <= 86 * DAY, "4.5 days before");
        let asked = (Timestamp(10 * DAY), Timestamp(12 * DAY));
        let at = renew_within(asked, (from, until), random).0;
        assert!((10 * DAY..12 * DAY).contains(&at));
    }
}

#[test]
fn what_ends_soon_is_told() {
    let long = certificate(Source::Acme, (0, 90));
    let at = |days| Timestamp(long.not_after.0 - days * DAY);
    assert!(!ends_soon(&long, at(15)) && ends_soon(&long, at(13)) && ends_soon(&long, at(0)));
    let short = Certificate { not_before: at(6), ..long.clone() };
    assert!(!ends_soon(&short, at(2)) && ends_soon(&short, Timestamp(at(0).0 - DAY / 2)));
}

#[test]
fn what_nobody_needs_is_forgotten_after_its_end() {
    let mut state = case();
    let mut put = |host: &str, days| {
        let certificate = certificate(Source::Import, days);
        change(&mut state, CertificateChange::Put { host: host.to_owned(), certificate }).unwrap();
    };
    put("a.example", (0, 30));
    put("past.example", (0, 30));
    put("left.example", (0, 90));
    assert_eq!(forgotten(&state, NOW), ["past.example"]);
}

/// An authority, and a certificate of it for these names.
fn issue(names: &[&str], days: (i32, i32)) -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, "Test Org");
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2030 + days.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030 + days.1, 1, 1);
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &authority).unwrap();
    (own.pem(), authority.pem(), key.serialize_pem())
}

#[test]
fn a_certificate_is_checked_before_it_is_taken() {
    let (own, authority, key) = issue(&["a.example", "*.b.example"], (0, 1));
    let chain = format!("{own}{authority}");
    let good = read(&chain, &key, "a.example", NOW).unwrap();
    assert_eq!(good.issuer, "Test Org Test CA");
    assert!(good.not_before < NOW && NOW < good.not_after);
    for host in ["x.b.example", "*.b.example"] {
        assert_eq!(read(&own, &key, host, NOW).unwrap(), good, "{host}");
    }
    for host in ["b.example", "x.y.b.example", "*.example", "*.a.example"] {
        let error = read(&chain, &key, host, NOW).unwrap_err().to_string();
        let said = format!("the certificate is not for {host}: it is for a.example, *.b.example");
        assert_eq!(error, said);
    }
    let (_, _, other_key) = issue(&["a.example"], (0, 1));
    assert_eq!(read(&chain, &other_key, "a.example", NOW), Err(ReadError::OtherKey));
    let (stranger, _, _) = issue(&["z.example"], (0, 1));
    let wrong = read(&format!("{own}{stranger}"), &key, "a.example", NOW);
    assert!(matches!(wrong, Err(ReadError::Chain { place: 2, .. })), "{wrong:?}");
    let mut cases = vec![("", &*key, ReadError::Certificate), (&*chain, "", ReadError::Key)];
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    cases.push((none, &key, ReadError::Certificate));
    for (chain, key, expected) in cases {
        assert_eq!(read(chain, key, "a.example", NOW), Err(expected));
    }
    let large = " ".repeat(65 << 10);
    assert!(matches!(read(&large, &key, "a", NOW), Err(ReadError::TooLarge { .. })));
    let (past, _, key) = issue(&["a.example"], (-2, -1));
    assert!(matches!(read(&past, &key, "a.example", NOW), Err(ReadError::Over(_))));
    let (early, _, key) = issue(&["a.example"], (1, 2));
    assert!(matches!(read(&early, &key, "a.example", NOW), Err(ReadError::Early(_))));
}
