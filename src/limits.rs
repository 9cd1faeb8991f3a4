//! Every bound and every duration, with the relations between them.
//!
//! Never holds a value that a person sets: those are in the file, the flags or the settings.

mod api;
pub use api::*;

mod canary;

pub use canary::*;
mod converge;

pub use converge::*;
mod certificates;

pub use certificates::*;

mod clock;

pub use clock::*;

mod compose;

pub use compose::*;
mod health;

pub use health::*;

mod dns;

pub use dns::*;

mod host;

pub use host::*;

mod images;

pub use images::*;

mod logs;

pub use logs::*;

mod kept;

pub use kept::*;

mod ingress;

pub use ingress::*;

mod mesh;

pub use mesh::*;

mod peer;

pub use peer::*;

mod raft;

pub use raft::*;

mod reach;

pub use reach::*;

mod runtime;

pub use runtime::*;

mod backup;

pub use backup::*;

mod secrets;

pub use secrets::*;

mod volumes;

pub use volumes::*;

mod trust;

pub use trust::*;

use std::time::Duration;

/// Largest file that is read, in bytes.
pub const FILE_MAX: usize = 1 << 20;
/// Deepest nesting of blocks in a file.
pub const FILE_DEPTH_MAX: usize = 32;
/// Problems shown for a file; nobody reads more.
pub const FILE_PROBLEMS_MAX: usize = 100;
/// Longest message of a problem, in bytes.
pub const FILE_MESSAGE_MAX: usize = 400;
/// Characters of a source line shown with a problem.
pub const FILE_EXCERPT_WIDTH: usize = 100;
/// Longest line that formatting makes of a block that was on one line.
pub const FILE_LINE_WIDTH: usize = 100;
/// Nodes, values and comments in a file: bounds the time that reading it takes.
pub const FILE_ITEMS_MAX: usize = 200_000;
/// Values in one line of a file.
pub const FILE_LINE_VALUES_MAX: usize = 1_024;
/// Longest name of a cluster, app, service, task, volume or port.
pub const NAME_MAX: usize = 50;
/// Most replicas of a service.
pub const REPLICAS_MAX: u32 = 5_000;
/// Most requests that a canary may be asked to wait for.
pub const MIN_REQUESTS_MAX: u32 = 1_000_000;
/// Most cores that one container can ask for, in thousandths.
pub const CPU_MAX_MILLI: u64 = 1_024_000;
/// Least memory that a container starts with, in bytes.
pub const MEMORY_MIN: u64 = 4_000_000;
/// Largest size in a file, in bytes: 1024 TiB.
pub const SIZE_MAX: u64 = 1 << 50;
/// Longest duration in a file, in milliseconds: 366 days.
pub const SPAN_MAX_MS: u64 = 366 * 24 * 3_600_000;
/// Longest argument or environment variable that Linux takes, in bytes.
pub const ARG_MAX: usize = 128 * 1024 - 1;
/// Longest path in a container, in bytes.
pub const PATH_MAX: usize = 4095;
/// Labels of a node.
pub const NODE_LABELS_MAX: usize = 64;
/// Longest name of a label, in bytes.
pub const LABEL_MAX: usize = 63;
/// Longest value of a label, in bytes.
pub const LABEL_VALUE_MAX: usize = 253;
/// Allocations that a refusal to remove their node names.
pub const NAMED_ALLOCATIONS: usize = 5;
/// Events kept.
pub const EVENTS_KEPT: usize = 1_000;
/// Plans that a node remembers, so that it can say what has changed since.
pub const PLANS_REMEMBERED: usize = 256;
/// Planning steps that a prediction of a rollout follows.
pub const FORECAST_STEPS: usize = 20_000;
/// Revisions kept for each app.
pub const REVISIONS_PER_APP: usize = 50;
/// Ended runs kept for each task.
pub const ENDED_TASKS_EACH: usize = 1_000;
/// Ended runs kept in all.
pub const ENDED_TASKS_ALL: usize = 10_000;
/// Runs of tasks that are not over, at once.
pub const RUNS_LIVE_MAX: usize = 10_000;
/// Output kept with a failure, in bytes.
pub const FAILURE_OUTPUT_MAX: usize = 1024;
/// Shortest time between two batches of reports from a node.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(50);
/// A report that did not arrive is sent again after this long.
pub const REPORT_RETRY: Duration = Duration::from_millis(200);
/// Lines of output kept with a failure, within its bytes.
pub const FAILURE_LINES: usize = 10;
/// Time between two readings of what containers use.
pub const USAGE_INTERVAL: Duration = Duration::from_secs(10);
/// After its start a node waits this long before it clears up what is old.
pub const SWEEP_FIRST: Duration = Duration::from_secs(60);
/// Time between two looks at how much room logs and images take.
pub const RELIEF_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two clearings of what is old.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Backoff between restarts of a failed container; the last one repeats.
pub const RESTART_BACKOFF: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
];
/// A program that ran this long before it ended starts the backoff over.
pub const RESTART_SETTLED: Duration = Duration::from_secs(120);
/// Without a port or a health check: a program that is up this long is healthy.
pub const UPTIME_HEALTHY: Duration = Duration::from_secs(2);
/// So many failed probes in a row make a program unhealthy.
pub const UNHEALTHY_FAILURES: u32 = 3;
/// Shortest and longest pause between probes until the first success.
pub const PROBE_QUICK: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];
/// A failed probe is not worth telling so soon after the start.
pub const PROBE_QUIET: Duration = Duration::from_secs(1);
/// Of a failed probe's HTTP answer so many bytes are told.
pub const PROBE_BODY: usize = 256;
/// And they are waited for so long.
pub const PROBE_BODY_WAIT: Duration = Duration::from_millis(500);
/// A probe by command that containerd could not carry out is made again after this long.
pub const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// Looks at a process that is to be killed while its start is under way.
pub const EXEC_START_LOOKS: u32 = 500;
/// Processes that are being added to containers at once: each costs a start of the runtime.
pub const EXEC_STARTS: usize = 8;
/// Largest piece of files that are copied into or out of a container.
pub const COPY_PIECE: usize = 64 << 10;
/// Largest piece of a process's output in one frame.
pub const EXEC_FRAME: usize = 32 << 10;
/// Largest frame that is taken from who runs a process.
pub const EXEC_FRAME_MAX: usize = 1 << 20;
/// Arguments of a process that is added to a container.
pub const EXEC_ARGS: usize = 1_000;
/// Who runs a process is asked for a sign of life so often.
pub const EXEC_PING: Duration = Duration::from_secs(15);
/// And counts as gone after so long without one.
pub const EXEC_SILENCE: Duration = Duration::from_secs(45);
/// What a process wrote is waited for so long after its end: a child of it may hold its output.
pub const EXEC_DRAIN: Duration = Duration::from_secs(1);
/// Time to live of a service's DNS records.
pub const DNS_TTL: Duration = Duration::from_secs(1);
/// After every node has settled a draining, the stop waits this much longer.
pub const DRAIN_DELAY: Duration = Duration::from_millis(1_200);
/// How long a node may take to settle a draining before it counts as unreachable.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
/// How long something that can't be placed or pulled is tried.
pub const UNPLACED_DEADLINE: Duration = Duration::from_secs(300);
/// A deployment's task waits so long before what the deployment removes makes room for it.
pub const ROOM_PATIENCE: Duration = Duration::from_secs(60);
const _: () = assert!(ROOM_PATIENCE.as_secs() < UNPLACED_DEADLINE.as_secs());
/// A pull that gets further is told at most so often.
pub const PULL_TOLD: Duration = Duration::from_secs(20);
/// How often its node looks how far it is.
pub const PULL_LOOK: Duration = Duration::from_secs(10);
const _: () = assert!(
    2 * (PULL_TOLD.as_secs() + PULL_LOOK.as_secs()) < UNPLACED_DEADLINE.as_secs(),
    "a pull that gets further must be heard of in time"
);
/// How long the last lines of a program that has ended are waited for.
pub const LOG_LAST: Duration = Duration::from_secs(5);
/// A node of which the leader has heard nothing for so long is lost.
pub const NODE_DOWN: Duration = Duration::from_secs(5);
/// A voter that is down for so long gives its vote to another node.
pub const VOTER_DOWN: Duration = Duration::from_secs(60);
/// How long a hand-over of leadership may take before it is tried again.
pub const MEMBERS_RETRY: Duration = Duration::from_secs(5);
/// How often the leader looks who is silent.
pub const SILENCE_TICK: Duration = Duration::from_secs(1);
/// A look that comes later than this means that the leader itself stood still.
pub const SILENCE_LATE: Duration = Duration::from_secs(1);
const _: () = assert!(VOTER_DOWN.as_secs() > NODE_DOWN.as_secs());
const _: () = assert!(NODE_DOWN.as_secs() > SILENCE_TICK.as_secs() + SILENCE_LATE.as_secs());
/// How long a read waits for the leader's confirmation.
pub const READ_CONFIRM: Duration = Duration::from_secs(1);
/// Processes of a node before the current one whose late proposals are recognised.
pub const SESSIONS_PAST: usize = 4;
/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);
/// Idempotency keys remembered at once.
pub const IDEMPOTENCY_MAX: usize = 10_000;

