//! One probe of a container's health, from the host or by a command in the container.
//!
//! Owns how a probe is made and how its failure is told. Never judges: how many failures count is
//! for `life`.

use crate::actors::platform::containerd;
use crate::actors::platform::exec::{ExecError, Execs, Probed};
use crate::id::ContainerId;
use crate::limits;
use crate::spec::model::{HealthProbe, HealthSpec};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::net::TcpStream;

/// Probes once; HTTP asks for that host. The error says what was seen, and what to do where that is
/// known.
///
/// # Errors
/// The container doesn't answer as it should within the time that it has.
pub async fn probe(
    health: &HealthSpec,
    host: &str,
    address: Ipv4Addr,
    port: Option<u16>,
) -> Result<(), String> {
    let target = SocketAddrV4::new(address, port.unwrap_or_default());
    let attempt = async {
        match (&health.probe, port) {
            (HealthProbe::Uptime, _) => Ok(()),
            (HealthProbe::Tcp, Some(_)) => tcp(target).await.map(drop),
            (HealthProbe::Http(path), Some(_)) => http(target, host, path).await,
            (HealthProbe::Tcp | HealthProbe::Http(_), None) => {
                Err("there is no port to probe; give the service a port".to_owned())
            }
            // Made by `exec`.
            (HealthProbe::Exec(_), _) => Err("a command is no address to probe".to_owned()),
        }
    };
    let within = health.timeout.duration();
    match tokio::time::timeout(within, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(silent(&health.probe, target, within)),
    }
}

/// Probes once by a command in the container. While containerd is away or doesn't say how it went
/// nothing is known, so that this asks again.
///
/// # Errors
/// The command fails, isn't there, or doesn't end within its time: then it is killed.
pub async fn exec(
    execs: &Execs,
    container: &ContainerId,
    argv: &[String],
    within: Duration,
) -> Result<(), String> {
    let seen = |what: &str, output: &str| {
        let text = format!("{} → {what}\n{output}", argv.join(" "));
        Err(text.trim_end().to_owned())
    };
    loop {
        match execs.probe(container, argv, within).await {
            Ok(Probed::Exited(0, _)) => return Ok(()),
            Ok(Probed::Exited(code, output)) => return seen(&format!("exited {code}"), &output),
            Ok(Probed::Late(output)) => {
                return seen(&format!("no end in {within:?}, killed"), &output);
            }
            Ok(Probed::Gone) => return seen("the container doesn't run", ""),
            Ok(Probed::Unknown) => tokio::time::sleep(limits::PROBE_AGAIN).await,
            Err(ExecError::Containerd(error)) if error.is_unclear() => {
                tracing::debug!(%container, %error, "a probe is made again");
                tokio::time::sleep(limits::PROBE_AGAIN).await;
            }
            Err(ExecError::Containerd(containerd::Error::CommandNotFound { command })) => {
                return Err(format!("health: {command:?} isn't in the image; check its path"));
            }
            Err(ExecError::Containerd(containerd::Error::CommandNotExecutable {
                command,
                reason,
            })) => return Err(format!("health: {command:?} can't be executed: {reason}")),
            Err(error) => return seen(&error.to_string(), ""),
        }
    }
}

fn silent(probe: &HealthProbe, target: SocketAddrV4, within: Duration) -> String {
    match probe {
        HealthProbe::Http(path) => format!("GET {path} → no answer in {within:?}"),
        _ => format!("{target} doesn't answer in {within:?}"),
    }
}

async fn tcp(target: SocketAddrV4) -> Result<TcpStream, String> {
    TcpStream::connect(target).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{target} refused; listen on 0.0.0.0:$PORT")
        }
        _ => format!("{target}: {error}"),
    })
}

async fn http(target: SocketAddrV4, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("GET {path} → {error}");
    let stream = TokioIo::new(tcp(target).await?);
    let (mut sender, connection) =
        http1::handshake(stream).await.map_err(|error| failed(&error))?;
    let request = Request::get(path)
        .header("host", host)
        .header("user-agent", "mill")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let talk = async {
        let mut answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = match status {
            200..=399 => String::new(),
            _ => beginning(answer.body_mut()).await,
        };
        Ok::<_, hyper::Error>((status, body))
    };
    let mut talk = std::pin::pin!(talk);
    let told = tokio::select! {
        told = &mut talk => told,
        // A server that closes at once has answered all the same.
        ended = connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(error),
        },
    };
    match told.map_err(|error| failed(&error))? {
        (200..=399, _) => Ok(()),
        (code, body) => Err(failed(&format!("{code}\n{body}")).trim_end().to_owned()),
    }
}

/// The first bytes of an answer's body that come soon, as text.
async fn beginning(body: &mut Incoming) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend(frame.into_data().unwrap_or_default());
            if bytes.len() >= limits::PROBE_BODY {
                return;
            }
        }
    };
    // What has come by then will do.
    let _ = tokio::time::timeout(limits::PROBE_BODY_WAIT, read).await;
    bytes.truncate(limits::PROBE_BODY);
    let text = String::from_utf8_lossy(&bytes);
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn health(probe: HealthProbe) -> HealthSpec {
        HealthSpec {
            explicit: true,
            probe,
            interval: Millis::secs(10),
            timeout: Millis(300),
            grace: Millis::secs(30),
            host: None,
        }
    }

    /// A server that answers every request so; nothing: it accepts and is silent.
    async fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                assert!(text.is_empty() || text.starts_with("GET /healthz HTTP/1.1"), "{text}");
                // As frameworks do that know which names are theirs.
                let stranger = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                let is_own = text.is_empty() || text.contains("\r\nhost: web\r\n");
                let answer = if is_own { answer } else { stranger };
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answer.is_empty() {
                    open.push(stream);
                }
            }
        });
        port
    }

    async fn ask(probe: HealthProbe, port: u16) -> Result<(), String> {
        super::probe(&health(probe), "web", Ipv4Addr::LOCALHOST, Some(port)).await
    }

    #[tokio::test]
    async fn http_judges_by_the_status() {
        let get = || HealthProbe::Http("/healthz".into());
        let ok = server("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(ask(get(), ok).await, Ok(()));
        let moved = server("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(ask(get(), moved).await, Ok(()));
        let broken = server("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops").await;
        assert_eq!(ask(get(), broken).await, Err("GET /healthz → 500\noops".into()));
        let silent = server("").await;
        let text = ask(get(), silent).await.unwrap_err();
        assert_eq!(text, "GET /healthz → no answer in 300ms");
        for _ in 0..50 {
            assert_eq!(ask(get(), ok).await, Ok(()), "however the answer and the end race");
        }
        let odd = server("hello\n").await;
        assert!(ask(get(), odd).await.unwrap_err().starts_with("GET /healthz → "));
    }

    #[tokio::test]
    async fn tcp_needs_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(ask(HealthProbe::Tcp, port).await, Ok(()));
        drop(listener);
        let text = ask(HealthProbe::Tcp, port).await.unwrap_err();
        assert_eq!(text, format!("127.0.0.1:{port} refused; listen on 0.0.0.0:$PORT"));
        assert_eq!(ask(HealthProbe::Uptime, port).await, Ok(()));
    }
}
