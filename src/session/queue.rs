//! A queue that limits how many bottles of one state directory launch at the same time, and how many are torn down: an
//! overloaded engine misses all deadlines.
//!
//! A process that needs a slot draws a ticket: a numbered file that it keeps locked and removes afterwards. It has a
//! slot while fewer tickets than slots are ahead of it, so the order is first come, first served.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::host::{ByteRange, exclusive, make_private, try_exclusive};

/// How often a waiting process counts the tickets ahead.
const LOOK: Duration = Duration::from_millis(500);
/// How long a teardown waits for a slot.
const LONGEST: Duration = Duration::from_mins(2);
/// Slots for each processor: an engine also waits for disk and kernel.
const EACH: usize = 2;

/// What a slot is for.
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

/// A slot, released when dropped.
pub struct Slot {
    ticket: Ticket,
}

impl Slot {
    /// How many earlier tickets are still active.
    pub fn ahead(&self) -> usize {
        self.ticket.ahead()
    }
}

/// Waits for a teardown slot. `None` after a deadline: a dead bottle must be removed in any case.
pub async fn acquire_teardown(state: &Path) -> Option<Slot> {
    tokio::time::timeout(LONGEST, acquire(state, Phase::Teardown, |_| {})).await.ok()?.ok()
}

/// The number of slots.
pub fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * EACH
}

