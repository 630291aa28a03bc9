//! A disk in memory that behaves as badly as a real one may.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wal::disk::{Disk, DiskFile};

/// What survives a loss of power on its own: smaller than real sectors, so that records are torn in more places.
const SECTOR: usize = 16;

/// Files as the system shows them, and as they are on the platter.
#[derive(Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    List,
    Read,
    Open,
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    calls: Vec<Call>,
    /// Before how many more calls the power goes.
    power: Option<usize>,
    /// The next call of this kind fails, once.
    fault: Option<(Call, ErrorKind)>,
    /// Whether there is room for nothing more: no file, and no byte behind a file's end.
    full: bool,
    /// What the next read gives, whatever is there.
    stale: Option<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Inode {
    shown: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a sync will write.
    dirty: BTreeSet<usize>,
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
}

impl FaultyDisk {
    /// From here on the next call of that kind fails, once.
    pub(crate) fn fail_next(&self, call: Call, kind: ErrorKind) {
        self.lock().fault = Some((call, kind));
    }

    /// There is no room for anything more, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// The next read sees the file as it was, or as it never was: someone is writing.
    pub(crate) fn read_stale(&self, bytes: Vec<u8>) {
        self.lock().stale = Some(bytes);
    }

    /// Lets so many calls pass, and fails all after them, as if the machine had lost its power.
    pub(crate) fn lose_power_after(&self, calls: usize) {
        self.lock().power = Some(calls);
    }

    /// Whether the power is out.
    pub(crate) fn is_off(&self) -> bool {
        self.lock().power == Some(0)
    }

    /// Has something looked at as if the power never went.
    pub(crate) fn while_on<T>(&self, look: impl FnOnce() -> T) -> T {
        let power = self.lock().power.take();
        let seen = look();
        self.lock().power = power;
        seen
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The machine comes back: of what was not synced, any part may be there. `keeps` decides for each sector and name.
    pub(crate) fn power_up(&self, mut keeps: impl FnMut() -> bool) {
        let mut state = self.lock();
        state.power = None;
        state.fault = None;
        for inode in &mut state.inodes {
            inode.power_up(&mut keeps);
        }
        let mut names = state.durable_names.clone();
        let touched: BTreeSet<_> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for name in touched {
            if state.names.get(&name) != state.durable_names.get(&name) && keeps() {
                match state.names.get(&name) {
                    Some(inode) => names.insert(name, *inode),
                    None => names.remove(&name),
                };
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
    }

    /// A disk with the same files, all durable.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::default();
        let state = self.lock();
        for (path, inode) in &state.names {
            copy.put(path, state.inodes[*inode].shown.clone());
        }
        drop(state);
        copy
    }

    /// A disk with what would be left if the power went now and nothing unsynced were kept.
    pub(crate) fn copy_durable(&self) -> Self {
        let copy = Self::default();
        let state = self.lock();
        for (path, inode) in &state.durable_names {
            copy.put(path, state.inodes[*inode].durable.clone());
        }
        drop(state);
        copy
    }

    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode { shown: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    pub(crate) fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).map(|inode| state.inodes[*inode].shown.clone())
    }

    /// What would be there if the power went now and nothing unsynced were kept.
    pub(crate) fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.durable_names.get(path).map(|inode| state.inodes[*inode].durable.clone())
    }

    pub(crate) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.get(path).expect("the file exists");
        change(&mut bytes);
        self.put(path, bytes);
    }

    pub(crate) fn delete(&self, path: &Path) {
        let mut state = self.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// Notes the call. Says whether it may go on.
    fn call(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.calls.push(call);
        match &mut state.power {
            Some(0) => return Err(io::Error::other("the power is out")),
            Some(left) => *left -= 1,
            None => {}
        }
        match state.fault {
            // A failed sync is for the file to spoil.
            Some((fails, kind)) if fails == call && call != Call::Sync => {
                state.fault = None;
                Err(kind.into())
            }
            _ => Ok(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    fn file(&self, inode: usize) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { disk: self.clone(), inode })
    }
}

impl Disk for FaultyDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.call(Call::List)?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.call(Call::Read)?;
        if let Some(bytes) = state.stale.take() {
            return Ok(bytes);
        }
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(state.inodes[inode].shown.clone())
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let bytes = self.read(path)?;
        let rest = bytes.get(usize::try_from(offset).expect("tests read small files")..).unwrap_or_default();
        Ok(rest[..rest.len().min(max_bytes)].to_vec())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(self.read(path)?.len() as u64)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.call(Call::Open)?.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(inode))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call(Call::Create)?;
        if state.full {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.names.insert(path.to_owned(), inode);
        drop(state);
        Ok(self.file(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call(Call::Rename)?;
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove)?.names.remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call(Call::SyncDir)?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|path, _| path.parent() != Some(dir));
        durable_names.extend(names.iter().filter(|(path, _)| path.parent() == Some(dir)).map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn room(&self, _dir: &Path) -> io::Result<u64> {
        Ok(if self.lock().full { 0 } else { u64::MAX })
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.call(Call::Write)?;
        let start = usize::try_from(offset).expect("tests write small files");
        let end = start + bytes.len();
        if state.full && end > state.inodes[self.inode].shown.len() {
            return Err(ErrorKind::StorageFull.into());
        }
        let inode = &mut state.inodes[self.inode];
        inode.shown.resize(inode.shown.len().max(end), 0);
        inode.shown[start..end].copy_from_slice(bytes);
        inode.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.call(Call::Sync)?;
        let fault = state.fault.take_if(|(call, _)| *call == Call::Sync);
        let inode = &mut state.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        if let Some((_, kind)) = fault {
            // As Linux does: the pages are clean from here on, and what they hold is on no disk.
            return Err(kind.into());
        }
        for sector in dirty {
            inode.write_back(sector);
        }
        Ok(())
    }
}

impl Inode {
    fn write_back(&mut self, sector: usize) {
        self.durable.resize(self.shown.len(), 0);
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.shown.len());
        self.durable[range.clone()].copy_from_slice(&self.shown[range]);
    }

    fn power_up(&mut self, keeps: &mut impl FnMut() -> bool) {
        for sector in std::mem::take(&mut self.dirty) {
            if keeps() {
                self.write_back(sector);
            }
        }
        self.shown = self.durable.clone();
    }
}
