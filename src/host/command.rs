//! Runs host commands with a deadline and a limit on their output.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a command may run, and how much it may write.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From its start to the end of its output.
    pub time: Duration,
    /// Bytes to standard output, and as many to standard error.
    pub bytes: usize,
}

/// How soon to check whether the command has exited, and how often at last.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command in its own process group. At the deadline or the output limit, the whole group is killed.
///
/// # Errors
/// It cannot be started, takes longer, or writes more.
pub fn output(command: &mut Command, limits: Limits) -> io::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let began = Instant::now();
    let (sender, pieces) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    read_aside(out, 0, limits.bytes, sender.clone());
    read_aside(err, 1, limits.bytes, sender);
    let mut read = [Vec::new(), Vec::new()];
    for _ in 0..read.len() {
        match pieces.recv_timeout(limits.time.saturating_sub(began.elapsed())) {
            Ok((which, Ok(bytes))) if bytes.len() <= limits.bytes => read[which] = bytes,
            Ok((_, Ok(_))) => {
                return Err(killed(&mut child, format!("{program} writes more than {} bytes", limits.bytes)));
            }
            Ok((_, Err(error))) => return Err(killed(&mut child, format!("read from {program}: {error}"))),
            Err(_) => return Err(killed(&mut child, late(&program, limits))),
        }
    }
    // It ends a moment after its output does.
    let mut pause = FIRST_LOOK;
    loop {
        if let Some(status) = child.try_wait()? {
            let [stdout, stderr] = read;
            return Ok(Output { status, stdout, stderr });
        }
        if began.elapsed() > limits.time {
            return Err(killed(&mut child, late(&program, limits)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

fn late(program: &str, limits: Limits) -> String {
    format!("{program} did not end within {} s", limits.time.as_secs())
}

type StreamRead = (usize, io::Result<Vec<u8>>);

/// Reads a pipe in a detached thread, because another process may keep the pipe open.
fn read_aside(pipe: Option<impl Read + Send + 'static>, which: usize, bytes: usize, to: mpsc::Sender<StreamRead>) {
    std::thread::spawn(move || {
        let mut read = Vec::new();
        let most = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1);
        let done = pipe.map_or(Ok(0), |pipe| pipe.take(most).read_to_end(&mut read));
        let _ = to.send((which, done.map(|_| read)));
    });
}

fn killed(child: &mut Child, why: String) -> io::Error {
    // Kill its children, too. It may have just exited.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let _ = child.kill();
    let _ = child.wait();
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// A path as a word of a command line that a user copies into a shell: in quotes where that would read anything else.
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@%:,=".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limits: Limits) -> io::Result<Output> {
        output(Command::new("sh").args(["-c", script]).stdin(Stdio::null()), limits)
    }

    #[test]
    fn a_shell_reads_a_word_as_the_path_that_it_is() {
        for path in ["/plain/a-b_c.d", "/with space/'quote'/$HOME`id`\"\\", "/two\nlines"] {
            let word = shell_word(Path::new(path));
            let read = Command::new("sh").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            assert_eq!(String::from_utf8(read.stdout).unwrap(), path, "{word}");
        }
        assert_eq!(shell_word(Path::new("/plain/a-b_c.d")), "/plain/a-b_c.d");
    }

    #[test]
    fn what_does_not_end_is_killed_with_its_children_and_what_writes_too_much_is_too() {
        let limits = Limits { time: Duration::from_secs(20), bytes: 1 << 20 };
        let done = shell("printf out; printf err >&2; exit 3", limits).unwrap();
        assert_eq!(
            (done.stdout.as_slice(), done.stderr.as_slice(), done.status.code()),
            (&b"out"[..], &b"err"[..], Some(3))
        );
        let short = Limits { time: Duration::from_millis(200), ..limits };
        // A child that keeps the pipe open, and one that has closed it.
        for script in ["sleep 1000 & wait", "exec >&- 2>&-; sleep 1000"] {
            let error = shell(script, short).unwrap_err();
            assert!(error.to_string().contains("did not end within"), "{error}");
        }
        let error = shell("yes", limits).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }
}
