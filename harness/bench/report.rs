//! The page that the figures are written to.
//!
//! Owns its look. Never measures.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub figure: &'static str,
    /// What mill took.
    pub mill: String,
    /// What it was compared with, in the same run.
    pub peer: String,
    /// The aim.
    pub aim: &'static str,
    /// Whether it was met; none where there is no aim.
    pub met: Option<bool>,
}

/// Milliseconds with as many digits as mean something.
#[must_use]
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        0.0..10.0 => format!("{ms:.3} ms"),
        10.0..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// The median; of an even number the upper one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The whole page.
#[must_use]
pub fn page(rows: &[Row]) -> String {
    let mut page = format!(
        "# Performance\n\n\
         Written by `make bench`; every comparison was measured in the same run on the same\n\
         machine and disk. {}\n\n\
         | figure | mill | compared with | aim | met |\n|---|---|---|---|---|\n",
        machine()
    );
    for row in rows {
        let met = row.met.map_or("", |met| if met { "yes" } else { "**no**" });
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {met} |",
            row.figure, row.mill, row.peer, row.aim
        );
    }
    page.push_str(NOTES);
    page
}

const NOTES: &str = "
How it was measured

- *One warm replica*: the image is unpacked already, the service has no port and no health check;
  from sending the file to the API until the allocation is `running`. `ctr run -d` is containerd
  1.6's own client with the same image, without network or logs. Medians.
- *20 replicas*: from the request until all 20 run. Docker Swarm is Debian's docker.io with a
  containerd and a bridge network of its own, in a network namespace without a way out, so that no
  task waits for a registry; `docker service create --detach`, its state read from Docker's API.
- *Commit*: a proposal to root until it is applied and answered, one voter, entries of 512 bytes.
  The raw append writes 512 bytes at the end of a file and calls fdatasync.
- *Rolling update*: 3 replicas, start-first, one at a time, warm image, an HTTP health check each
  second; from the request until all new ones are healthy. Docker checks by a command in the
  container; `--update-monitor 1s --update-order start-first`. Medians.
- *Planning*: 50 services of 200 replicas in 5 apps, the functions themselves on one core: plan and
  apply in turn until all are placed; entries with one reported change each; the plan of an app
  after one of its replicas has died; the state to bytes and back. Medians where repeated.
- *Idle*: 20 containers run, nothing is asked; the daemon's own process (proportional set size), and
  its processor time over a minute. The logger is the largest of the 20 logger processes.
- *Pull*: an image of ten layers, each 26 MB of letters and 20 MB packed by gzip, from a registry
  on loopback into a containerd of its own for each side, until it is unpacked. Medians of five.
- *Parallel*: 50 replicas of a service, each with a ceiling of 0.04 cores and 16 MB, from the
  request until all are `running`; 50 processes of `ctr run -d` with the same image and the same
  ceilings, started at once, until the last one has ended. mill's containers also have a network
  and a log. Medians of three.
- *Logs*: one container, lines of 100 bytes. The flood is 1 GB written in large pieces, as fast as
  it is taken; at 10,000 lines a second the program writes each line by itself, in bursts of 100.
  Processor time is that of the shim, with mill's logger; with `file://` the shim copies by itself,
  without times, streams or rotation. Medians of three.
- *Ready*: from starting the process until `/v1/health` answers on its socket. A restart finds its
  containerd running; a first start makes the data directory.
";

fn machine() -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = run("uname", &["-r"]).unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default();
    let date = run("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default();
    let mill = run(super::support::node::MILL, &["version"]).unwrap_or_default();
    format!("{date}, {cores} cores, Linux {kernel}, {mill}.")
}
