//! Tables of cases for the conversion to a runtime spec.
//!
//! Never starts a container: that is tested in `harness/`.

use super::*;
use crate::id::Digest;
use crate::spec::model::EnvValue;
use crate::units::{MilliCpu, Millis};
use oci_spec::runtime::Capability;
use yare::parameterized;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn run_spec() -> RunSpec {
    RunSpec::of("hello")
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: words(&["/entry"]),
        cmd: words(&["a", "b"]),
        env: words(&["PATH=/bin", "A=image", "PORT=1"]),
        workdir: "/srv".to_owned(),
        stop_signal: Some("SIGQUIT".to_owned()),
        ..ImageConfig::default()
    }
}

fn context() -> Context {
    let alloc = "web-0-k3f9".into();
    Context {
        own_env: Context::own_env(&alloc, "service", "web", "n1", 0, Some(3000)),
        alloc,
        account: Account { uid: 7, gid: 8, groups: vec![9], home: Some("/home/w".to_owned()) },
        env: BTreeMap::from([("A".to_owned(), "file".to_owned())]),
        netns: Some("/run/netns/x".into()),
        cgroup: "/mill-x/web-0-k3f9.1".into(),
        cgroup_version: CgroupVersion::V2,
        mounts: vec![BindMount {
            source: "/data/hosts".into(),
            target: "/etc/hosts".into(),
            read_only: false,
        }],
        open_files: 524_288,
    }
}

#[parameterized(
    image_decides = { &[], &[], &["/entry", "a", "b"] },
    args_replace_cmd = { &[], &["x"], &["/entry", "x"] },
    command_replaces_both = { &["/sh", "-c"], &[], &["/sh", "-c"] },
    command_and_args = { &["/sh"], &["x"], &["/sh", "x"] },
)]
fn what_is_run(command: &[&str], args: &[&str], want: &[&str]) {
    let run = RunSpec { command: words(command), args: words(args), ..run_spec() };
    assert_eq!(argv(&run, &image()), words(want));
}

#[parameterized(
    plain = { "SIGTERM", Some(15) },
    short = { "int", Some(2) },
    number = { "9", Some(9) },
    real_time = { "SIGRTMIN+3", Some(37) },
    real_time_end = { "RTMAX-1", Some(63) },
    beyond = { "SIGRTMIN+99", None },
    nonsense = { "SIGNOPE", None },
    zero = { "0", None },
)]
fn signals_have_numbers(name: &str, want: Option<u32>) {
    assert_eq!(signal_number(name), want);
}

#[test]
fn the_file_then_the_image_then_sigterm_stop() {
    let stop = |signal: Option<&str>| StopSpec {
        signal: signal.map(str::to_owned),
        grace: Millis::secs(10),
    };
    assert_eq!(stop_signal(&stop(Some("SIGINT")), &image()), 2);
    assert_eq!(stop_signal(&stop(None), &image()), 3);
    assert_eq!(stop_signal(&stop(None), &ImageConfig::default()), 15);
}

#[test]
fn the_spec_holds_what_was_asked_for() {
    let run = RunSpec { cpu: Some(MilliCpu(500)), ..run_spec() };
    let spec = runtime_spec(&run, &image(), &context()).unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref().unwrap(), &words(&["/entry", "a", "b"]));
    assert_eq!(process.cwd().to_str(), Some("/srv"));
    assert_eq!((process.user().uid(), process.user().gid()), (7, 8));
    assert_eq!(process.no_new_privileges(), Some(true));
    let env = process.env().as_ref().unwrap();
    for variable in ["PATH=/bin", "A=file", "PORT=3000", "HOME=/home/w", "MILL_SERVICE=web"] {
        assert!(env.iter().any(|v| v == variable), "{variable} in {env:?}");
    }
    assert_eq!(env.iter().filter(|v| v.starts_with("A=")).count(), 1);
    let bounding = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
    assert!(!bounding.contains(&Capability::NetRaw) && !bounding.contains(&Capability::Mknod));

    let linux = spec.linux().as_ref().unwrap();
    let resources = linux.resources().as_ref().unwrap();
    let memory = resources.memory().as_ref().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(256_000_000), Some(256_000_000)));
    let cpu = resources.cpu().as_ref().unwrap();
    assert_eq!((cpu.quota(), cpu.period(), cpu.shares()), (Some(50_000), Some(100_000), Some(512)));
    assert!(linux.seccomp().is_some());
}

