//! A directory for records that loses what was not synced.
//!
//! A file's bytes and its name are two things, each durable by its own sync: of bytes that were not synced any prefix, or
//! garbage, may be there; of names that were not synced each may or may not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use envol::attach::RecordFiles;
use envol::block::record::{Journal, Moment};

/// Files by name.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;
type Inode = usize;

#[derive(Debug, Clone)]
enum Done {
    /// Bytes that are not synced.
    Content(Inode, Arc<Vec<u8>>),
    ContentSynced(Inode),
    /// Names that changed together: what each stands for now.
    Named(Vec<(String, Option<Inode>)>),
    NamesSynced,
}

/// What was done to a directory, and when.
#[derive(Debug, Clone, Default)]
pub struct Log {
    start: Files,
    done: Vec<(Moment, Done)>,
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Arc<Vec<u8>>>,
    names: BTreeMap<String, Inode>,
    log: Log,
}

/// The directory; what is read is what was written last.
#[derive(Debug)]
pub struct Shelf {
    state: Mutex<State>,
    journal: Arc<Journal>,
}

#[derive(Debug, Clone)]
pub struct Handle(pub Arc<Shelf>);

impl Shelf {
    /// One that holds what a power cut left.
    pub fn holding(start: Files, journal: Arc<Journal>) -> Self {
        Self::going_on(Log { start, done: Vec::new() }, journal)
    }

    /// One whose process died and whose machine did not.
    pub fn going_on(log: Log, journal: Arc<Journal>) -> Self {
        let mut state = State { log: Log { start: log.start.clone(), done: Vec::new() }, ..State::default() };
        for (number, (name, bytes)) in log.start.iter().enumerate() {
            state.contents.push(Arc::clone(bytes));
            state.names.insert(name.clone(), number);
        }
        for (at, done) in log.done {
            state.take(at, done);
        }
        Self { state: Mutex::new(state), journal }
    }

    pub fn log(&self) -> Log {
        self.state.lock().expect("no panic").log.clone()
    }

    fn now(&self, done: Done) {
        let at = self.journal.tick();
        self.state.lock().expect("no panic").take(at, done);
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        let found = self.state.lock().expect("no panic").names.get(name).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl State {
    fn take(&mut self, at: Moment, done: Done) {
        match &done {
            Done::Content(inode, bytes) => {
                if *inode == self.contents.len() {
                    self.contents.push(Arc::default());
                }
                self.contents[*inode] = Arc::clone(bytes);
            }
            Done::Named(changes) => apply(&mut self.names, changes),
            Done::ContentSynced(_) | Done::NamesSynced => (),
        }
        self.log.done.push((at, done));
    }
}

fn apply(names: &mut BTreeMap<String, Inode>, changes: &[(String, Option<Inode>)]) {
    for (name, inode) in changes {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

impl RecordFiles for Handle {
    fn dir(&self) -> &Path {
        Path::new("the shelf")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.state.lock().expect("no panic").names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inode = self.0.inode(name)?;
        Ok(self.0.state.lock().expect("no panic").contents[inode].to_vec())
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let known = self.0.inode(name).ok();
        let inode = known.unwrap_or_else(|| self.0.state.lock().expect("no panic").contents.len());
        if known.is_none() {
            self.0.now(Done::Content(inode, Arc::default()));
            self.0.now(Done::Named(vec![(name.to_owned(), Some(inode))]));
        }
        self.0.now(Done::Content(inode, Arc::new(bytes.to_vec())));
        self.0.now(Done::ContentSynced(inode));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.0.inode(from)?;
        self.0.now(Done::Named(vec![(to.to_owned(), Some(inode)), (from.to_owned(), None)]));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.inode(name)?;
        self.0.now(Done::Named(vec![(name.to_owned(), None)]));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.now(Done::NamesSynced);
        Ok(())
    }
}

impl Log {
    pub fn moments(&self) -> impl Iterator<Item = Moment> {
        self.done.iter().map(|(at, _)| *at)
    }

    /// What was done by `at`.
    pub fn until(&self, at: Moment) -> Self {
        let done = self.done.iter().filter(|(when, _)| *when <= at).cloned().collect();
        Self { start: self.start.clone(), done }
    }

    /// Everything that a power cut at `at` may leave.
    pub fn crashes(&self, at: Moment) -> BTreeSet<Files> {
        let mut contents: Vec<Vec<Arc<Vec<u8>>>> = self.start.values().map(|bytes| vec![Arc::clone(bytes)]).collect();
        let mut names: BTreeMap<String, Inode> = self.start.keys().cloned().zip(0..).collect();
        let mut pending = Vec::new();
        for (_, done) in self.done.iter().filter(|(when, _)| *when <= at) {
            match done {
                Done::Content(inode, bytes) => {
                    if *inode == contents.len() {
                        contents.push(vec![Arc::default()]);
                    }
                    contents[*inode].extend(torn(bytes));
                }
                Done::ContentSynced(inode) => {
                    let synced = contents[*inode].pop().expect("it was written");
                    contents[*inode] = vec![synced];
                }
                Done::Named(changes) => pending.push(changes),
                Done::NamesSynced => pending.drain(..).for_each(|changes| apply(&mut names, changes)),
            }
        }
        let mut found = BTreeSet::new();
        for kept in 0..1u32 << pending.len() {
            let mut names = names.clone();
            let chosen = pending.iter().enumerate().filter(|(index, _)| kept >> index & 1 == 1);
            chosen.for_each(|(_, changes)| apply(&mut names, changes));
            each_content(&names, &contents, &mut found);
        }
        found
    }
}

fn each_content(names: &BTreeMap<String, Inode>, contents: &[Vec<Arc<Vec<u8>>>], found: &mut BTreeSet<Files>) {
    let open = contents.iter().position(|choices| choices.len() > 1);
    for choice in 0..open.map_or(1, |inode| contents[inode].len()) {
        let bytes = |inode: &Inode| Arc::clone(&contents[*inode][if Some(*inode) == open { choice } else { 0 }]);
        found.insert(names.iter().map(|(name, inode)| (name.clone(), bytes(inode))).collect());
    }
}

/// What there may be of bytes that were not synced; all of them last.
fn torn(bytes: &[u8]) -> Vec<Arc<Vec<u8>>> {
    let mut all: Vec<Vec<u8>> = (0..bytes.len()).step_by(512).map(|end| bytes[..end].to_vec()).collect();
    all.push(bytes.iter().enumerate().map(|(index, byte)| if index < 512 { 0 } else { *byte }).collect());
    all.push(vec![0xe5; bytes.len()]);
    all.push(bytes.to_vec());
    all.into_iter().map(Arc::new).collect()
}
