//! Images as a person has to do with them: logging in, loading, pulling, removing.

use crate::registry::{PASSWORD, Registry, USER, oci_archive};
use crate::support::{Outcome, TestDaemon, files};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

/// Runs `mill` with this on its standard input.
fn fed(node: &TestDaemon, args: &[&str], input: &[u8]) -> Outcome {
    let mut command = node.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Written meanwhile: a pipe holds less than an archive.
    let writer = std::thread::spawn(move || {
        // A command that refuses beforehand reads nothing.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Outcome::new(format!("{args:?}"), output)
}

/// What is in the files of a node, without its images.
fn files_below(folder: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if entry.file_name() != "containerd" && entry.file_name() != "bin" => {
                files.extend(files_below(&path));
            }
            true => {}
            false => files.push(std::fs::read(&path).unwrap_or_default()),
        }
    }
    files
}

#[test]
fn a_login_is_tried_kept_sealed_and_used_after_a_restart() {
    let registry = Registry::start_guarded();
    let mut node = TestDaemon::start();
    let address = registry.address();
    let file = node.file("a.mill", &files::hello(&registry.image("hello:v1"), 1));
    let file = file.to_str().unwrap().to_owned();
    let refused = node.mill(["up", &file]).code(1);
    let _ = refused.says(&format!("mill image login {address} --user USER"));
    assert_eq!(node.mill(["history", "--json"]).json(), serde_json::json!([]), "no revision");

    let login = ["image", "login", &address, "--user", USER];
    let wrong = fed(&node, &login, b"wr0ng-one\n").code(1);
    assert!(wrong.stderr.contains("refuses the login of ann"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("wr0ng-one"), "{}", wrong.stderr);
    let _ = fed(&node, &login, b"").code(2).says("No password");
    let _ = fed(&node, &["image", "login", "not/one", "--user", "x"], b"x").code(2);
    assert_eq!(node.mill(["image", "logins", "--json"]).json(), serde_json::json!([]));
    let _ = fed(&node, &login, format!("{PASSWORD}\n").as_bytes()).ok();

    let shown = node.mill(["image", "logins"]).ok();
    assert!(shown.contains(&address) && shown.contains(USER), "{shown}");
    let listed = node.mill(["image", "logins", "--json"]).json();
    assert_eq!(listed, node.api().get("/v1/registries"));
    let keys: Vec<&String> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["registry", "since", "user"], "and no password");

    let _ = node.stop();
    // In the log on the disk is who logged in, and not with what.
    let written = files_below(&node.data());
    let holds = |text: &str| {
        written.iter().any(|file| file.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    assert!(holds(&address) && !holds(PASSWORD) && !holds("wr0ng-one"));
    assert!(!node.log().contains(PASSWORD) && !node.log().contains("wr0ng-one"));
    node.restart();
    let out = node.mill(["--json", "up", &file]).ok();
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let mut events = out.lines().map(parse);
    let pulled = events.rfind(|event| event["phase"] == "pulling").expect("a pull");
    assert!(pulled["total"].as_u64() > Some(0), "{out}");
    assert!(pulled["bytes"].as_u64() <= pulled["total"].as_u64(), "{pulled}");
    assert!(pulled["layers"][0]["digest"].as_str().unwrap().starts_with("sha256:"), "{pulled}");

    let _ = node.mill(["image", "logout", &address]).ok();
    let _ = node.mill(["image", "logout", &address]).code(1).says("no login for");
    let other = files::hello(&registry.image("hello:v2"), 1);
    let other = node.file("b.mill", &other);
    let _ = node.mill(["up", other.to_str().unwrap()]).code(1).says("mill image login");
}

/// Makes a program.
fn program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

#[test]
fn a_credential_helper_of_docker_is_asked() {
    let registry = Registry::start_guarded();
    let folder = tempfile::tempdir().unwrap();
    let (helper, asked) =
        (folder.path().join("docker-credential-test"), folder.path().join("asked"));
    let address = registry.address();
    let config = format!(r#"{{"auths": {{"{address}": {{}}}}, "credsStore": "test"}}"#);
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let folder = folder.path().to_str().unwrap();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let node = TestDaemon::builder().env("PATH", &path).env("DOCKER_CONFIG", folder).start();
    let file = files::hello(&registry.image("hello:v1"), 1);

    let _ = node.up(&file).code(1).says("docker-credential-test, which can't be run");
    program(&helper, "echo credentials not found; exit 1");
    let _ = node.up(&file).code(1).says("which says: credentials not found");
    let answer = format!(r#"{{"ServerURL": "x", "Username": "{USER}", "Secret": "{PASSWORD}"}}"#);
    let record = format!("echo $1 $(cat) >> {}", asked.display());
    program(&helper, &format!("{record}\ncat <<.\n{answer}\n."));
    let _ = node.up(&file).ok();
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), format!("get {address}\n"), "once");
}

#[test]
fn an_archive_comes_through_standard_input_and_needs_no_registry() {
    let node = TestDaemon::start();
    let archive = node.file("hello.tar", "");
    std::fs::remove_file(&archive).unwrap();
    oci_archive("hello:v1", &archive);
    let bytes = std::fs::read(&archive).unwrap();
    let out = fed(&node, &["image", "load", "-"], &bytes).ok();
    let reference = out.split_whitespace().next().unwrap().to_owned();
    let listed = fed(&node, &["--json", "image", "load", "-"], &bytes).json();
    assert_eq!((&listed[0]["reference"], &listed[0]["loaded"]), (&reference.into(), &true.into()));
    let _ = node.up(&files::hello("hello:v1", 2)).ok();
    let _ = node.mill(["image", "remove", "hello:v1"]).code(1).says("mill down hello");
    let _ = node.mill(["scale", "hello", "1"]).ok();
    let _ = node.mill(["image", "remove", "nope:v1"]).code(1).says("no image nope:v1");
    let _ = fed(&node, &["image", "load", "-"], b"no archive").code(2).says("docker save");
    let _ = fed(&node, &["image", "load", "-"], &bytes[..bytes.len() / 2]).code(2);
    assert_eq!(node.mill(["image", "list", "--json"]).json().as_array().unwrap().len(), 1);
}
