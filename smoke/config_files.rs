//! `docs/workflows/config-files.md`: a file beside the `.mill` file, seen in the container, changed
//! and taken back.

use crate::registry::Registry;
use crate::support::TestDaemon;

const FILE: &str = r#"app "conf"
service "web" {
    image "IMAGE"
    command "/bin/sh" "-c" "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    user "1000:1000"
    file path="/etc/web/web.toml" from="web.toml" mode="0440" interpolate=#true
    file path="/etc/web/plain" content="a ${b} $c\n"
}
"#;

#[test]
fn config_files() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let text = FILE.replace("IMAGE", &registry.image("busybox:v1"));
    let path = node.file("conf.mill", &text);
    let path = path.to_str().unwrap();

    // A file that is missing is told before a daemon is looked for.
    let missing = node.mill(["check", path]).code(2).stderr;
    assert!(missing.contains("conf.mill:6:") && missing.contains("web.toml: no such file"));
    node.file("web.toml", "port = 1\nname = \"é\"\npassword = \"${secret(web.pw)}\"\n");
    let refused = node.mill(["up", path]).code(2).stderr;
    assert!(refused.contains("conf.mill:6:") && refused.contains("secret web.pw"), "{refused}");
    let _ = node.mill(["secret", "set", "web.pw", "hunter2"]).ok();
    let _ = node.mill(["up", path]).ok();
    let cat = "stat -c '%a %u:%g' /etc/web/web.toml; cat /etc/web/web.toml /etc/web/plain";
    let inside = || node.mill(["exec", "web", "--", "/bin/sh", "-c", cat]).ok();
    let first = "440 1000:1000\nport = 1\nname = \"é\"\npassword = \"hunter2\"\na ${b} $c\n";
    assert_eq!(inside(), first);
    let write = ["exec", "web", "--", "/bin/sh", "-c", "echo x >/etc/web/plain"];
    let _ = node.mill(write).code(1);

    // A changed content is a change; the value of a secret is never in its diff.
    node.file("web.toml", "port = 2\nname = \"é\"\npassword = \"${secret(web.pw)}\"\n");
    let plan = node.mill(["plan", path]).code(10).stdout;
    assert!(plan.contains("- port = 1") && plan.contains("+ port = 2"), "{plan}");
    assert!(plan.contains("/etc/web/web.toml") && !plan.contains("hunter2"), "{plan}");
    let _ = node.mill(["up", path]).ok();
    assert!(inside().contains("port = 2"));
    let _ = node.mill(["plan", path]).ok();
    let _ = node.mill(["rollback"]).ok();
    assert_eq!(inside(), first);
}
