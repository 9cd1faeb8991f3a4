//! Backups: what they hold comes back, and what is none is told.

use super::summary::Summary;
use super::*;
use crate::fsm::model::Ca;
use crate::fsm::secrets::StoredSecret;
use crate::id::SecretName;
use crate::secret::Secret;
use std::sync::Arc;

const RANDOM: crypto_box::aead::OsRng = crypto_box::aead::OsRng;

fn backup() -> Backup {
    let keyring = SealKey::new([7; KEY_LEN]);
    let own = OwnKey::new([1; KEY_LEN]);
    let ring = Keyring::new(own.clone());
    ring.take_up(&keyring.for_node(&own.public(), &mut { RANDOM }).unwrap()).unwrap();
    let mut state = crate::fsm::deploy::tests::running();
    let key = keyring.seal(CA_PURPOSE, &Secret::new("key"), [1; 12]).unwrap();
    state.ca = Some(Ca { cert: "pem".to_owned(), key });
    let name = SecretName::from("web.db");
    let drawn = ([5; KEY_LEN], [[1; 12], [2; 12]]);
    let sealed = ring.wrap(&secret_purpose(&name, 3), b"hunter2", drawn).unwrap();
    let secret = StoredSecret {
        version: 3,
        key: sealed.key,
        text: sealed.text,
        size: 7,
        binary: false,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    state.secrets.insert(name, Arc::new(secret));
    Backup { state, keyring, taken_at: Timestamp(1_700_000_000_000), version: "0.1.0".to_owned() }
}

#[test]
fn what_is_kept_comes_back() {
    let kept = backup();
    let bytes = kept.encode().unwrap();
    let read = Backup::decode(&bytes).unwrap();
    assert_eq!((&read.state, &read.keyring), (&kept.state, &kept.keyring));
    read.check(&mut { RANDOM }).unwrap();
    let shown = Summary::of(&read);
    assert_eq!(
        (shown.cluster.as_str(), shown.secrets.as_slice()),
        ("prod", &["web.db".into()][..])
    );
    let text = shown.text();
    assert!(text.contains("\n  secrets    web.db\n") && text.contains("logs"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_is_none_or_not_whole_is_told() {
    let bytes = backup().encode().unwrap().to_vec();
    let told = |bytes: &[u8]| match Backup::decode(bytes) {
        Ok(_) => "a backup".to_owned(),
        Err(error) => error.to_string(),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let head = |from: &str, to: &str| {
        let text = String::from_utf8(bytes[..=end].to_vec()).unwrap().replacen(from, to, 1);
        [text.as_bytes(), &bytes[end + 1..]].concat()
    };
    let mut flipped = bytes.clone();
    let last = flipped.len() - 9;
    flipped[last] ^= 1;
    for (bytes, want) in [
        (b"PK\x03\x04".to_vec(), "something else"),
        (b"{\"a\": 1}\n".to_vec(), "something else"),
        (bytes[..bytes.len() - 1].to_vec(), "a part of it is missing"),
        (flipped, "its checksum doesn't fit"),
        (head("\"mill_backup\":1", "\"mill_backup\":2"), "made by mill 0.1.0"),
        (head("\"feature_level\":", "\"feature_level\":9"), "a newer one"),
    ] {
        let text = told(&bytes);
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn a_keyring_that_opens_nothing_is_damage() {
    let other = Backup { keyring: SealKey::new([8; KEY_LEN]), ..backup() };
    let error = other.check(&mut { RANDOM }).unwrap_err();
    assert!(error.to_string().contains("its own keyring"), "{error}");
}
