//! `mill dev`: a node on loopback for one developer, with a file deployed.
//!
//! Owns the order: node, file, addresses, logs, and everything gone at the end. Never does by
//! itself what the API does: it is the API's client in the same process.

mod remove;
mod source;
mod token;
mod trust;

use super::client::{Client, ClientError, DeployOptions, query};
use super::daemon::{DaemonArgs, asked_to_stop, failed, log_to_stderr, runtime};
use super::duration::DurationArg;
use super::file::MillFile;
use super::globals::Target;
use super::ui::{BAD, FAINT};
use super::{Context, error::CliError, logs, secret, status, up};
use crate::api::wire::{DaemonStatus, InitRequest, Role, ServiceView, TokenRequest};
use crate::config::{DaemonConfig, Mode};
use crate::daemon::Node;
use crate::limits;
use crate::spec::Spec;
use argh::{ArgsInfo, FromArgs};
use source::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;
use token::TOKEN;

/// Run a local node, deploy a file, follow its logs. Ctrl-C stops and removes everything.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "dev",
    help_triggers("-h", "--help"),
    example = "mill dev\nmill dev --run nginx --port 80"
)]
pub struct DevArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// deploy, print the status, remove everything, exit
    #[argh(switch)]
    pub once: bool,
    /// leave everything running at the end
    #[argh(switch)]
    pub keep: bool,
    /// deploy again whenever the file changes
    #[argh(switch, short = 'w')]
    pub watch: bool,
    /// run this image without a file
    #[argh(option)]
    pub run: Option<String>,
    /// let this system trust the local CA that signs for https://….localhost
    #[argh(switch)]
    pub trust: bool,
    /// the port that the image of --run listens on
    #[argh(option)]
    pub port: Option<u16>,
    /// a secret for the file, NAME=VALUE
    #[argh(option)]
    pub secret: Vec<String>,
    /// another image for a service or task, NAME=REF
    #[argh(option)]
    pub image: Vec<String>,
    /// wait at most that long for the deployment
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// where everything is kept; default ~/.local/share/mill/dev
    #[argh(option)]
    pub data_dir: Option<String>,
    /// listener of the API; default 127.0.0.1:4410
    #[argh(option)]
    pub api: Option<String>,
    /// listener for HTTP; default 127.0.0.1:8080
    #[argh(option)]
    pub http: Option<String>,
    /// listener for HTTPS; default 127.0.0.1:8443
    #[argh(option)]
    pub https: Option<String>,
    /// listener for DNS; default 127.0.0.1:5354
    #[argh(option)]
    pub dns: Option<String>,
    /// containerd's socket, or private
    #[argh(option)]
    pub containerd: Option<String>,
    /// addresses of containers; default 10.98.0.0/16
    #[argh(option)]
    pub subnet: Option<String>,
    /// registry without TLS or with an unknown certificate, HOST:PORT
    #[argh(option)]
    pub insecure_registry: Vec<String>,
    /// proxy in front whose headers about the client count, a CIDR
    #[argh(option)]
    pub trusted_proxies: Vec<String>,
    /// these proxies speak the PROXY protocol
    #[argh(switch)]
    pub proxy_protocol: bool,
    /// trust for the ACME directory
    #[argh(option)]
    pub acme_ca: Option<String>,
    /// text or json
    #[argh(option)]
    pub log_format: Option<String>,
}

impl DevArgs {
    fn settings(&self) -> DaemonArgs {
        DaemonArgs {
            data_dir: self.data_dir.clone(),
            api: self.api.clone(),
            http: self.http.clone(),
            https: self.https.clone(),
            dns: self.dns.clone(),
            containerd: self.containerd.clone(),
            subnet: self.subnet.clone(),
            insecure_registry: self.insecure_registry.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            proxy_protocol: self.proxy_protocol,
            acme_ca: self.acme_ca.clone(),
            log_format: self.log_format.clone(),
            ..DaemonArgs::default()
        }
    }
}

pub(super) fn run(args: DevArgs, context: &Context) -> Result<(), CliError> {
    super::daemon::close_inherited();
    let secrets = secret::pairs(&args.secret)?;
    let config = args.settings().config(Mode::Dev, context)?;
    // What is wrong with the file is said before anything starts.
    let source = Source::of(&args, context)?;
    let file = source.read(context)?;
    let spec = file.executable()?;
    log_to_stderr(config.log_format, "warn", context);
    let client = Client::new(vec![Target::Unix(config.socket.clone())], None);
    let client = client.verbatim(context.ui.json);
    let ports = (config.http.port(), config.https.port());
    let (data, since) = (config.data_dir.clone(), context.now().to_string());
    let token = data.join(TOKEN);
    let dev = Dev { context, args: &args, secrets, client, token, data, since, ports };
    let runtime = runtime()?;
    let ended = runtime.block_on(dev.whole(config, &source, &file, &spec));
    // A read of standard input can't be taken back: don't wait for it.
    runtime.shutdown_background();
    ended
}

