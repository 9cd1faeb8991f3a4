//! A stand-in of a provider of block storage: `DigitalOcean`'s API v2 as its documentation has it,
//! over plain HTTP, with loop devices for volumes.
//!
//! Owns its files and devices: they go with it. By its seed it is slow, fails, and loses answers,
//! before or after it did what was asked. It never lets two machines have a volume, and what is
//! torn from a machine that still has it mounted writes into the void from then on.

#[path = "provider/disks.rs"]
mod disks;
#[path = "provider/http.rs"]
mod http;

use disks::Disk;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Who the cluster is to it.
pub const TOKEN: &str = "dop_v1_right-horse-7";
/// The only region.
pub const REGION: &str = "fra1";
/// Volumes on a page, whatever is asked for.
const PAGE: usize = 2;
/// Volumes that a machine takes.
const MOST: usize = 7;

/// What goes wrong, in hundredths of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Decides which.
    pub seed: u64,
    /// Refused with 500.
    pub fails: u64,
    /// Refused with 429.
    pub limits: u64,
    /// Never answered: half of them are carried out.
    pub loses: u64,
    /// Actions that end as errored.
    pub errs: u64,
    /// Milliseconds that an action takes at most.
    pub slow: u64,
}

/// A running stand-in.
pub struct Provider {
    world: Arc<Mutex<World>>,
    address: SocketAddr,
    stops: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

/// What it knows.
struct World {
    trouble: Trouble,
    dice: u64,
    next: u64,
    volumes: BTreeMap<String, Volume>,
    actions: BTreeMap<u64, Action>,
    /// Where machines find their devices, a folder each; absent: nothing is really attached.
    devices: Option<PathBuf>,
    files: PathBuf,
    /// What it was asked: method and path, without identifiers.
    asked: BTreeMap<String, u32>,
    /// How often a volume was torn from a machine that had it mounted.
    torn: u32,
}

struct Volume {
    name: String,
    region: String,
    gigabytes: u64,
    /// Which machine has it, and as which device.
    droplet: Option<u64>,
    disk: Option<Disk>,
    pending: bool,
}

struct Action {
    volume: String,
    what: What,
    ends: Instant,
    errs: bool,
    status: &'static str,
}

#[derive(Clone, Copy)]
enum What {
    Attach(u64),
    Detach(u64),
    Resize(u64),
}

/// An answer: its status and document.
type Answer = (u16, Value);

impl Provider {
    /// One on loopback that has no devices.
    #[must_use]
    pub fn start(trouble: Trouble) -> Self {
        Self::serve(TcpListener::bind(("127.0.0.1", 0)).unwrap(), trouble, None)
    }

    /// One in a network namespace, at port 8080 of that address, that attaches loop devices:
    /// machine N finds its own in the folder N of `devices`.
    #[must_use]
    pub fn start_in(namespace: &Path, address: &str, devices: &Path, trouble: Trouble) -> Self {
        let namespace = std::fs::File::open(namespace).unwrap();
        let place: SocketAddr = SocketAddr::new(address.parse().unwrap(), 8080);
        let bound = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind(place).unwrap()
        });
        Self::serve(bound.join().unwrap(), trouble, Some(devices.to_owned()))
    }

    fn serve(listener: TcpListener, trouble: Trouble, devices: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = listener.local_addr().unwrap();
        let world = World {
            trouble,
            dice: trouble.seed,
            next: 1000,
            volumes: BTreeMap::new(),
            actions: BTreeMap::new(),
            devices,
            files: folder.path().to_owned(),
            asked: BTreeMap::new(),
            torn: 0,
        };
        let (world, stops) = (Arc::new(Mutex::new(world)), Arc::new(AtomicBool::new(false)));
        let (shared, ends) = (Arc::clone(&world), Arc::clone(&stops));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // Who asks may go away in the middle of it.
                    let _ = http::serve(&client, |request| answer(&shared, request));
                });
            }
        });
        Self { world, address, stops, _folder: folder }
    }

    /// The address of its API.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on other things go wrong.
    pub fn trouble(&self, trouble: Trouble) {
        let mut world = self.world.lock().unwrap();
        (world.trouble, world.dice) = (trouble, trouble.seed);
    }

    /// The machine that a volume is attached to, by a part of its name.
    #[must_use]
    pub fn attached_to(&self, name: &str) -> Option<u64> {
        let mut world = self.world.lock().unwrap();
        world.advance();
        let found = world.volumes.values().find(|one| one.name.contains(name));
        found.and_then(|one| one.droplet)
    }

    /// Somebody attaches a volume to another machine by hand, or to none.
    pub fn meddle(&self, name: &str, droplet: Option<u64>) {
        let mut world = self.world.lock().unwrap();
        let found = world.volumes.values_mut().find(|one| one.name.contains(name));
        found.expect("the volume").droplet = droplet;
    }

    /// Somebody deletes a volume by hand, whatever has it.
    pub fn lose(&self, name: &str) {
        self.world.lock().unwrap().volumes.retain(|_, one| !one.name.contains(name));
    }

    /// How many volumes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.world.lock().unwrap().volumes.len()
    }

    /// How often it was asked this: method and last word of the path, as in `POST actions`.
    #[must_use]
    pub fn asked(&self, what: &str) -> u32 {
        self.world.lock().unwrap().asked.get(what).copied().unwrap_or(0)
    }

    /// How often a volume was torn from a machine that had it mounted.
    #[must_use]
    pub fn torn(&self) -> u32 {
        self.world.lock().unwrap().torn
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        let mut world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for volume in world.volumes.values_mut() {
            volume.disk = None;
        }
    }
}

