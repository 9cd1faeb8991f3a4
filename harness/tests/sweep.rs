//! That `harness/sweep` sees and takes away what a node left, and nothing of another's.

use crate::poll::poll;
use crate::registry::run;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn sweep(options: &[&str], folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/sweep");
    run(Command::new(script).args(options).arg(folder))
}

/// A program that lies in the folder, waiting for its end.
fn process(folder: &Path) -> Child {
    let program = folder.join("cat");
    fs::copy("/bin/cat", &program).unwrap();
    Command::new(program).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_is_left_is_listed_and_taken_away() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut mine = process(one.path());
    let mut others = process(other.path());
    let mounted = one.path().join("mounted");
    fs::create_dir(&mounted).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted));
    let list = sweep(&["--list"], one.path());
    assert!(list.contains(&format!("process {} ", mine.id())), "{list}");
    assert!(list.contains(&format!("mount {}", mounted.display())), "{list}");
    assert!(!list.contains(&format!("process {} ", others.id())), "{list}");
    sweep(&[], one.path());
    assert!(poll(|| mine.try_wait().unwrap()).expect("its end").code().is_none());
    assert_eq!(sweep(&["--list"], one.path()), "");
    assert!(!one.path().exists());
    assert!(others.try_wait().unwrap().is_none(), "another's process was ended");
    others.kill().unwrap();
    others.wait().unwrap();
}