/// Largest packet on a container's interface, if the host's way out takes it.
pub const LINK_MTU: u32 = 1500;
/// Pause between two looks at an interface that is coming up.
pub const LINK_UP_PAUSE: Duration = Duration::from_millis(1);
/// How often an interface that is coming up is looked at.
pub const LINK_UP_TRIES: u32 = 500;
/// How long the kernel may take for one change of interfaces, addresses or routes: it holds them
/// back while it takes other namespaces away.
pub const NETLINK_DEADLINE: Duration = Duration::from_secs(20);
/// How long `nft` may take for one change.
pub const NFT_DEADLINE: Duration = Duration::from_secs(10);

/// Processes and threads that one container may have.
pub const CONTAINER_PIDS: i64 = 4_096;
/// Open files that one process in a container may have.
pub const CONTAINER_FILES: u64 = 1 << 20;
/// How long one call to containerd may take.
pub const CONTAINERD_CALL: Duration = Duration::from_secs(60);
/// How long a call is repeated while containerd is away.
pub const CONTAINERD_AWAY: Duration = Duration::from_secs(15);
/// Pause before such a repetition: first, then doubled up to the last.
pub const CONTAINERD_RETRY: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];
/// How long a private containerd may take until it answers.
pub const CONTAINERD_READY: Duration = Duration::from_secs(20);
/// How long a private containerd may take to end before it is killed.
pub const CONTAINERD_STOP: Duration = Duration::from_secs(10);
/// A private containerd that lived shorter than this is restarted with a pause.
pub const CONTAINERD_SETTLED: Duration = Duration::from_secs(10);
/// How long a killed container may take to be gone.
pub const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// Events of containers that wait for their reader; further ones wait in containerd.
pub const TASK_EVENTS: usize = 1_024;
/// Blobs that are fetched from registries at once.
pub const PULLS_PARALLEL: usize = 4;
/// Shortest time between two figures of pulls in one stream of events.
pub const PULL_FIGURES: Duration = Duration::from_millis(200);
/// Largest piece of a blob in one message to containerd.
pub const BLOB_CHUNK: usize = 512 << 10;
/// Largest manifest, index or image configuration.
pub const MANIFEST_MAX: u64 = 4 << 20;
/// Silence after which a registry counts as down.
pub const REGISTRY_SILENCE: Duration = Duration::from_secs(30);
/// How long a manifest, index, configuration or token may take to come.
pub const REGISTRY_DOCUMENT: Duration = Duration::from_secs(60);
/// Largest token, with what comes along, and largest refusal, in bytes.
pub const REGISTRY_TOKEN_MAX: u64 = 256 << 10;
/// A registry's token is used so long at most, whatever it says.
pub const REGISTRY_TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// The shortest and the longest wait that a registry may ask for.
pub const REGISTRY_WAIT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
/// A blob that comes slower than so many bytes in that time is given up.
pub const BLOB_SLOWEST: (u64, Duration) = (16 << 10, Duration::from_secs(30));
/// The least that a layer may hold unpacked, in bytes.
pub const LAYER_MAX: u64 = 8 << 30;
/// A layer may hold so many times what it has packed, where that is more.
pub const LAYER_RATIO: u64 = 100;
/// How often a layer that is unpacked is measured, at most.
pub const LAYER_MEASURED: Duration = Duration::from_millis(200);
/// An image that nothing needs is kept so long after it came, or was last wanted.
pub const IMAGE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// And so long at least, also where the disk is full.
pub const IMAGE_TOUCHED: Duration = Duration::from_secs(600);
/// With less of the disk free than this, in percent, images that nothing needs go at once, and
/// fewer logs are kept.
pub const DISK_FREE_PERCENT: u64 = 15;
/// Logins to registries kept at once.
pub const LOGINS_MAX: usize = 100;
/// How long a credential helper may take.
pub const CREDENTIAL_HELPER: Duration = Duration::from_secs(10);
/// What a credential helper said is used for this long; its tokens live for longer.
pub const CREDENTIAL_KEPT: Duration = Duration::from_secs(300);
/// How long a connection to a registry may take.
pub const REGISTRY_CONNECT: Duration = Duration::from_secs(10);
/// Pause that a rate-limited registry asks for when it names none.
pub const REGISTRY_PAUSE: Duration = Duration::from_secs(30);
/// After this long containerd drops what an interrupted pull left.
pub const PULL_LEASE: Duration = Duration::from_secs(48 * 3600);
/// How long unpacking one layer may take.
pub const UNPACK: Duration = Duration::from_secs(1800);
/// Images whose configuration is kept in memory.
pub const IMAGES_CACHED: usize = 256;

