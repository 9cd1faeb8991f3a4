//! Who is let in, what is paused, and what is written down of it.

use super::support::Site;
use crate::actors::proxy::AccessLog;
use crate::actors::proxy::shared::Settings;
use crate::api::wire::AccessView;
use crate::fsm::Command;
use crate::fsm::routes::RouteChange;
use crate::fsm::secrets::{NewSecret, SecretChange, secret_purpose};
use crate::secret::{Keyring, OwnKey, SealKey};
use base64::Engine as _;
use std::path::Path;

/// `secret` by SHA-1.
const SECRET: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

#[tokio::test]
async fn a_paused_host_has_its_page_and_the_others_go_on() {
    let mut site = Site::new(
        1,
        "route \"a.example\"; route \"a.example\" path=\"/x\"
        route \"b.example\"",
    )
    .await;
    let pause = |message: &str| {
        let (host, message) = ("a.example".to_owned(), message.to_owned());
        Command::Routes(RouteChange::Pause { host, message })
    };
    site.case.try_change(pause("Back at noon")).unwrap();
    site.show();
    for path in ["/", "/x/y"] {
        let paused = site.get(path).await;
        assert_eq!((paused.status, paused.body.as_str()), (503, "503 Back at noon\n"));
        assert_eq!(paused.header("mill-error").as_deref(), Some("paused"));
        assert_eq!(paused.header("retry-after").as_deref(), Some("60"));
    }
    assert_eq!(site.ask("GET / HTTP/1.1|Host: b.example||").await.body, "s0");
    let mut kept = site.client().await;
    kept.send("GET / HTTP/1.1|Host: a.example||").await;
    assert_eq!(kept.answer().await.status, 503);
    let resume = RouteChange::Resume { host: "a.example".to_owned() };
    site.case.try_change(Command::Routes(resume)).unwrap();
    site.show();
    kept.send("GET / HTTP/1.1|Host: a.example||").await;
    assert_eq!(kept.answer().await.body, "s0");
}

fn keyring() -> Keyring {
    let own = OwnKey::new([9; 32]);
    let sealed = SealKey::new([3; 32]).for_node(&own.public(), &mut crypto_box::aead::OsRng);
    let keyring = Keyring::new(own);
    keyring.take_up(&sealed.unwrap()).unwrap();
    keyring
}

/// Gives `users` its next value.
fn set(site: &mut Site, keyring: &Keyring, value: &str) {
    let name = "users".into();
    let version = site.case.state.next_secret_version(&name);
    let purpose = secret_purpose(&name, version);
    let drawn = (rand::random(), [rand::random(), rand::random()]);
    let envelope = keyring.wrap(&purpose, value.as_bytes(), drawn).unwrap();
    let (key, text) = (envelope.key, envelope.text);
    let secret = NewSecret { name, version, key, text, size: 1, binary: false };
    site.case.try_change(Command::Secrets(SecretChange::Set(vec![secret]))).unwrap();
    site.shared.gate.show(&site.case.state, || keyring.clone());
}

/// The status of a request with this name and password.
async fn try_in(site: &Site, who: &str) -> u16 {
    let text = base64::engine::general_purpose::STANDARD.encode(who);
    let head = format!("GET / HTTP/1.1|Host: a.example|Authorization: Basic {text}||");
    site.ask(&head).await.status
}

#[tokio::test]
async fn a_name_and_password_are_wanted_where_the_route_says_so() {
    let mut site = Site::new(1, "route \"a.example\" auth=\"users\"; route \"b.example\"").await;
    assert_eq!(try_in(&site, "ann:secret").await, 401, "the secret isn't there");
    let keyring = keyring();
    let bcrypt = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    set(&mut site, &keyring, &format!("# us\nann:{SECRET}\nbob:{bcrypt}\n"));
    let asked = site.get("/").await;
    assert_eq!(asked.status, 401);
    assert_eq!(asked.header("mill-error").as_deref(), Some("unauthorized"));
    let challenge = asked.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    assert_eq!(site.ask("GET / HTTP/1.1|Host: b.example||").await.status, 200);
    for (who, status) in [
        ("ann:secret", 200),
        ("ann:secret", 200),
        ("bob:secret", 200),
        ("ann:other", 401),
        ("eve:secret", 401),
        ("ann", 401),
    ] {
        assert_eq!(try_in(&site, who).await, status, "{who}");
    }
    set(&mut site, &keyring, &format!("eve:{SECRET}"));
    assert_eq!(try_in(&site, "ann:secret").await, 401, "another value counts at once");
    assert_eq!(try_in(&site, "eve:secret").await, 200);
    let (name, force) = ("users".into(), true);
    site.case.try_change(Command::Secrets(SecretChange::Delete { name, force })).unwrap();
    site.shared.gate.show(&site.case.state, || keyring.clone());
    assert_eq!(try_in(&site, "eve:secret").await, 401);
}

