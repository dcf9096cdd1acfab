//! Turns: of the bottles of one state directory only some are launched at a time, and only some torn down. An engine that is
//! asked for everything at once answers nothing in time.
//!
//! A turn is a file lock, which the kernel takes back from whoever dies. Whoever waits has a ticket, so that it can be told
//! how many are ahead.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::oneshot;

use crate::host::make_private;

/// How often those who wait look how many are ahead.
const LOOK: Duration = Duration::from_millis(500);
/// How long a teardown waits for its turn.
const LONGEST: Duration = Duration::from_mins(2);
/// Turns for each processor: an engine waits for its disk and its kernel, too.
const EACH: usize = 2;

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To launch: from the first object to the agent's release.
    Launch,
    /// To tear down.
    Teardown,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Teardown => "teardown",
        }
    }
}

/// A turn, until it is dropped.
pub struct Turn {
    _slot: Flock<File>,
    ticket: Ticket,
}

impl Turn {
    /// How many came before and are not done yet.
    pub fn ahead(&self) -> usize {
        self.ticket.ahead()
    }
}

/// Waits for a turn to tear down, but not longer than a while: what died before must go all the same.
pub async fn to_tear_down(state: &Path) -> Option<Turn> {
    tokio::time::timeout(LONGEST, wait(state, Phase::Teardown, |_| {})).await.ok()?.ok()
}

/// How many have a turn at a time.
pub fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * EACH
}

