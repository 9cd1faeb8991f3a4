//! A copy of this program that always lies at one address.
//!
//! Owns the rewriting of a position-independent program (System V ABI, chapters 4 and 5, with the
//! supplements for x86-64 and AArch64): what the loader writes at each start, some megabytes of
//! tables that each process then has for itself, is written once. Never touches what it doesn't
//! understand: then the copy stays as it is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where the copy lies: beyond what no program may use, and aligned for pages of any size.
const BASE: u64 = 0x1000_0000;

const HEADER: usize = 64;
const EXECUTABLE: u16 = 2;
const SHARED: u16 = 3;
/// By machine: what `base + addend` is called in its relocations, also for indirect functions.
const MACHINES: [(u16, u32, u32); 2] = [(62, 8, 37), (183, 1_027, 1_032)];

const SEGMENT: usize = 56;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const STACK: u32 = 0x6474_e551;

const RELOCATION: usize = 24;
const SYMBOL: usize = 24;
const THREAD_LOCAL: u8 = 6;
const ABSOLUTE: u16 = 0xfff1;

/// Tags of the dynamic section.
mod tag {
    pub(super) const PLT_SIZE: u64 = 2;
    pub(super) const SYMBOLS: u64 = 6;
    pub(super) const RELA: u64 = 7;
    pub(super) const RELA_SIZE: u64 = 8;
    pub(super) const REL: u64 = 17;
    pub(super) const TEXT: u64 = 22;
    pub(super) const PLT: u64 = 23;
    pub(super) const NOW: u64 = 24;
    pub(super) const FLAGS: u64 = 30;
    pub(super) const RELR: u64 = 36;
    pub(super) const HASH: u64 = 0x6fff_fef5;
    pub(super) const RELA_COUNT: u64 = 0x6fff_fff9;
    pub(super) const FLAGS_1: u64 = 0x6fff_fffb;
    /// Those whose value is an address.
    pub const PLACES: [u64; 15] = [
        3,
        4,
        5,
        SYMBOLS,
        RELA,
        12,
        13,
        PLT,
        25,
        26,
        32,
        HASH,
        0x6fff_fff0,
        0x6fff_fffc,
        0x6fff_fffe,
    ];
}