#[tokio::test]
async fn many_that_must_be_checked_wait_and_the_rest_come_again() {
    let mut site = Site::new(1, "route \"a.example\" auth=\"users\"").await;
    let keyring = keyring();
    let bcrypt = "$2y$08$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
    set(&mut site, &keyring, &format!("ann:{SECRET}\nbob:{bcrypt}"));
    assert_eq!(try_in(&site, "ann:secret").await, 200);
    let guesses = (0..200).map(|n| format!("bob:{n}"));
    let mut codes = Vec::new();
    let mut guessing = tokio::task::JoinSet::new();
    let http = site.http;
    for guess in guesses {
        guessing.spawn(async move {
            let client = tokio::net::TcpStream::connect(http).await.unwrap();
            let mut client = super::support::Client(tokio::io::BufReader::new(client));
            let text = base64::engine::general_purpose::STANDARD.encode(guess);
            let head = format!("GET / HTTP/1.1|Host: a.example|Authorization: Basic {text}||");
            client.send(&head).await;
            client.answer().await.status
        });
    }
    while let Some(code) = guessing.join_next().await {
        codes.push(code.unwrap());
    }
    assert!(codes.iter().all(|code| [401, 429].contains(code)), "{codes:?}");
    assert!(codes.contains(&429) && codes.contains(&401), "{codes:?}");
    assert_eq!(try_in(&site, "ann:secret").await, 200);
}

/// The requests that are written down in a log.
fn written(data: &Path, log: &str) -> Vec<AccessView> {
    let Ok(folder) = std::fs::read_dir(data.join("logs").join(log)) else { return Vec::new() };
    let mut all = Vec::new();
    for file in folder {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let records = text.lines().skip(1).map(|line| line.splitn(4, ' ').nth(3).unwrap());
        all.extend(records.map(|json| serde_json::from_str::<AccessView>(json).unwrap()));
    }
    all
}

#[tokio::test]
async fn requests_are_written_down_by_service() {
    let data = tempfile::tempdir().unwrap();
    let access = Some(AccessLog::start(data.path().to_owned()).unwrap());
    let settings = Settings { access, ..Settings::default() };
    let lines = "route \"a.example\"; route \"b.example\" log=#false
        route \"c.example\" to=\"https://a.example\"";
    let mut site = Site::with(1, 1, lines, settings).await;
    let long = "x".repeat(3_000);
    let head = format!(
        "POST /sum?q={long} HTTP/1.1|Host: a.example:80|User-Agent: curl|Content-Length: 3||abc"
    );
    assert_eq!(site.ask(&head).await.body, "3");
    assert_eq!(site.ask("GET / HTTP/1.1|Host: b.example||").await.status, 200);
    assert_eq!(site.ask("GET / HTTP/1.1|Host: c.example||").await.status, 308);
    assert_eq!(site.ask("GET /w HTTP/1.1|Host: none.example||").await.status, 404);
    assert_eq!(site.get("/garbage").await.status, 502);
    site.until(|_| written(data.path(), "@web").len() == 3).await;
    let of_web = written(data.path(), "@web");
    let first = &of_web[0];
    assert_eq!((first.method.as_str(), first.status, first.bytes), ("POST", 200, 1));
    assert_eq!((first.host.as_str(), first.client.as_str()), ("a.example:80", "127.0.0.1"));
    assert!(first.path.starts_with("/sum?q=xxx") && first.path.len() == 2_048);
    assert_eq!((first.protocol.as_str(), first.tls), ("HTTP/1.1", false));
    assert!(first.duration > 0.0 && first.request_id.len() == 32);
    assert_eq!((first.service.as_deref(), first.agent.as_deref()), (Some("web"), Some("curl")));
    assert_eq!(first.route.as_deref(), Some("a.example"));
    assert!(first.allocation.as_ref().unwrap().starts_with("web-0"));
    assert_eq!((of_web[1].status, of_web[1].allocation.as_ref()), (308, None));
    assert_eq!((of_web[2].status, of_web[2].error.as_deref()), (502, Some("bad-answer")));
    site.until(|_| !written(data.path(), "@").is_empty()).await;
    let lost = &written(data.path(), "@")[0];
    assert_eq!((lost.path.as_str(), lost.error.as_deref()), ("/w", Some("no-route")));
    site.case.run_again("web", 0, [127, 0, 0, 2], 1);
    site.show();
}