/// The whole spec of a container, so that no right is given by accident. After a change that is
/// meant, copy what the test prints.
#[test]
fn the_spec_is_as_recorded() {
    let run = RunSpec { cpu: Some(MilliCpu(500)), ..run_spec() };
    let spec = runtime_spec(&run, &image(), &context()).unwrap();
    let mut spec = serde_json::to_value(&spec).unwrap();
    let profile = serde_json::to_value(seccomp::profile()).unwrap();
    assert_eq!(spec["linux"]["seccomp"], profile);
    spec["linux"]["seccomp"] = "seccomp.json".into();
    for set in spec["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        // They have no order.
        let mut names: Vec<String> = serde_json::from_value(set.clone()).unwrap();
        names.sort();
        *set = names.into();
    }
    let recorded: serde_json::Value = serde_json::from_str(include_str!("spec.json")).unwrap();
    let now = serde_json::to_string_pretty(&spec).unwrap();
    assert_eq!(spec, recorded, "{now}");
}

#[test]
fn without_a_ceiling_there_is_no_quota_and_the_files_port_wins() {
    let mut context = context();
    context.env.insert("PORT".to_owned(), "9".to_owned());
    let spec = runtime_spec(&run_spec(), &image(), &context).unwrap();
    let env = spec.process().as_ref().unwrap().env().as_ref().unwrap();
    assert_eq!(env.iter().filter(|v| v.starts_with("PORT=")).collect::<Vec<_>>(), ["PORT=9"]);
    let linux = spec.linux().as_ref().unwrap();
    let cpu = linux.resources().as_ref().unwrap().cpu().as_ref().unwrap();
    assert_eq!((cpu.quota(), cpu.shares()), (None, Some(256)));
}

#[test]
fn nothing_to_run_is_told() {
    let nothing = ImageConfig::default();
    let error = runtime_spec(&run_spec(), &nothing, &context()).unwrap_err();
    assert!(matches!(error, SpecError::NoCommand));
}

#[test]
fn variables_with_references_are_not_plain() {
    let mut run = run_spec();
    run.env.insert("A".to_owned(), EnvValue(vec![EnvPart::Text("1".to_owned())]));
    assert_eq!(plain_env(&run).unwrap()["A"], "1");
    run.env.insert("B".to_owned(), EnvValue(vec![EnvPart::Secret("x".into())]));
    assert_eq!(plain_env(&run), Err("B".to_owned()));
}

#[test]
fn documents_of_registries_are_told_apart() {
    let index = br#"{"schemaVersion":2,"manifests":[
        {"mediaType":"x","digest":"sha256:1","size":3,
         "platform":{"architecture":"unknown","os":"unknown"}},
        {"mediaType":"x","digest":"sha256:2","size":3,
         "platform":{"architecture":"s390x","os":"linux"}}]}"#;
    let image::Document::Index(index) = image::document(index).unwrap() else { panic!("index") };
    assert!(index.ranked(&Platform::host()).is_empty());
    assert_eq!(index.platforms()[0].to_string(), "linux/s390x");
    let manifest = br#"{"config":{"digest":"sha256:3","size":1},"layers":[]}"#;
    assert!(matches!(image::document(manifest).unwrap(), image::Document::Image(_)));
    assert!(image::document(b"[]").is_err());
}

#[test]
fn image_configurations_decode_and_chain() {
    let json = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["x"],"Entrypoint":null,
        "User":"web"},"rootfs":{"type":"layers","diff_ids":["sha256:a","sha256:b"]}}"#;
    let file = ImageFile::parse(json).unwrap();
    assert_eq!((file.config.cmd.len(), file.config.user.as_str()), (1, "web"));
    assert_eq!(file.chain_id(1), Some(Digest::from("sha256:a")));
    assert_eq!(file.chain_id(2), Some(image::sha256(b"sha256:a sha256:b")));
    assert_eq!(file.chain_id(0), None);
}