struct Dev<'a> {
    context: &'a Context,
    args: &'a DevArgs,
    secrets: BTreeMap<String, String>,
    client: Client,
    token: PathBuf,
    data: PathBuf,
    since: String,
    /// Where HTTP and HTTPS are served.
    ports: (u16, u16),
}

/// Why the work ended.
enum Ended {
    /// It is done, or went wrong.
    Work(Result<(), CliError>),
    /// Ctrl-C or SIGTERM.
    Asked(Result<(), CliError>),
    /// A part of the node failed for good.
    Node(CliError),
}

impl Dev<'_> {
    /// From the node's start to its end.
    async fn whole(
        &self,
        config: DaemonConfig,
        source: &Source,
        file: &MillFile,
        spec: &Spec,
    ) -> Result<(), CliError> {
        let started = Node::start(config).await;
        let mut node = started.map_err(|error| failed(&error))?;
        let ended = tokio::select! {
            ended = self.work(source, file, spec) => Ended::Work(ended),
            asked = asked_to_stop() => Ended::Asked(asked),
            error = node.failed() => Ended::Node(failed(&error)),
        };
        let result = match ended {
            Ended::Work(ended) => ended,
            Ended::Asked(asked) => asked.and(Err(CliError::Interrupted)),
            // Nothing that could be asked to remove anything is left.
            Ended::Node(error) => return Err(error),
        };
        let kept = if self.args.keep { Some(self.kept().await) } else { None };
        let removed = if self.args.keep { Ok(()) } else { self.remove().await };
        match &removed {
            Ok(()) if !self.args.keep => node.stop_for_good().await,
            _ => node.stop().await,
        }
        if let Some(text) = kept.filter(|_| !self.context.ui.json) {
            self.context.ui.note(&text);
        }
        match result {
            Err(error) => Err(error),
            Ok(()) => removed,
        }
    }

    async fn work(&self, source: &Source, file: &MillFile, spec: &Spec) -> Result<(), CliError> {
        self.ready().await?;
        if self.args.trust {
            self.trust().await?;
        }
        self.ignored(spec);
        if !self.secrets.is_empty() {
            self.client.import_secrets(self.secrets.clone()).await?;
        }
        let deployed = self.deploy(file, spec).await;
        if self.args.once {
            deployed?;
            let text = self.client.status().await?;
            if self.context.ui.json {
                return self.context.ui.json_line(&text);
            }
            let text = status::render(&text, self.context.now(), self.context.ui);
            return self.context.ui.print(&text);
        }
        match deployed {
            Err(error) if self.args.watch => self.complain(&error),
            other => other?,
        }
        let path = [("follow", Some("true".to_owned())), ("since", Some(self.since.clone()))];
        let logs = logs::show(self.context, &self.client, query("/v1/logs", &path), true);
        if !self.args.watch {
            return logs.await;
        }
        tokio::select! {
            ended = logs => ended,
            ended = self.redeploy(source, file) => ended,
        }
    }

    /// What is said of what stays.
    async fn kept(&self) -> String {
        let all = self.client.allocations().await.unwrap_or_default();
        runs_on(all.iter().filter(|one| !one.status.is_ended()).count())
    }

    /// Waits until the node serves, as a member.
    async fn ready(&self) -> Result<(), CliError> {
        let waiting = async {
            loop {
                match self.client.health().await {
                    Ok(health) if health.status == DaemonStatus::Ready => {
                        return self.keep_token().await;
                    }
                    Ok(health) if health.status == DaemonStatus::Unclaimed => {
                        let cluster = Some("dev".to_owned());
                        let request = InitRequest { cluster, ..InitRequest::default() };
                        let begun = self.client.init(&request).await?;
                        token::keep(&self.token, &begun.token)?;
                    }
                    Err(error) if !is_starting(&error) => return Err(CliError::from(error)),
                    _ => {}
                }
                tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
            }
        };
        let late = || CliError::failed("The node did not get ready in time");
        tokio::time::timeout(limits::DEV_READY, waiting).await.map_err(|_| late())?
    }

    /// Sees to it that there is a token for the API's TCP address.
    async fn keep_token(&self) -> Result<(), CliError> {
        if self.token.exists() {
            return Ok(());
        }
        let request = TokenRequest { role: Role::Admin, ttl: None, uses: None };
        let made = self.client.create_token(&request).await?;
        token::keep(&self.token, &made.token)
    }

    /// Lets this system trust the local CA.
    async fn trust(&self) -> Result<(), CliError> {
        let (data, env) = (self.data.clone(), self.context.env.clone());
        let trusted = tokio::task::spawn_blocking(move || trust::install(&data, &env)).await;
        let told = trusted.map_err(|error| CliError::failed(error.to_string()))??;
        told.iter().for_each(|line| self.note(line));
        Ok(())
    }

    /// What the file says and dev does not do.
    fn ignored(&self, spec: &Spec) {
        if spec.cluster.is_some() {
            self.note("cluster is ignored in dev");
        }
        let runs = spec.services.values().map(|service| &service.run);
        if runs.chain(spec.tasks.values().map(|task| &task.run)).any(|r| !r.constraints.is_empty())
        {
            self.note("constraint is ignored in dev: there is one node");
        }
    }

    fn note(&self, text: &str) {
        self.context.ui.note(&self.context.ui.paint(FAINT, text));
    }

    fn complain(&self, error: &CliError) {
        if !error.is_silent() {
            self.context.ui.note(&self.context.ui.paint(BAD, &error.text()));
        }
    }

    async fn deploy(&self, file: &MillFile, spec: &Spec) -> Result<(), CliError> {
        let mut spec = spec.clone();
        let images = up::overrides(&mut spec, &self.args.image)?;
        let key = Some(up::fresh_key());
        // Another file than last time is usual here.
        let options = DeployOptions { replace: true, images, plan: None, idempotency_key: key };
        let time = self.args.timeout.map(|timeout| timeout.0);
        up::deploy(self.context, &self.client, file, &spec, &options, (time, false)).await?;
        self.addresses(&spec).await
    }

    /// Where the file's services are reached.
    async fn addresses(&self, spec: &Spec) -> Result<(), CliError> {
        if self.context.ui.json {
            return Ok(());
        }
        let services = self.client.services().await?;
        let own = services.iter().filter(|one| one.app == spec.app.as_str());
        let lines = own.flat_map(|one| addresses(one, self.ports));
        lines.into_iter().try_for_each(|line| self.context.ui.print(&line))
    }

    /// Deploys the file again after each change; what is wrong with it is said and waited for.
    async fn redeploy(&self, source: &Source, file: &MillFile) -> Result<(), CliError> {
        let mut last = file.text.clone();
        loop {
            source.changed().await;
            let file = match source.read(self.context) {
                Ok(file) if file.text == last => continue,
                Ok(file) => file,
                Err(error) => {
                    self.complain(&error);
                    continue;
                }
            };
            last.clone_from(&file.text);
            let deployed = async { self.deploy(&file, &file.executable()?).await };
            if let Err(error) = deployed.await {
                self.complain(&error);
            }
        }
    }
}

