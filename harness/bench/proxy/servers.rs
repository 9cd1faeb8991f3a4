//! The proxies that are compared, and the server behind all of them.
//!
//! Owns their processes and folders; they go with the run. Never asks any.

use crate::node::{processor_time, resident};
use crate::poll::poll;
use crate::state::{begun, deploy, place};
use mill::actors::proxy::certs::ByHost;
use mill::actors::proxy::engine::Threads;
use mill::actors::proxy::listen::Addresses;
use mill::actors::proxy::shared::{Settings, Shared};
use mill::id::NodeId;
use mill::node::certificates::read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Threads or processes of each.
const THREADS: usize = 2;
/// The server behind the proxies.
const ORIGIN: u16 = 20_180;
/// The host that is asked for.
pub const HOST: &str = "localhost";

/// A proxy.
pub struct Server {
    /// Its port without TLS.
    pub http: u16,
    /// And with it.
    pub https: u16,
    program: Program,
}

enum Program {
    /// In this process, which does nothing else meanwhile.
    Mill {
        threads: Option<Threads>,
        runtime: Runtime,
    },
    Other(Running),
}

/// A program that ends when this is dropped.
pub struct Running {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut ids = vec![self.child.id().cast_signed()];
        ids.extend(children(ids[0]));
        for id in ids {
            let id = nix::unistd::Pid::from_raw(id);
            // One that has ended is as well.
            let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Self::Mill { threads, runtime } = self
            && let Some(threads) = threads.take()
        {
            runtime.block_on(async { threads.stop().await });
        }
    }
}

impl Server {
    fn processes(&self) -> Vec<i32> {
        match &self.program {
            Program::Mill { .. } => vec![std::process::id().cast_signed()],
            Program::Other(running) => {
                let first = running.child.id().cast_signed();
                [vec![first], children(first)].concat()
            }
        }
    }

    /// What it has used of the processors.
    #[must_use]
    pub fn used(&self) -> Duration {
        self.processes().into_iter().map(processor_time).sum()
    }

    /// Its memory in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.processes().into_iter().map(resident).sum()
    }
}

/// The processes that a process started.
fn children(id: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |id: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    ids.filter(|other| parent(*other) == Some(id)).collect()
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn run(program: &str, arguments: &[&str], folder: tempfile::TempDir, port: u16) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap_or_else(|_| panic!("{program}: harness/setup --bench"));
    let running = Running { child, _folder: folder };
    poll(|| listens(port)).secs(20).expect(program);
    running
}

fn nginx(folder: tempfile::TempDir, http: &str, port: u16) -> Running {
    let place = folder.path().display();
    let text = format!(
        "user root; worker_processes {THREADS}; daemon off; pid {place}/pid;\n\
         error_log /dev/null crit;\nevents {{ worker_connections 8192; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
         client_body_temp_path {place}/b; proxy_temp_path {place}/p;\n\
         fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         client_body_buffer_size 128k; {http} }}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let (file, place) = (file.display().to_string(), place.to_string());
    run("nginx", &["-c", &file, "-p", &place, "-e", "/dev/null"], folder, port)
}

/// The server behind the proxies: `/small`, `/large`, and `/up` for what is sent.
#[must_use]
pub fn origin() -> Running {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large"), "x".repeat(100 << 10)).unwrap();
    let http = format!(
        "server {{ listen 127.0.0.1:{ORIGIN} reuseport backlog=4096; default_type text/plain;\n\
         location = /small {{ return 200 \"{}\"; }}\nlocation = /up {{ return 200 ok; }}\n\
         location = /large {{ root {}; }} }}",
        "x".repeat(1 << 10),
        folder.path().display()
    );
    nginx(folder, &http, ORIGIN)
}

/// A certificate for [`HOST`] with its key, both PEM.
#[must_use]
pub fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Debian's nginx.
#[must_use]
pub fn of_nginx((chain, key): &(String, String)) -> Server {
    let (http, https) = (20_181, 20_182);
    let folder = tempfile::tempdir().unwrap();
    let chain = write(folder.path(), "chain", chain);
    let key = write(folder.path(), "key", key);
    let text = format!(
        "upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 256;\n\
         keepalive_requests 100000000; }}\n\
         server {{ listen 127.0.0.1:{http} reuseport backlog=4096;\n\
         listen 127.0.0.1:{https} ssl http2 reuseport backlog=4096; server_name {HOST};\n\
         ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         location / {{ proxy_pass http://origin; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Host $http_host;\n\
         proxy_set_header X-Request-Id $request_id; }} }}"
    );
    let program = Program::Other(nginx(folder, &text, https));
    Server { http, https, program }
}

/// Debian's haproxy.
#[must_use]
pub fn of_haproxy((chain, key): &(String, String)) -> Server {
    let (http, https) = (20_183, 20_184);
    let folder = tempfile::tempdir().unwrap();
    let pem = write(folder.path(), "pem", &format!("{chain}{key}"));
    let text = format!(
        "global\n  nbthread {THREADS}\n  maxconn 8192\ndefaults\n  mode http\n\
         \u{20} timeout connect 3s\n  timeout client 60s\n  timeout server 60s\n\
         \u{20} http-reuse always\n  option forwardfor\n\
         frontend f\n  bind 127.0.0.1:{http}\n\
         \u{20} bind 127.0.0.1:{https} ssl crt {pem} alpn h2,http/1.1 ssl-min-ver TLSv1.2\n\
         \u{20} http-request set-header X-Forwarded-Host %[req.hdr(host)]\n\
         \u{20} http-request set-header X-Request-Id %[uuid]\n\
         \u{20} default_backend b\nbackend b\n  server s 127.0.0.1:{ORIGIN}\n"
    );
    let file = write(folder.path(), "haproxy.cfg", &text);
    let program = Program::Other(run("haproxy", &["-db", "-f", &file], folder, https));
    Server { http, https, program }
}

/// mill's.
#[must_use]
pub fn of_mill((chain, key): &(String, String)) -> Server {
    let (http, https) = (20_185, 20_186);
    // Another part may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut state = begun();
    let routes = format!("route \"{HOST}\" redirect=#false log=#false");
    let service = format!("service \"web\" {{ image \"x:1\"; port {ORIGIN}; {routes} }}");
    deploy(&mut state, &format!("app \"bench\"\n{service}\n"));
    place(&mut state, "web", std::iter::once(Ipv4Addr::LOCALHOST));
    let shared = Shared::new(Settings::default(), Arc::default());
    shared.show(&state, NodeId(1));
    let pair = Arc::new(read::pair(chain, key).unwrap());
    shared.serve_by(ByHost::from([(HOST.to_owned(), pair)]));
    let runtime = Runtime::new().unwrap();
    let threads = {
        let _entered = runtime.enter();
        let own = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let addresses = Addresses::open(own(http), own(https)).unwrap();
        Threads::start(&shared, addresses.pairs().unwrap()).unwrap()
    };
    let program = Program::Mill { threads: Some(threads), runtime };
    Server { http, https, program }
}