/// Waits for a turn; tells how many are ahead, as often as that changes.
///
/// # Errors
/// The state directory cannot be used.
pub async fn wait(state: &Path, work: Phase, tell: impl Fn(usize)) -> io::Result<Turn> {
    let folder = folder(state, work);
    make_private(&folder)?;
    let ticket = Ticket::draw(&folder)?;
    let slot = open(&folder.join(format!("slot-{}", ticket.number % u64::try_from(at_once()).unwrap_or(1))))?;
    let slot = match Flock::lock(slot, FlockArg::LockExclusiveNonblock) {
        Ok(slot) => return Ok(Turn { _slot: slot, ticket }),
        Err((slot, Errno::EWOULDBLOCK)) => slot,
        Err((_, errno)) => return Err(errno.into()),
    };
    // A thread of its own: whoever gives up waiting leaves it behind, and the lock with it once it comes.
    let (taken, mut taking) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = taken.send(Flock::lock(slot, FlockArg::LockExclusive).map_err(|(_, errno)| errno));
    });
    let mut told = None;
    loop {
        let ahead = ticket.ahead();
        if told.replace(ahead) != Some(ahead) {
            tell(ahead);
        }
        tokio::select! {
            slot = &mut taking => {
                let slot = slot.map_err(|_| io::Error::other("the thread that waits ended"))??;
                return Ok(Turn { _slot: slot, ticket });
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// A place in the line: a file that is locked as long as its owner lives.
struct Ticket {
    number: u64,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Ticket {
    fn draw(folder: &Path) -> io::Result<Self> {
        let _drawing = counter(folder)?;
        let file = folder.join("counter");
        // A counter that was lost says too little: the tickets that are there say more.
        let last = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u64);
        let number = tickets(folder).into_iter().fold(last, |last, (number, _)| last.max(number)) + 1;
        std::fs::write(&file, number.to_string())?;
        let path = folder.join(format!("ticket-{number}"));
        let lock = Flock::lock(open(&path)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        bury(folder, number);
        Ok(Self { number, path, _lock: lock })
    }

    /// How many with an earlier ticket live; the tickets of those that do not are removed.
    fn ahead(&self) -> usize {
        let earlier = tickets(self.path.parent().unwrap_or(&self.path)).into_iter();
        earlier.filter(|(number, path)| *number < self.number && lives(path)).count()
    }
}

/// Held while a ticket is drawn: a ticket is there and locked, or not there, to whoever has this.
fn counter(folder: &Path) -> io::Result<Flock<File>> {
    let counter = open(&folder.join("counter"))?;
    Ok(Flock::lock(counter, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
}

/// Every ticket, by its number; what else is there counts for nothing.
fn tickets(folder: &Path) -> Vec<(u64, PathBuf)> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("ticket-")?.parse().ok();
    let paths = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((number(&path)?, path))).collect()
}

/// Whether a ticket's owner lives: the lock says so. One of the dead is removed.
fn lives(path: &Path) -> bool {
    match File::options().read(true).write(true).open(path).map(|it| Flock::lock(it, FlockArg::LockExclusiveNonblock)) {
        Ok(Err(_)) => true,
        Ok(Ok(_)) => {
            let _ = std::fs::remove_file(path);
            false
        }
        Err(_) => false,
    }
}

/// Removes the tickets of the dead among those below a number; the counter is held.
fn bury(folder: &Path, below: u64) {
    for (number, path) in tickets(folder) {
        if number < below {
            lives(&path);
        }
    }
}

/// Removes the tickets of the dead.
///
/// # Errors
/// The counter cannot be locked.
pub fn sweep(state: &Path) -> io::Result<()> {
    for work in [Phase::Launch, Phase::Teardown] {
        let folder = folder(state, work);
        if folder.join("counter").is_file() {
            let _drawing = counter(&folder)?;
            bury(&folder, u64::MAX);
        }
    }
    Ok(())
}

fn folder(state: &Path, work: Phase) -> PathBuf {
    state.join("turns").join(work.word())
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn so_many_at_once_and_the_others_are_told_how_many_are_ahead() {
        let state = tempfile::tempdir().unwrap();
        let at = state.path();
        let mut turns = Vec::new();
        for _ in 0..at_once() {
            turns.push(wait(at, Phase::Launch, |_| panic!("there was room")).await.unwrap());
        }
        // The other kind has room of its own.
        wait(at, Phase::Teardown, |_| panic!("there was room")).await.unwrap();
        let told = Mutex::new(Vec::new());
        let mut waiting = Box::pin(wait(at, Phase::Launch, |ahead| told.lock().unwrap().push(ahead)));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        assert_eq!(*told.lock().unwrap(), [at_once()]);
        // It waits for the one whose slot is its own.
        turns.clear();
        waiting.await.unwrap();
        assert!(!at.join("turns/launch/ticket-1").exists());
    }

    #[tokio::test]
    async fn tickets_of_the_dead_go_away_and_what_is_no_ticket_is_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("turns/launch");
        let turn = wait(state.path(), Phase::Launch, |_| {}).await.unwrap();
        for dead in ["ticket-0", "ticket-7", "ticket-900"] {
            std::fs::write(folder.join(dead), "").unwrap();
        }
        std::fs::create_dir(folder.join("ticket-3")).unwrap();
        std::fs::write(folder.join("ticket-x"), "").unwrap();
        std::fs::write(folder.join("counter"), "nonsense").unwrap();
        // Drawn after all that were there, whatever the counter says.
        let next = Ticket::draw(&folder).unwrap();
        assert_eq!((next.number, next.ahead()), (901, 1));
        assert!(!folder.join("ticket-7").exists() && !folder.join("ticket-900").exists());
        drop(turn);
        std::fs::write(folder.join("ticket-950"), "").unwrap();
        sweep(state.path()).unwrap();
        let mut left: Vec<u64> = tickets(&folder).into_iter().map(|(number, _)| number).collect();
        left.sort_unstable();
        assert_eq!(left, [3, 901], "a folder is no ticket, and the living one stays");
    }

    #[tokio::test]
    async fn a_ticket_of_the_dead_counts_for_nobody() {
        let state = tempfile::tempdir().unwrap();
        let turn = wait(state.path(), Phase::Launch, |_| {}).await.unwrap();
        std::fs::write(state.path().join("turns/launch/ticket-0"), "").unwrap();
        assert_eq!(turn.ahead(), 0);
        assert!(!state.path().join("turns/launch/ticket-0").exists());
    }
}
