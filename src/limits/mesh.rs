//! Bounds and durations of the mesh between nodes.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// Packets that wait for the mesh in the kernel: few, since a long queue is only delay, and no
/// fewer than the parts of the largest datagram.
pub const MESH_QUEUE: u32 = 64;
/// Buffer of the mesh's UDP socket in each direction, in bytes.
pub const MESH_SOCKET_BUFFER: usize = 4 << 20;
/// The largest datagram, and so the largest joined packet, in bytes.
pub const MESH_DATAGRAM: usize = 65_535;
/// Bytes of one joined send: the largest UDP payload has 65,507.
pub const MESH_BURST_BYTES: usize = 65_000;
/// Packets of one joined send or receive: the kernel's own bound.
pub const MESH_BURST_PACKETS: usize = 64;
/// How often the sessions' timers are looked at.
pub const MESH_TICK: Duration = Duration::from_millis(500);
/// Handshake messages looked at in a second before a sender has to prove its address. Each is
/// counted twice.
pub const MESH_HANDSHAKES: u64 = 200;
/// A path that refused joined packets gets single ones for so long.
pub const MESH_SINGLE_FOR: Duration = Duration::from_secs(30);
/// A session that is kept alive is renewed at this age by one side.
pub const MESH_RENEW: Duration = Duration::from_secs(120);
/// And at this age by the other, if the first one has not.
pub const MESH_RENEW_LATER: Duration = Duration::from_secs(150);
/// A peer hears something at least this often, so that translated addresses on the way stay.
pub const MESH_KEEPALIVE: Duration = Duration::from_secs(25);
/// A peer without a handshake for so long, though it is up, is not reached.
pub const MESH_SILENT: Duration = Duration::from_secs(180);
/// What encryption and the outer headers take of the path's MTU, with IPv6 outside.
pub const MESH_OVERHEAD: u32 = 80;
/// The least MTU of the mesh, in bytes: what every path of IPv6 has, less the overhead.
pub const MESH_MTU_MIN: u32 = 1_200;
/// The largest MTU of the mesh, in bytes.
pub const MESH_MTU_MAX: u32 = 8_920;
/// Room for one packet of the mesh, in bytes.
pub const MESH_PACKET: usize = MESH_MTU_MAX as usize + 80;
/// How often the path's MTU is looked at.
pub const MESH_PATH_LOOK: Duration = Duration::from_secs(30);
/// How long another node's port may take to answer when it is tried.
pub const MESH_PROBE: Duration = Duration::from_secs(2);
/// How often a question through the mesh is asked: a session may have to begin first.
pub const MESH_PROBES: u32 = 3;
/// How long other nodes may take to have new keys before the answer says which have not.
pub const MESH_ROTATE_WAIT: Duration = Duration::from_secs(10);
/// After a failure the mesh is tried again this much later.
pub const MESH_RETRY: Duration = Duration::from_secs(2);

// A session is renewed before the protocol ends it after three minutes.
const _: () = assert!(MESH_RENEW.as_secs() < MESH_RENEW_LATER.as_secs());
const _: () = assert!(MESH_RENEW_LATER.as_secs() < MESH_SILENT.as_secs());
const _: () = assert!(MESH_PROBE.as_secs() * (MESH_PROBES as u64) < super::REACH_ANSWER.as_secs());
const _: () = assert!(MESH_BURST_BYTES + 507 <= MESH_DATAGRAM);
const _: () = assert!(MESH_QUEUE * (MESH_MTU_MIN - 28) > MESH_DATAGRAM as u32);