/// Why a program can't be given an address.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It can't be read or written.
    #[error("reading or writing it")]
    File(#[from] io::Error),
    /// It is of another form.
    #[error("{0}")]
    Form(&'static str),
}

type Result<T> = std::result::Result<T, Unfit>;

/// Gives a program that no process runs yet its address.
///
/// # Errors
/// It is no position-independent program of a known form; then it may be half-changed.
pub fn bind(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    if header[..6] != *b"\x7fELF\x02\x01" || half(&header, 16)? != SHARED {
        return Err(Unfit::Form("it is no position-independent program"));
    }
    let machine = half(&header, 18)?;
    let kinds = MACHINES.iter().find(|(known, ..)| *known == machine);
    let (_, relative, indirect) = *kinds.ok_or(Unfit::Form("its machine isn't known"))?;
    let program = Program::read(file, &header)?;
    let dynamic = program.dynamic()?;
    let has = |tag| dynamic.contains_key(&tag);
    let flag = |tag, bit| dynamic.get(&tag).is_some_and(|(_, flags)| flags & bit != 0);
    if !(has(tag::NOW) || flag(tag::FLAGS, 8) || flag(tag::FLAGS_1, 1)) {
        return Err(Unfit::Form("its functions are found late"));
    }
    if has(tag::REL) || has(tag::RELR) || has(tag::TEXT) {
        return Err(Unfit::Form("its relocations are of another form"));
    }
    program.relocate(&dynamic, [relative, indirect])?;
    program.move_symbols(&dynamic)?;
    program.move_dynamic(&dynamic)?;
    program.move_headers(header)
}

/// Addresses that are in the file.
struct Load {
    address: u64,
    offset: u64,
    size: u64,
    is_writable: bool,
}

/// What may be written to.
struct Part {
    address: u64,
    bytes: Vec<u8>,
}

impl Part {
    fn holds(&self, address: u64) -> bool {
        address.wrapping_sub(self.address) < self.bytes.len() as u64
    }
}

struct Program {
    file: File,
    /// As they are in the file.
    segments: Vec<u8>,
    at: u64,
    loads: Vec<Load>,
}

/// By tag: where its value is in the file, and the value.
type Dynamic = BTreeMap<u64, (u64, u64)>;

impl Program {
    fn read(file: File, header: &[u8]) -> Result<Self> {
        let (at, count) = (long(header, 32)?, usize::from(half(header, 56)?));
        if usize::from(half(header, 54)?) != SEGMENT {
            return Err(Unfit::Form("its segments are of another form"));
        }
        let mut segments = vec![0; count * SEGMENT];
        file.read_exact_at(&mut segments, at)?;
        let mut loads = Vec::new();
        for one in segments.chunks(SEGMENT) {
            if word(one, 0)? == LOAD {
                let (offset, address, size) = (long(one, 8)?, long(one, 16)?, long(one, 32)?);
                let is_writable = word(one, 4)? & 2 != 0;
                loads.push(Load { address, offset, size, is_writable });
            }
        }
        Ok(Self { file, segments, at, loads })
    }

    /// Where in the file an address is.
    fn offset(&self, address: u64) -> Result<u64> {
        let holds = |load: &&Load| (load.address..load.address + load.size).contains(&address);
        let load = self.loads.iter().find(holds);
        let load = load.ok_or(Unfit::Form("an address is in no segment"))?;
        Ok(address - load.address + load.offset)
    }

    fn bytes(&self, address: u64, size: u64) -> Result<Vec<u8>> {
        let offset = self.offset(address)?;
        let size = usize::try_from(size).map_err(|_| Unfit::Form("a table is too large"))?;
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn dynamic(&self) -> Result<Dynamic> {
        let mut found = Dynamic::new();
        for one in self.segments.chunks(SEGMENT) {
            if word(one, 0)? != DYNAMIC {
                continue;
            }
            let (address, size) = (long(one, 16)?, long(one, 32)?);
            let (bytes, offset) = (self.bytes(address, size)?, self.offset(address)?);
            for (n, pair) in (0..).zip(bytes.chunks_exact(16)) {
                match long(pair, 0)? {
                    0 => break,
                    tag => found.insert(tag, (offset + n * 16 + 8, long(pair, 8)?)),
                };
            }
        }
        Ok(found)
    }

    /// Writes what the loader would, and leaves it what names other programs' parts.
    fn relocate(&self, dynamic: &Dynamic, [relative, indirect]: [u32; 2]) -> Result<()> {
        let value = |tag| dynamic.get(&tag).map(|(_, value)| *value);
        let (Some(rela), Some(size)) = (value(tag::RELA), value(tag::RELA_SIZE)) else {
            return Err(Unfit::Form("it has no relocations"));
        };
        let mut parts = self.writable()?;
        let mut near = 0;
        let mut left = Vec::new();
        for one in self.bytes(rela, size)?.chunks_exact(RELOCATION) {
            let (address, kind, addend) = (long(one, 0)?, word(one, 8)?, long(one, 16)?);
            let moved = addend.wrapping_add(BASE);
            if kind == relative {
                // They come in order, many to a part.
                if !parts.get(near).is_some_and(|part| part.holds(address)) {
                    let found = parts.iter().position(|part| part.holds(address));
                    near = found.ok_or(Unfit::Form("what it relocates is constant"))?;
                }
                let part = &mut parts[near];
                let at = usize::try_from(address - part.address).unwrap_or(usize::MAX);
                put(&mut part.bytes, at, moved)?;
                continue;
            }
            let addend = if kind == indirect { moved } else { addend };
            left.extend((address + BASE).to_le_bytes());
            left.extend(one.get(8..16).unwrap_or_default());
            left.extend(addend.to_le_bytes());
        }
        for part in &parts {
            self.file.write_all_at(&part.bytes, self.offset(part.address)?)?;
        }
        self.file.write_all_at(&left, self.offset(rela)?)?;
        self.set(dynamic, tag::RELA_SIZE, left.len() as u64)?;
        if let (Some(plt), Some(size)) = (value(tag::PLT), value(tag::PLT_SIZE)) {
            let mut all = self.bytes(plt, size)?;
            for one in all.chunks_exact_mut(RELOCATION) {
                let address = long(one, 0)?;
                put(one, 0, address + BASE)?;
            }
            self.file.write_all_at(&all, self.offset(plt)?)?;
        }
        Ok(())
    }

    fn writable(&self) -> Result<Vec<Part>> {
        let writable = self.loads.iter().filter(|load| load.is_writable && load.size > 0);
        let part = |load: &Load| {
            Ok(Part { address: load.address, bytes: self.bytes(load.address, load.size)? })
        };
        writable.map(part).collect()
    }

    /// Moves what others may find in it; only that is in the table of hashes.
    fn move_symbols(&self, dynamic: &Dynamic) -> Result<()> {
        let (Some((_, hash)), Some((_, symbols))) =
            (dynamic.get(&tag::HASH), dynamic.get(&tag::SYMBOLS))
        else {
            return Err(Unfit::Form("its symbols are of another form"));
        };
        let head = self.bytes(*hash, 16)?;
        let (buckets, first, words) = (word(&head, 0)?, word(&head, 4)?, word(&head, 8)?);
        let chains = hash + 16 + u64::from(words) * 8;
        let mut last = 0;
        for bucket in self.bytes(chains, u64::from(buckets) * 4)?.chunks_exact(4) {
            last = last.max(word(bucket, 0)?);
        }
        if last < first {
            return Ok(());
        }
        let chains = chains + u64::from(buckets) * 4;
        let link = |n: u32| word(&self.bytes(chains + u64::from(n - first) * 4, 4)?, 0);
        while link(last)? & 1 == 0 {
            last += 1;
        }
        for n in first..=last {
            let at = symbols + u64::from(n) * SYMBOL as u64;
            let mut symbol = self.bytes(at, SYMBOL as u64)?;
            let is_moved = symbol[4] & 0xf != THREAD_LOCAL && half(&symbol, 6)? != ABSOLUTE;
            let value = long(&symbol, 8)?;
            if is_moved {
                put(&mut symbol, 8, value + BASE)?;
                self.file.write_all_at(&symbol, self.offset(at)?)?;
            }
        }
        Ok(())
    }

    fn set(&self, dynamic: &Dynamic, tag: u64, value: u64) -> Result<()> {
        if let Some((offset, _)) = dynamic.get(&tag) {
            self.file.write_all_at(&value.to_le_bytes(), *offset)?;
        }
        Ok(())
    }

    fn move_dynamic(&self, dynamic: &Dynamic) -> Result<()> {
        for tag in tag::PLACES {
            if let Some((_, place)) = dynamic.get(&tag) {
                self.set(dynamic, tag, place + BASE)?;
            }
        }
        if let Some((_, flags)) = dynamic.get(&tag::FLAGS_1) {
            // No position-independent one any more.
            self.set(dynamic, tag::FLAGS_1, flags & !0x0800_0000)?;
        }
        self.set(dynamic, tag::RELA_COUNT, 0)
    }

    fn move_headers(mut self, mut header: [u8; HEADER]) -> Result<()> {
        for one in self.segments.chunks_mut(SEGMENT) {
            if word(one, 0)? != STACK {
                for place in [16, 24] {
                    let address = long(one, place)?;
                    put(one, place, address + BASE)?;
                }
            }
        }
        self.file.write_all_at(&self.segments, self.at)?;
        let entry = long(&header, 24)?;
        put(&mut header, 24, entry + BASE)?;
        header[16..18].copy_from_slice(&EXECUTABLE.to_le_bytes());
        // Its sections tell of addresses too, and nobody needs them.
        header[40..48].fill(0);
        header[60..64].fill(0);
        Ok(self.file.write_all_at(&header, 0)?)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or(Unfit::Form("a table is cut off"))
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

fn long(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

fn put(bytes: &mut [u8], at: usize, value: u64) -> Result<()> {
    let place = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>());
    *place.ok_or(Unfit::Form("a table is cut off"))? = value.to_le_bytes();
    Ok(())
}
