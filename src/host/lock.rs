//! Locks between processes, on open file descriptions (`F_OFD_SETLK`, fcntl(2)). Child processes that inherit the
//! file share the lock, the kernel releases it when the last of them exits, and it can be tested without being taken.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long to wait for a lock that is normally held only briefly.
const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A byte range of a lock file; ranges that do not overlap are independent locks.
#[derive(Debug, Clone, Copy)]
pub struct ByteRange {
    /// Its first byte.
    pub start: i64,
    /// How many bytes; the file need not have them.
    pub length: i64,
}

impl ByteRange {
    /// The range of a file with a single lock.
    pub const WHOLE: Self = Self { start: 0, length: 1 };

    fn of(self, kind: i32) -> libc::flock {
        libc::flock {
            l_type: i16::try_from(kind).expect("the kinds are small constants"),
            l_whence: i16::try_from(libc::SEEK_SET).expect("a small constant"),
            l_start: self.start,
            l_len: self.length,
            l_pid: 0,
        }
    }
}

/// Takes an exclusive lock on a file that is open for writing; false if another process holds a lock.
///
/// # Errors
/// The file system does not support locks.
pub fn try_exclusive(file: &File, part: ByteRange) -> io::Result<bool> {
    set(file, part, libc::F_WRLCK)
}

/// Takes an exclusive lock; blocks until it is free.
///
/// # Errors
/// The file system does not support locks.
pub fn exclusive(file: &File, part: ByteRange) -> io::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&part.of(libc::F_WRLCK))) {
            Err(Errno::EINTR) => {}
            taken => return Ok(taken.map(drop)?),
        }
    }
}

/// Takes a shared lock; false if another process holds an exclusive lock.
///
/// # Errors
/// The file system does not support locks.
pub fn try_shared(file: &File, part: ByteRange) -> io::Result<bool> {
    set(file, part, libc::F_RDLCK)
}

fn set(file: &File, part: ByteRange, kind: i32) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&part.of(kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether another process holds a lock on the range. Takes no lock.
///
/// # Errors
/// The file system does not support locks.
pub fn is_held(file: &File, part: ByteRange) -> io::Result<bool> {
    let mut asked = part.of(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(i32::from(asked.l_type) != libc::F_UNLCK)
}

/// Takes an exclusive lock on a lock file, for a short read-modify-write operation.
///
/// # Errors
/// The file cannot be created, or another process holds the lock for longer than ten seconds.
pub fn wait_exclusive(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    let began = Instant::now();
    while !try_exclusive(&file, ByteRange::WHOLE)? {
        if began.elapsed() > LONGEST {
            let why = format!("{} is locked by another process for {} s", path.display(), LONGEST.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_independent_and_looking_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (one, two) = (ByteRange { start: 0, length: 1 }, ByteRange { start: 1, length: 1 });
        let first = File::create(&path).unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let looking = open();
        assert!(!is_held(&looking, one).unwrap());
        assert!(try_exclusive(&first, one).unwrap(), "who looked has taken nothing");
        assert!(is_held(&looking, one).unwrap() && !is_held(&looking, two).unwrap());
        let (second, third) = (open(), open());
        assert!(try_shared(&second, two).unwrap() && try_shared(&third, two).unwrap());
        assert!(!try_exclusive(&first, two).unwrap());
        let inherited = first.try_clone().unwrap();
        drop(first);
        assert!(is_held(&looking, one).unwrap(), "the copy holds it");
        drop(inherited);
        assert!(!is_held(&looking, one).unwrap());
    }
}
