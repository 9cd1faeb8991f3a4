//! Generated specifications: what is printed in any style is read back as it was.
//!
//! Owns a generator of valid specifications and the properties of reading and formatting them.
//! Never tests invalid files.

use super::dice::Dice;
use super::printer::print;
use mill::cidr::Cidr;
use mill::id::WorkloadName;
use mill::spec::{self, Spec, model::*};
use mill::units::{Bytes, MilliCpu, Millis};
use proptest::prelude::*;
use std::collections::BTreeMap;

const WORDS: &[&str] = &[
    "a",
    "--flag",
    "-c",
    "a b",
    "",
    "\"q\"",
    "back\\slash",
    "ü€😀",
    "two\nlines",
    "tab\t",
    "$HOME",
    "a=b",
    "#",
    "// no comment",
    "{}",
    "true",
    "10s",
    "'single'",
    "/-",
    "*/",
    "\u{1}",
    ";",
    "${x}",
];
const TEXTS: &[&str] =
    &["x", "http://", " ", "\"", "\\", "a b", "{\"k\": \"v\"}", "\n", "$", "${", "}", "ß"];
const IMAGES: &[&str] =
    &["nginx", "postgres:17", "registry.example.com/team/web:v1", "[::1]:5000/a"];
const PATHS: &[&str] = &["/data", "/var/lib/x", "/a b", "/ü"];

fn words(dice: &mut Dice, least: usize) -> Vec<String> {
    let mut words: Vec<String> =
        (0..least + dice.below(4)).map(|_| dice.pick(WORDS).to_owned()).collect();
    if words.first().is_some_and(String::is_empty) {
        words[0].push('x');
    }
    words
}

fn millis(dice: &mut Dice) -> Millis {
    Millis([1000, 1500, 60_000, 90_000, 7_200_000, 123_456][dice.below(6)])
}

fn env(dice: &mut Dice) -> BTreeMap<String, EnvValue> {
    let name = |dice: &mut Dice| dice.pick(&["A", "LONG_NAME", "x.y", "PORT", "a-b"]).to_owned();
    let value = |dice: &mut Dice| {
        let mut parts: Vec<EnvPart> = Vec::new();
        for _ in 0..dice.below(5) {
            let part = match dice.below(3) {
                0 => EnvPart::Secret("web.database-url".into()),
                1 => EnvPart::Service("elsewhere".into()),
                _ => EnvPart::Text(dice.pick(TEXTS).to_owned()),
            };
            match (parts.last_mut(), part) {
                (Some(EnvPart::Text(text)), EnvPart::Text(more)) => text.push_str(&more),
                (_, part) => parts.push(part),
            }
        }
        EnvValue(parts)
    };
    (0..dice.below(4)).map(|_| (name(dice), value(dice))).collect()
}

/// `id` keeps names unique in the file.
fn run(dice: &mut Dice, id: &str, ephemeral_only: bool) -> RunSpec {
    let (command, args) = match dice.below(3) {
        0 => (words(dice, 1), Vec::new()),
        1 => (Vec::new(), words(dice, 1)),
        _ => (Vec::new(), Vec::new()),
    };
    let volume = |(n, path): (usize, &&str)| {
        let ephemeral = ephemeral_only || n % 2 == 0;
        let size = (!ephemeral).then_some(Bytes(5 << 30));
        VolumeSpec { name: format!("{id}-v{n}"), path: (*path).to_owned(), ephemeral, size }
    };
    let volumes = PATHS.iter().enumerate().take(dice.below(4)).map(volume).collect();
    let secret = |n| SecretFileSpec { secret: "a.b-c".into(), path: format!("/run/{n}") };
    RunSpec {
        image: dice.pick(IMAGES).to_owned(),
        digest: None,
        command,
        args,
        user: dice.yes().then(|| dice.pick(&["1000", "1000:1000", "app"]).to_owned()),
        cpu: dice.yes().then(|| MilliCpu([1, 500, 1000, 1250][dice.below(4)])),
        memory: Bytes([256_000_000, 4_000_000, 1 << 30, 1_500_000_000][dice.below(4)]),
        env: env(dice),
        volumes,
        secret_files: (0..dice.below(3)).map(secret).collect(),
        constraints: (0..dice.below(3)).map(|n| (format!("k{n}"), "v w".to_owned())).collect(),
        files: Vec::new(),
    }
}

fn stop(dice: &mut Dice) -> StopSpec {
    let signal = dice.yes().then(|| dice.pick(&["SIGINT", "SIGRTMIN+3"]).to_owned());
    StopSpec { signal, grace: if dice.yes() { millis(dice) } else { Millis::secs(10) } }
}

fn health(dice: &mut Dice, has_port: bool) -> HealthSpec {
    let default = if has_port { HealthProbe::Tcp } else { HealthProbe::Uptime };
    let probe = match dice.below(4) {
        0 => HealthProbe::Exec(vec!["pg_isready".to_owned(), "-q".to_owned()]),
        1 if has_port => HealthProbe::Http("/healthz?full=1".to_owned()),
        2 if has_port => HealthProbe::Tcp,
        _ => {
            let (interval, timeout) = (Millis::secs(10), Millis::secs(2));
            let grace = Millis::secs(30);
            let (explicit, probe, host) = (false, default, None);
            return HealthSpec { explicit, probe, interval, timeout, grace, host };
        }
    };
    let (interval, timeout, grace) = (millis(dice), millis(dice), millis(dice));
    let is_http = matches!(probe, HealthProbe::Http(_));
    let host = (is_http && dice.yes()).then(|| "app.example.com".to_owned());
    HealthSpec { explicit: true, probe, interval, timeout, grace, host }
}