/// How many containers `--keep` leaves, and what can be done then.
fn runs_on(count: usize) -> String {
    let what = if count == 1 { "1 container runs" } else { &format!("{count} containers run") };
    format!("{what} on. Again: mill dev; remove: mill clean --dev")
}

/// Whether the API is only about to answer.
fn is_starting(error: &ClientError) -> bool {
    match error {
        // The health route answers 503 with its own document.
        ClientError::Api { status, .. } | ClientError::Foreign { status, .. } => *status == 503,
        ClientError::NoDaemon { .. } | ClientError::Unreachable { .. } => true,
        other => other.is_lost(),
    }
}

/// Where a service is reached: by its name, by its routes, and at its published ports.
fn addresses(service: &ServiceView, (http, https): (u16, u16)) -> Vec<String> {
    let name = &service.name;
    let place = |(scheme, port, usual): (&str, u16, u16), host: &str, path: &str| {
        let port = if port == usual { String::new() } else { format!(":{port}") };
        format!("{name}  {scheme}://{host}.localhost{port}{path}")
    };
    let urls = |host: &str, path: &str| {
        [("http", http, 80), ("https", https, 443)].map(|way| place(way, host, path))
    };
    let mut lines = Vec::new();
    lines.extend(service.address.iter().flat_map(|_| urls(name, "")));
    for route in &service.routes {
        let (host, path) = route.split_at(route.find('/').unwrap_or(route.len()));
        lines.extend(urls(host.trim_end_matches(".localhost"), path));
    }
    lines.extend(service.publish.iter().map(|port| format!("{name}  127.0.0.1:{port}")));
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::service;

    #[test]
    fn what_is_kept_is_counted() {
        let rest = "on. Again: mill dev; remove: mill clean --dev";
        assert_eq!(runs_on(3), format!("3 containers run {rest}"));
        assert_eq!(runs_on(1), format!("1 container runs {rest}"));
    }

    #[test]
    fn a_service_has_an_address_by_its_name_and_by_each_route() {
        let mut web = service("web", 2, 1);
        let ports = (8080, 8443);
        assert_eq!(addresses(&web, ports), [""; 0]);
        web.address = Some("web.mill:3000".to_owned());
        web.publish = vec![15432];
        web.routes = vec!["app.example.com".to_owned(), "app.example.com/api".to_owned()];
        let expected = [
            "web  http://web.localhost:8080",
            "web  https://web.localhost:8443",
            "web  http://app.example.com.localhost:8080",
            "web  https://app.example.com.localhost:8443",
            "web  http://app.example.com.localhost:8080/api",
            "web  https://app.example.com.localhost:8443/api",
            "web  127.0.0.1:15432",
        ];
        assert_eq!(addresses(&web, ports), expected);
        assert_eq!(addresses(&web, (80, 443))[1], "web  https://web.localhost");
    }
}