/// Two readings of a counter of processor time that give a rate are this far apart at least.
pub const USAGE_MIN: Duration = Duration::from_millis(200);
/// Logs kept on a node, in bytes; beyond it what is oldest goes first.
pub const LOGS_MAX: u64 = 512 << 20;
/// And where the disk is nearly full.
pub const LOGS_PRESSED: u64 = 64 << 20;

const _: () = assert!(DRAIN_DELAY.as_millis() >= DNS_TTL.as_millis());
/// Most actions in one entry.
pub const ACTIONS_PER_STEP: usize = 500;
/// Ended allocations of a service whose record is kept.
pub const ENDED_PER_SERVICE: usize = 10;
/// How long an ended allocation's record and logs are kept.
pub const ENDED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// A new replica that ended this often fails its deployment.
pub const DEPLOY_CRASHES: u32 = 3;
/// What the way back of a failed deployment may take beyond its services' own deadlines.
pub const REVERT_MARGIN: Duration = Duration::from_secs(60);
/// Failures of an actor are counted over this time.
pub const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// More failures of an actor than this in the window end the process.
pub const RESTARTS_PER_WINDOW: usize = 5;
/// An actor's first restart waits this long, each further one twice as long.
pub const RESTART_FIRST: Duration = Duration::from_millis(50);
const _: () = assert!(LOG_PART_MAX * 4 < LOG_LINE_MAX && LOG_LINE_MAX < LOG_FILE_MAX as usize);
const _: () = assert!(LOG_FILES_MAX >= 3);
const _: () = assert!(LOG_FILE_MAX * (LOG_FILES_MAX as u64) < LOGS_MAX);
const _: () = assert!(LOG_FILE_MAX < LOGS_PRESSED && LOGS_PRESSED < LOGS_MAX);
/// Proposals of a node that wait for their outcome.
pub const PROPOSALS_MAX: usize = 4096;
/// A proposal that no leader took is handed to one again after this long.
pub const PROPOSE_AGAIN: Duration = Duration::from_millis(100);
/// A proposal waits so long for a leader.
pub const LEADER_WAIT: Duration = Duration::from_secs(8);
const _: () = assert!(LEADER_WAIT.as_secs() < API_PROPOSE.as_secs());
/// How long a child may take to stop.
pub const CHILD_STOP: Duration = Duration::from_secs(10);
/// After refused steps the scheduler plans again this much later.
pub const REPLAN_DELAY: Duration = Duration::from_millis(100);