/// What becomes of a request: none, its answer is lost.
fn answer(world: &Mutex<World>, request: &http::Request) -> Option<http::Answer> {
    let mut world = world.lock().unwrap();
    world.advance();
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    if let Some(fact) = path.strip_prefix("/metadata/v1/") {
        let text = if fact == "id" { "101" } else { REGION };
        return Some(http::Answer::text(text));
    }
    let last = path.rsplit('/').find(|part| part.parse::<u64>().is_err()).unwrap_or_default();
    *world.asked.entry(format!("{} {last}", request.method)).or_default() += 1;
    if request.token.as_deref() != Some(TOKEN) {
        return Some(http::Answer::json(401, &json!({"message": "Unable to authenticate you"})));
    }
    let Trouble { fails, limits, loses, .. } = world.trouble;
    if world.chance(limits) {
        let told = json!({"id": "too_many_requests", "message": "API rate limit exceeded"});
        return Some(http::Answer::json(429, &told).header("retry-after: 1"));
    }
    if world.chance(fails) {
        return Some(http::Answer::json(500, &json!({"message": "server was unable to give"})));
    }
    let is_lost = world.chance(loses);
    if is_lost && world.chance(50) {
        return None;
    }
    let (status, document) = world.carry_out(&request.method, &path, request);
    (!is_lost).then(|| http::Answer::json(status, &document))
}

/// The address of a machine, in a cluster of namespaces that of the node of its number.
#[must_use]
pub fn address(droplet: u8) -> String {
    format!("172.31.0.{droplet}")
}

fn droplet(id: &str) -> Answer {
    let Ok(number) = id.parse::<u8>() else { return missing() };
    let v4 = json!([
        {"ip_address": format!("203.0.113.{number}"), "type": "public"},
        {"ip_address": address(number), "type": "private"},
    ]);
    (200, json!({"droplet": {"id": number, "networks": {"v4": v4, "v6": []}}}))
}

fn refused(status: u16, message: &str) -> Answer {
    (status, json!({"id": "unprocessable_entity", "message": message}))
}

fn missing() -> Answer {
    (404, json!({"id": "not_found", "message": "The resource you requested could not be found."}))
}