/// Waits for a slot. Calls `tell` with the number of tickets ahead whenever it changes.
///
/// # Errors
/// The state directory cannot be used.
pub async fn acquire(state: &Path, work: Phase, tell: impl Fn(usize)) -> io::Result<Slot> {
    let folder = folder(state, work);
    make_private(&folder)?;
    let ticket = Ticket::draw(&folder)?;
    // Most callers wait for nothing, and the kernel takes ten milliseconds to end a watch.
    if ticket.ahead() < at_once() {
        return Ok(Slot { ticket });
    }
    // Watch before the next count, so that no removal is missed.
    let ends = TicketRemovals::of(&folder);
    let mut told = None;
    loop {
        let ahead = ticket.ahead();
        if ahead < at_once() {
            return Ok(Slot { ticket });
        }
        if told.replace(ahead) != Some(ahead) {
            tell(ahead);
        }
        tokio::select! {
            () = ends.next() => {}
            // The ticket of a killed process is not removed, so poll as well.
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Reports removed tickets (inotify(7)); never, if inotify is not available.
struct TicketRemovals(Option<AsyncFd<OwnedFd>>);

impl TicketRemovals {
    #[expect(unsafe_code, reason = "tokio wants to be sure that the descriptor stays the same")]
    fn of(folder: &Path) -> Self {
        let watch = || {
            let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            watch.add_watch(folder, AddWatchFlags::IN_DELETE).ok()?;
            // SAFETY: an owned descriptor is open, and the same, until it is dropped.
            unsafe { AsyncFd::register(OwnedFd::from(watch)) }.ok()
        };
        Self(watch())
    }

    async fn next(&self) {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Ok(mut ready) = watch.readable().await {
            // Only the wake-up matters; the folder is read again.
            let mut events = [0; 4096];
            while nix::unistd::read(watch, &mut events).is_ok() {}
            ready.clear_ready();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// A ticket: a file that its process keeps locked.
struct Ticket {
    number: u64,
    path: PathBuf,
    _lock: File,
}

impl Ticket {
    fn draw(folder: &Path) -> io::Result<Self> {
        let _drawing = counter(folder)?;
        let file = folder.join("counter");
        // If the counter was lost, continue after the largest existing ticket.
        let last = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u64);
        let number = tickets(folder).into_iter().fold(last, |last, (number, _)| last.max(number)) + 1;
        std::fs::write(&file, number.to_string())?;
        let path = folder.join(format!("ticket-{number}"));
        let lock = open(&path)?;
        if !try_exclusive(&lock, ByteRange::WHOLE)? {
            return Err(io::Error::other(format!("{} belongs to another process", path.display())));
        }
        remove_dead(folder, number);
        Ok(Self { number, path, _lock: lock })
    }

    /// Counts the earlier tickets whose processes are alive, and removes the others.
    fn ahead(&self) -> usize {
        let earlier = tickets(self.path.parent().unwrap_or(&self.path)).into_iter();
        earlier.filter(|(number, path)| *number < self.number && is_alive(path)).count()
    }
}

/// Locks the counter. While it is locked, every existing ticket of a living process is locked as well.
fn counter(folder: &Path) -> io::Result<File> {
    let counter = open(&folder.join("counter"))?;
    exclusive(&counter, ByteRange::WHOLE)?;
    Ok(counter)
}

/// All tickets by number; other files are ignored.
fn tickets(folder: &Path) -> Vec<(u64, PathBuf)> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("ticket-")?.parse().ok();
    let paths = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((number(&path)?, path))).collect()
}

/// Whether a ticket's process is alive, by its lock. Removes the ticket if not.
fn is_alive(path: &Path) -> bool {
    let Ok(file) = File::options().read(true).write(true).open(path) else { return false };
    // Remove it while locked, so that no other process takes it for alive.
    match try_exclusive(&file, ByteRange::WHOLE) {
        Ok(true) => {
            let _ = std::fs::remove_file(path);
            false
        }
        _ => true,
    }
}

/// Removes tickets of dead processes below a number. The counter must be locked.
fn remove_dead(folder: &Path, below: u64) {
    for (number, path) in tickets(folder) {
        if number < below {
            is_alive(&path);
        }
    }
}

/// Removes the tickets of dead processes.
///
/// # Errors
/// The counter cannot be locked.
pub fn sweep(state: &Path) -> io::Result<()> {
    for work in [Phase::Launch, Phase::Teardown] {
        let folder = folder(state, work);
        if folder.join("counter").is_file() {
            let _drawing = counter(&folder)?;
            remove_dead(&folder, u64::MAX);
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
            turns.push(acquire(at, Phase::Launch, |_| panic!("there was room")).await.unwrap());
        }
        // The other phase has its own slots.
        acquire(at, Phase::Teardown, |_| panic!("there was room")).await.unwrap();
        let told = Mutex::new(Vec::new());
        let mut waiting = Box::pin(acquire(at, Phase::Launch, |ahead| told.lock().unwrap().push(ahead)));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        assert_eq!(*told.lock().unwrap(), [at_once()]);
        // Any released slot makes room.
        drop(turns.pop());
        let turn = waiting.await.unwrap();
        assert_eq!(turn.ahead(), at_once() - 1);
        turns.clear();
        assert!(!at.join("turns/launch/ticket-1").exists());
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_their_asking() {
        let state = tempfile::tempdir().unwrap();
        let mut turns = Vec::new();
        for _ in 0..at_once() {
            turns.push(acquire(state.path(), Phase::Launch, |_| {}).await.unwrap());
        }
        let (order, mut come) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for number in 0..6 {
            let (at, order) = (state.path().to_owned(), order.clone());
            let (waits, has_drawn) = tokio::sync::oneshot::channel();
            let waits = Mutex::new(Some(waits));
            waiting.push(crate::task::spawn(async move {
                let told = |_| {
                    let _ = waits.lock().unwrap().take().map(|waits| waits.send(()));
                };
                let turn = acquire(&at, Phase::Launch, told).await.unwrap();
                order.send(number).unwrap();
                drop(turn);
            }));
            has_drawn.await.unwrap();
        }
        // Releasing the newest slot lets the waiting processes pass one by one, in order.
        drop(turns.pop());
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(come.recv().await.unwrap());
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn tickets_of_the_dead_go_away_and_what_is_no_ticket_is_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("turns/launch");
        let turn = acquire(state.path(), Phase::Launch, |_| {}).await.unwrap();
        for dead in ["ticket-0", "ticket-7", "ticket-900"] {
            std::fs::write(folder.join(dead), "").unwrap();
        }
        std::fs::create_dir(folder.join("ticket-3")).unwrap();
        std::fs::write(folder.join("ticket-x"), "").unwrap();
        std::fs::write(folder.join("counter"), "nonsense").unwrap();
        // The number is larger than all existing ones, whatever the counter says.
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
        let turn = acquire(state.path(), Phase::Launch, |_| {}).await.unwrap();
        std::fs::write(state.path().join("turns/launch/ticket-0"), "").unwrap();
        assert_eq!(turn.ahead(), 0);
        assert!(!state.path().join("turns/launch/ticket-0").exists());
    }
}