const _: () = assert!(RESTART_SETTLED.as_secs() > RESTART_BACKOFF[3].as_secs());
/// How long tasks that are taken down may take to be over.
pub const RUNS_OVER: Duration = Duration::from_secs(120);
/// How long the command line waits for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the command line waits for an answer that isn't a stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that the command line takes, in bytes.
pub const ANSWER_MAX: usize = 64 << 20;
/// Largest refusal that the command line takes, in bytes.
pub const ERROR_ANSWER_MAX: usize = 4 << 20;
/// Largest event that the command line takes, in bytes.
pub const EVENT_MAX: usize = 4 << 20;
/// A stream that is silent for so long is lost: the API sends a comment every 15 s.
pub const STREAM_SILENCE: Duration = Duration::from_secs(45);
/// Pauses before a lost stream is asked for again: the first, the longest.
pub const RECONNECT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// How long a lost stream is asked for again.
pub const RECONNECT_FOR: Duration = Duration::from_secs(60);
const _: () = assert!(LOG_LINE_MAX * 2 < EVENT_MAX);
/// How long the command line follows a drain beyond its deadline.
pub const DRAIN_FOLLOWED: Duration = Duration::from_secs(60);
/// And looks again after so long without an event.
pub const DRAIN_LOOK: Duration = Duration::from_secs(5);
/// How often the command line looks again where there is no stream to follow.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a shell's completion waits for names of the cluster.
pub const COMPLETION_WAIT: Duration = Duration::from_secs(1);
/// After so long without news the command line says which replicas are about to end.
pub const FOLLOW_QUIET: Duration = Duration::from_secs(1);
/// How often the command line looks whether a restart is done.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How long a request waits for the first view of a node that starts.
pub const API_FIRST_VIEW: Duration = Duration::from_secs(10);
/// How long a new cluster may take to be ready.
pub const INIT_READY: Duration = Duration::from_secs(20);
/// After a failed introduction a node tries again this much later.
pub const INTRODUCE_AGAIN: Duration = Duration::from_millis(500);
/// How long `mill dev` waits for its node.
pub const DEV_READY: Duration = Duration::from_secs(60);
/// How often `mill dev --watch` looks at the file.
pub const FILE_WATCH_INTERVAL: Duration = Duration::from_millis(300);
const _: () = assert!(EXEC_PING.as_secs() * 2 < EXEC_SILENCE.as_secs());