impl World {
    /// splitmix64.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.roll() % 100 < percent
    }

    /// Ends the actions whose time has come.
    fn advance(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .actions
            .iter()
            .filter(|(_, action)| action.status == "in-progress" && action.ends <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(action) = self.actions.get_mut(&id) else { continue };
            action.status = if action.errs { "errored" } else { "completed" };
            let (volume, what, errs) = (action.volume.clone(), action.what, action.errs);
            let devices = self.devices.clone();
            let Some(volume) = self.volumes.get_mut(&volume) else { continue };
            volume.pending = false;
            if errs {
                continue;
            }
            match what {
                What::Attach(droplet) => {
                    volume.droplet = Some(droplet);
                    if let (Some(disk), Some(devices)) = (&mut volume.disk, devices) {
                        disk.attach(&devices.join(droplet.to_string()), &volume.name);
                    }
                }
                What::Detach(_) => {
                    volume.droplet = None;
                    self.torn += u32::from(volume.disk.as_mut().is_some_and(Disk::detach));
                }
                What::Resize(gigabytes) => {
                    volume.gigabytes = gigabytes;
                    if let Some(disk) = &mut volume.disk {
                        disk.resize(gigabytes);
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, method: &str, path: &str, request: &http::Request) -> Answer {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            ("GET", ["v2", "volumes"]) => self.list(request),
            ("POST", ["v2", "volumes"]) => self.make(&request.document),
            ("GET", ["v2", "volumes", id]) => match self.volumes.get(*id) {
                Some(volume) => (200, json!({"volume": volume.view(id)})),
                None => missing(),
            },
            ("GET", ["v2", "droplets", id]) => droplet(id),
            ("DELETE", ["v2", "volumes", id]) => match self.volumes.get(*id) {
                Some(volume) if volume.droplet.is_some() => {
                    (409, json!({"message": "cannot delete a volume that is attached"}))
                }
                Some(_) => {
                    self.volumes.remove(*id);
                    (204, Value::Null)
                }
                None => missing(),
            },
            ("POST", ["v2", "volumes", id, "actions"]) => self.act(id, &request.document),
            ("GET", ["v2", "volumes", _, "actions", action]) => {
                let id: u64 = action.parse().unwrap_or(0);
                match self.actions.get(&id) {
                    Some(action) => (200, json!({"action": action.view(id)})),
                    None => missing(),
                }
            }
            _ => missing(),
        }
    }

    /// Pages of two, and no filter: whoever looks for a name has to turn them.
    fn list(&self, request: &http::Request) -> Answer {
        let page: usize = request.query("page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let all: Vec<Value> = self.volumes.iter().map(|(id, one)| one.view(id)).collect();
        let shown: Vec<&Value> = all.iter().skip((page - 1) * PAGE).take(PAGE).collect();
        let has_more = all.len() > page * PAGE;
        let next = format!("https://api.example.com/v2/volumes?page={}", page + 1);
        let pages = if has_more { json!({"next": next}) } else { json!({}) };
        (200, json!({"volumes": shown, "links": {"pages": pages}, "meta": {"total": all.len()}}))
    }

    fn make(&mut self, wanted: &Value) -> Answer {
        let (name, region) = (wanted["name"].as_str(), wanted["region"].as_str());
        let (Some(name), Some(region)) = (name, region) else { return refused(422, "no name") };
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.len() > 64 || !name.chars().all(is_legal) || region != REGION {
            return refused(422, "name or region is invalid");
        }
        let gigabytes = wanted["size_gigabytes"].as_u64().unwrap_or(0);
        if gigabytes == 0 {
            return refused(422, "size_gigabytes is invalid");
        }
        if self.volumes.values().any(|one| one.name == name) {
            return (409, json!({"message": "a volume with the same name already exists"}));
        }
        self.next += 1;
        let id = format!("506f78a4-e098-11e5-ad9f-{:012}", self.next);
        let file = self.files.join(&id);
        let disk = self.devices.is_some().then(|| Disk::new(&file, gigabytes));
        let (name, region) = (name.to_owned(), region.to_owned());
        let volume = Volume { name, region, gigabytes, droplet: None, disk, pending: false };
        let view = volume.view(&id);
        self.volumes.insert(id, volume);
        (201, json!({"volume": view}))
    }

    fn act(&mut self, id: &str, wanted: &Value) -> Answer {
        let droplet = wanted["droplet_id"].as_u64();
        let full = |droplet| {
            self.volumes.values().filter(|one| one.droplet == Some(droplet)).count() >= MOST
        };
        let Some(volume) = self.volumes.get(id) else { return missing() };
        if volume.pending {
            return refused(422, "the volume has an action that is in progress");
        }
        let what = match (wanted["type"].as_str(), droplet) {
            (Some("attach"), Some(_)) if volume.droplet.is_some() => {
                return refused(422, "the volume is already attached to a droplet");
            }
            (Some("attach"), Some(droplet)) if full(droplet) => {
                return refused(422, "droplet has 7 volumes attached, the most that it can have");
            }
            (Some("attach"), Some(droplet)) => What::Attach(droplet),
            (Some("detach"), Some(droplet)) if volume.droplet != Some(droplet) => {
                return refused(422, "attachment not found");
            }
            (Some("detach"), Some(droplet)) => What::Detach(droplet),
            (Some("resize"), _) => match wanted["size_gigabytes"].as_u64() {
                Some(size) if size >= volume.gigabytes => What::Resize(size),
                _ => return refused(422, "a volume can only grow"),
            },
            _ => return refused(422, "type is invalid"),
        };
        let (slow, errs) = (self.trouble.slow, self.trouble.errs);
        let takes = if slow == 0 { 0 } else { self.roll() % slow };
        let (ends, errs) = (Instant::now() + Duration::from_millis(takes), self.chance(errs));
        if let Some(volume) = self.volumes.get_mut(id) {
            volume.pending = true;
        }
        self.next += 1;
        let (number, volume) = (self.next, id.to_owned());
        let action = Action { volume, what, ends, errs, status: "in-progress" };
        let view = action.view(number);
        self.actions.insert(number, action);
        (202, json!({"action": view}))
    }
}

impl Volume {
    fn view(&self, id: &str) -> Value {
        json!({
            "id": id,
            "name": self.name,
            "region": {"slug": self.region},
            "size_gigabytes": self.gigabytes,
            "droplet_ids": self.droplet.into_iter().collect::<Vec<_>>(),
        })
    }
}

impl Action {
    fn view(&self, id: u64) -> Value {
        json!({"id": id, "status": self.status, "resource_type": "volume"})
    }
}
