//! Who mill is to registries, and what of that a registry gets to know.

use super::fake::{FakeRegistry, Kind};
use super::{Host, jwt};
use crate::registry::{PASSWORD, Registry, USER};
use mill::actors::platform::image::{ImageError, RegistryConfig, Who};
use mill::fsm::login::{Logins, RegistryLogin};
use mill::node::oci::Platform;
use mill::node::oci::docker_config::Login;
use mill::secret::{Keyring, OwnKey, SealKey, Sealed, Secret};
use mill::units::Timestamp;
use std::sync::Arc;

const BASIC: &str = "Basic YW5uOnJpZ2h0LWhvcnNlLTc=";

fn login(password: &str) -> Login {
    Login { user: USER.to_owned(), password: Secret::new(password) }
}

/// The state's record of a login.
fn logins(registry: &str, password: Sealed) -> Logins {
    let login = RegistryLogin { user: USER.to_owned(), password, since: Timestamp(0) };
    Logins::unit(registry.to_owned(), Arc::new(login))
}

fn with_key() -> RegistryConfig {
    let (own, mut random) = (OwnKey::new([4; 32]), crypto_box::aead::OsRng);
    let sealed = SealKey::new([3; 32]).for_node(&own.public(), &mut random).unwrap();
    let keyring = Keyring::new(own);
    assert_eq!(keyring.take_up(&sealed), Ok(true));
    RegistryConfig { key: Some(keyring), ..RegistryConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_with_htpasswd_and_tls_lets_in_who_logs_in() {
    let registry = Registry::start_guarded();
    let host = Host::make(with_key(), None).await;
    let (address, reference) = (registry.address(), registry.image("hello:v1"));
    let error = host.images.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { who: Who::Nobody, .. }), "{error:?}");
    assert!(!error.is_temporary());
    assert!(error.to_string().contains(&format!("mill image login {address} --user")), "{error}");

    let error = host.images.login(&address, login("wr0ng")).await.unwrap_err();
    assert!(matches!(error, ImageError::LoginRefused { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"));
    let sealed = host.images.login(&address, login(PASSWORD)).await.unwrap();
    assert!(!format!("{sealed:?}").contains(PASSWORD));

    host.images.use_logins(&logins(&address, sealed));
    host.pull(&reference).await;
    host.images.use_logins(&Logins::new());
    let error = host.images.resolve(&registry.image("hello:v2")).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "logged out: {error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_of_docker_count_where_mill_has_none() {
    let registry = FakeRegistry::start().await;
    let (digest, _) = registry.image(&Platform::host().architecture, &[b"one"]);
    registry.tag("v1", &digest);
    registry.guard(BASIC, "Basic realm=\"x\"");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let config = RegistryConfig { docker_config: Some(file.clone()), ..with_key() };
    let host = Host::make(config, None).await;
    let reference = registry.reference("v1");
    let address = &registry.address;
    let cases = [
        (format!(r#"{{"auths": {{"{address}": {{}}}}, "credsStore": "desktop"}}"#), "desktop"),
        (format!(r#"{{"credHelpers": {{"{address}": "ecr-login"}}}}"#), "ecr-login"),
        (format!(r#"{{"auths": {{"{address}": {{"identitytoken": "t"}}}}}}"#), "identity token"),
        ("{nonsense".to_owned(), "isn't Docker's configuration"),
    ];
    for (text, said) in cases {
        std::fs::write(&file, text).unwrap();
        let error = host.images.resolve(&reference).await.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("mill image login"), "{error}");
    }
    std::fs::write(&file, format!(r#"{{"auths": {{"{address}": {{"auth": "YW5uOndyb25n"}}}}}}"#))
        .unwrap();
    let error = host.images.resolve(&reference).await.unwrap_err();
    let who = Who::User(USER.to_owned());
    let ImageError::Unauthorized { who: asked, .. } = error else { panic!("{error:?}") };
    assert_eq!(asked, who, "a wrong password is told with the user");
    std::fs::write(
        &file,
        format!(r#"{{"auths": {{"{address}": {{"auth": "YW5uOnJpZ2h0LWhvcnNlLTc="}}}}}}"#),
    )
    .unwrap();
    host.pull(&reference).await;
    let seen = registry.asked().into_iter().rev();
    let blobs: Vec<_> = seen.filter(|asked| asked.path.contains("/blobs/")).collect();
    assert!(!blobs.is_empty() && blobs.iter().all(|b| b.authorization.as_deref() == Some(BASIC)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_once_and_only_their_place_sees_the_password() {
    let registry = FakeRegistry::start().await;
    let (digest, _) = registry.image(&Platform::host().architecture, &[b"one", b"two"]);
    registry.tag("v1", &digest);
    let places = FakeRegistry::start().await;
    let token = br#"{"access_token": "t0ken", "expires_in": 300}"#;
    places.serve_at("token", "application/json", token);
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", places.address);
    registry.guard("Bearer t0ken", &challenge);
    let host = Host::make(with_key(), None).await;
    let reference = registry.reference("v1");

    host.images.resolve(&reference).await.unwrap();
    let asked = places.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].path.starts_with("/token?service=s&scope=repository%3Aapp%3Apull"));
    assert_eq!(asked[0].authorization, None, "anybody may have this one");

    let key = SealKey::new([3; 32]);
    let purpose = format!("registry login {}", registry.address);
    let sealed = key.seal(&purpose, &Secret::new(PASSWORD), [1; 12]).unwrap();
    host.images.use_logins(&logins(&registry.address, sealed));
    host.pull(&reference).await;
    let asked = places.asked();
    assert_eq!(asked.len(), 2, "one more token, of the login: {asked:?}");
    assert_eq!(asked[1].authorization.as_deref(), Some(BASIC));
    assert!(asked[1].path.contains("account=ann"));
    let known = |one: &super::fake::Asked| {
        one.authorization.as_deref().is_none_or(|text| text == "Bearer t0ken")
    };
    assert!(registry.asked().iter().all(known), "the registry itself sees tokens only");

    places.fail("token", Kind::Status(401), 100);
    let error = host.images.login(&registry.address, login("wrong")).await.unwrap_err();
    assert!(matches!(error, ImageError::LoginRefused { .. }), "{error:?}");
    places.heal();
    for nonsense in [&b"{}"[..], b"[]", b"{\"token\": \"a\\nb\"}", &[b' '; 300 << 10]] {
        places.serve_at("token", "application/json", nonsense);
        host.images.use_logins(&Logins::new());
        let other = registry.reference("v1").replace("/app", "/other");
        let error = host.images.resolve(&other).await.unwrap_err();
        assert!(matches!(error, ImageError::Strange { .. }), "{error:?}");
        let sealed = key.seal(&purpose, &Secret::new(PASSWORD), [2; 12]).unwrap();
        host.images.use_logins(&logins(&registry.address, sealed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_wants_tokens_gets_them() {
    let places = FakeRegistry::start().await;
    let registry = Registry::start_with_tokens(&format!("http://{}/token", places.address));
    let host = Host::make(with_key(), None).await;
    let reference = registry.image("hello:v1");
    places.serve_at("token", "application/json", b"{\"token\": \"bm90.b25l.x\"}");
    let error = host.images.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error:?}");
    let other = format!("{{\"token\": \"{}\"}}", jwt::sign(&registry, "other"));
    places.serve_at("token", "application/json", other.as_bytes());
    host.images.use_logins(&Logins::unit("x".to_owned(), sealed_elsewhere()));
    let error = host.images.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "of another image: {error:?}");
    let token = format!("{{\"token\": \"{}\"}}", jwt::sign(&registry, "hello"));
    places.serve_at("token", "application/json", token.as_bytes());
    host.images.use_logins(&Logins::new());
    host.pull(&reference).await;
    assert!(places.asked().iter().all(|one| one.path.contains("scope=repository%3Ahello%3Apull")));
}

/// A login that this node can't open: it counts for nothing.
fn sealed_elsewhere() -> Arc<RegistryLogin> {
    let password = Sealed { key: "other".to_owned(), text: "x".to_owned() };
    Arc::new(RegistryLogin { user: USER.to_owned(), password, since: Timestamp(0) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let registry = FakeRegistry::start().await;
    let other = FakeRegistry::start().await;
    let (digest, layers) = registry.image(&Platform::host().architecture, &[b"elsewhere"]);
    other.image(&Platform::host().architecture, &[b"elsewhere"]);
    registry.tag("v1", &digest);
    registry.guard(BASIC, "Basic realm=\"x\"");
    let host = Host::make(with_key(), None).await;
    let sealed = host.images.login(&registry.address, login(PASSWORD)).await.unwrap();
    host.images.use_logins(&logins(&registry.address, sealed));
    let reference = registry.reference("v1");
    let layer = layers[0].as_str();
    let to = |place: String| Kind::Says(307, format!("Location: {place}"), String::new());

    registry.fail(layer, to(format!("http://{}/v2/app/blobs/{layer}", registry.address)), 1000);
    let error = host.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(matches!(&error, ImageError::Strange { .. }), "{error:?}");
    assert!(error.to_string().contains("redirects without end"), "{error}");
    host.assert_empty();
    registry.heal();
    registry.fail(layer, to("ftp://x/y".to_owned()), 1);
    let error = host.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(matches!(error, ImageError::Strange { .. }), "{error:?}");

    registry.heal();
    registry.fail(layer, to(format!("http://{}/elsewhere/{layer}", other.address)), 1);
    host.images.ensure(&reference, &digest).await.unwrap();
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|one| one.authorization.is_none()), "{asked:?}");
}
