//! Conversations with an upstream that are kept between the list that a client was told and its push, so that the
//! upstream lists its references once for a push. A push goes on in one of them if it is made against what was listed
//! there; whether the upstream has changed since is compared by the upstream itself, as in every push.
//!
//! Attacks that this stops: a client that has lists made and never pushes (there are only so many at a time, and each
//! is closed after a while).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::advertised::Listed;
use super::commands::Request;
use super::conversation::{Conversation, Task};
use crate::sync::lock;

/// How many lists are made at a time for clients that may push; others wait.
const LISTS: usize = 4;
/// How many conversations wait for their push; of more, the oldest is closed.
const MOST: usize = 4;
/// How long a conversation waits for its push.
const KEEP: Duration = Duration::from_secs(10);

/// The conversations with one upstream that wait for a push.
pub(super) struct Kept {
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    turns: Semaphore,
    /// Numbers the conversations.
    count: AtomicU64,
}

struct Waiting {
    number: u64,
    conversation: Conversation,
    listed: Listed,
    /// Removes it after a while.
    _end: Task,
}

impl Default for Kept {
    fn default() -> Self {
        Self { waiting: Arc::default(), turns: Semaphore::new(LISTS), count: AtomicU64::new(0) }
    }
}

impl Kept {
    /// Waits until a list may be made.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// Keeps a conversation for a while.
    pub(super) fn put(&self, conversation: Conversation, listed: Listed) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let shared = self.waiting.clone();
        let end = crate::task::spawn(async move {
            tokio::time::sleep(KEEP).await;
            lock(&shared).retain(|kept| kept.number != number);
        });
        let mut waiting = lock(&self.waiting);
        waiting.push_back(Waiting { number, conversation, listed, _end: Task(end) });
        if waiting.len() > MOST {
            waiting.pop_front();
        }
    }

    /// Takes out the newest conversation in which the upstream has listed what a push was made against.
    pub(super) fn take(&self, request: &Request) -> Option<(Conversation, Listed)> {
        let fits = |kept: &Waiting| {
            let is_same = request.commands.iter().all(|command| kept.listed.value(&command.name) == command.old);
            is_same && !kept.conversation.trouble.is_over()
        };
        let mut waiting = lock(&self.waiting);
        let at = waiting.iter().rposition(fits)?;
        waiting.remove(at).map(|kept| (kept.conversation, kept.listed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::{Command, ZERO};
    use super::super::conversation::Trouble;
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::Instant;

    const ID: &str = "1111111111111111111111111111111111111111";

    /// A conversation in which `main` was listed, with the upstream's side of it, and how it ends.
    fn conversation() -> (Conversation, Listed, DuplexStream, Trouble) {
        let (reader, far) = tokio::io::duplex(1);
        let (writer, trouble) = (Box::new(tokio::io::sink()), Trouble::default());
        let task = Task(crate::task::spawn(async {}));
        let mut listed = Listed::default();
        listed.refs.insert("refs/heads/main".to_owned(), ID.to_owned());
        (Conversation { reader: Box::new(reader), writer, trouble: trouble.clone(), _task: task }, listed, far, trouble)
    }

    /// Keeps one; returns the upstream's side.
    fn put(kept: &Kept) -> DuplexStream {
        let (conversation, listed, far, _) = conversation();
        kept.put(conversation, listed);
        far
    }

    fn push(name: &str, old: &str) -> Request {
        let command = Command { old: old.to_owned(), new: ID.to_owned(), name: name.to_owned() };
        Request { commands: vec![command], ..Request::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_a_conversation_waits_so_long_for_its_push_and_is_closed() {
        let kept = Kept::default();
        let began = Instant::now();
        let mut far = put(&kept);
        // The clock goes on while nobody does anything.
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "it is closed");
        assert!((KEEP..KEEP + Duration::from_secs(1)).contains(&began.elapsed()));
        assert!(kept.take(&push("refs/heads/main", ID)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_so_many_conversations_wait_and_lists_are_made_and_no_more() {
        let kept = Kept::default();
        let mut far: Vec<_> = (0..MOST).map(|_| put(&kept)).collect();
        assert!(far.iter_mut().all(|far| far.read_u8().now_or_never().is_none()));
        far.push(put(&kept));
        let closed = far.iter_mut().map(|far| far.read_u8().now_or_never().is_some()).collect::<Vec<_>>();
        assert_eq!(closed, [true, false, false, false, false], "the oldest one is closed");
        let mut turns: Vec<_> = (0..LISTS).map(|_| kept.turn().now_or_never().flatten().unwrap()).collect();
        assert!(kept.turn().now_or_never().is_none());
        turns.pop();
        assert!(kept.turn().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_gets_the_newest_conversation_that_lists_what_it_was_made_against() {
        let kept = Kept::default();
        let mut far = [put(&kept), put(&kept)];
        for wrong in [push("refs/heads/main", ZERO), push("refs/heads/main", &"2".repeat(40)), push("refs/heads/x", ID)]
        {
            assert!(kept.take(&wrong).is_none());
        }
        drop(kept.take(&push("refs/heads/x", ZERO)).unwrap());
        let closed = far.each_mut().map(|far| far.read_u8().now_or_never().is_some());
        assert_eq!(closed, [false, true]);
        let (conversation, listed, _far, trouble) = conversation();
        kept.put(conversation, listed);
        trouble.set(String::new());
        // The upstream has closed the newer one.
        drop(kept.take(&push("refs/heads/main", ID)).unwrap());
        assert!(far[0].read_u8().now_or_never().is_some());
        assert!(kept.take(&push("refs/heads/main", ID)).is_none());
    }
}