/// Every option of a route, or none.
fn options(i: usize) -> Box<RouteOptions> {
    if i == 0 {
        return Box::default();
    }
    Box::new(RouteOptions {
        strip: true,
        to: Some("https://www.example.com".to_owned()),
        timeout: Some(Millis(5_000)),
        body_max: Some(Bytes(1_000_000)),
        auth: Some("web.users".into()),
        sticky: true,
        compress: true,
        allow: vec![Cidr::parse("10.0.0.0/8").unwrap(), Cidr::parse("2001:db8::/32").unwrap()],
        limit: RateLimit::parse("100/s"),
        hsts: true,
        wait: Some(Millis(1_500)),
        unlogged: true,
        set: [("X-Frame-Options".to_owned(), "DENY".to_owned())].into(),
        remove: vec!["Server".to_owned()],
    })
}

fn service(dice: &mut Dice, n: u16, tasks: &[WorkloadName]) -> ServiceSpec {
    let run = run(dice, &format!("s{n}"), false);
    let persistent = run.volumes.iter().any(|volume| !volume.ephemeral);
    let main = dice.yes();
    let mut ports = Vec::new();
    ports.extend(main.then_some(PortSpec { port: 3000, name: None }));
    ports.extend(
        (0..dice.below(3)).map(|i| PortSpec {
            port: 9000 + u16::try_from(i).unwrap(),
            name: Some(format!("p{i}")),
        }),
    );
    let targets: Vec<Option<String>> = ports.iter().map(|port| port.name.clone()).collect();
    let target = |i: usize| targets[i % targets.len()].clone();
    let count = |dice: &mut Dice| if targets.is_empty() { 0 } else { dice.below(3) };
    let routes = (0..count(dice)).map(|i| RouteSpec {
        host: format!("s{n}.example.com"),
        path: format!("/{i}"),
        port: target(i),
        h2c: i == 1,
        redirect: i == 0,
        options: options(i),
    });
    let routes = routes.collect();
    let publish = (0..count(dice)).map(|i| PublishSpec {
        host_port: 1000 * (n + 1) + u16::try_from(i).unwrap(),
        port: target(i),
        udp: i == 1,
    });
    let publish = publish.collect();
    let replicas = if persistent { 1 } else { [1, 0, 3][dice.below(3)] };
    let canary = (!persistent && replicas > 0 && dice.yes()).then(|| CanarySpec {
        count: 1,
        duration: millis(dice),
        max_error_rate: dice.yes().then_some(1_500),
        max_latency_ratio: dice.yes().then_some(1_500),
        min_requests: if dice.yes() { 100 } else { 7 },
    });
    let order =
        if persistent || dice.yes() { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst };
    let health = health(dice, main);
    let (max_parallel, healthy_deadline) = (1 + u32::from(dice.yes()), millis(dice));
    let update = UpdateSpec { max_parallel, order, healthy_deadline, canary };
    let before_deploy = tasks[..dice.below(tasks.len() + 1)].to_vec();
    let after_deploy = tasks[..dice.below(tasks.len() + 1)].to_vec();
    let stop = stop(dice);
    ServiceSpec {
        run,
        ports,
        replicas,
        health,
        routes,
        publish,
        update,
        before_deploy,
        after_deploy,
        stop,
    }
}

fn generate(dice: &mut Dice) -> Spec {
    let schedule = |dice: &mut Dice| dice.yes().then(|| "*/5 3 * * MON".to_owned());
    let tasks: BTreeMap<WorkloadName, TaskSpec> = (0..dice.below(3))
        .map(|n| {
            let run = run(dice, &format!("t{n}"), true);
            let (timeout, schedule, stop) = (millis(dice), schedule(dice), stop(dice));
            (WorkloadName::from(format!("t{n}")), TaskSpec { run, timeout, schedule, stop })
        })
        .collect();
    let names: Vec<WorkloadName> = tasks.keys().cloned().collect();
    let services = (0..dice.below(4))
        .map(|n| {
            let n = u16::try_from(n).unwrap();
            (WorkloadName::from(format!("s{n}")), service(dice, n, &names))
        })
        .collect();
    let cluster = dice.yes().then(|| "prod".to_owned());
    let app = if dice.yes() { "shop" } else { "default" };
    Spec { cluster, app: app.into(), services, tasks }
}

proptest! {
    #![proptest_config(super::cases_of(300))]

    #[test]
    fn generated_specs_survive_reading_and_formatting(
        choices in prop::collection::vec(any::<u8>(), 0..400),
        style in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let expected = generate(&mut Dice::new(choices));
        let text = print(&expected, &mut Dice::new(style));
        let parsed = spec::parse("generated.mill", &text)
            .map_err(|report| TestCaseError::fail(format!("{report}\n{text}")))?;
        prop_assert_eq!(&parsed, &expected, "{}", text);
        let formatted = spec::format("generated.mill", &text).unwrap();
        let again = spec::parse("generated.mill", &formatted)
            .map_err(|report| TestCaseError::fail(format!("{report}\n{formatted}")))?;
        prop_assert_eq!(again, parsed, "{}", formatted);
        prop_assert_eq!(spec::format("generated.mill", &formatted).unwrap(), formatted);
    }
}
