//! The requests of an agent to its operator: what was asked, what became of it, and the file that remembers both. No decision is made
//! here.
//!
//! The file `requests.jsonl` in the bottle's directory has one line for each change of a request; the last line of an id counts. A
//! line is on the disk before anybody acts on it.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::audit;
use crate::policy::{Scope, Wanted};
use crate::sync::lock;

/// The file's name.
pub const REQUESTS_FILE: &str = "requests.jsonl";
/// How many requests are remembered; beyond that, the oldest decided ones are forgotten.
const MAX_KEPT: usize = 500;
/// How many lines the file may have before it is written anew.
const MAX_LINES: usize = 4 * MAX_KEPT;
/// How many refused requests of the agent are remembered.
const MAX_DENIALS: usize = 64;

/// What an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// To reach a host.
    Egress(Wanted),
    /// To use a credential.
    Credential {
        /// Its name, or what it is for.
        name: String,
        /// The host that it is for.
        host: String,
    },
    /// A push that the git gate refused.
    Git {
        /// The repository's name at the gate.
        repository: String,
        /// Its refs.
        reference: String,
        /// The id of the refused push.
        operation: String,
    },
    /// Packages, or another image.
    Capability {
        /// Packages by name.
        packages: Vec<String>,
        /// Or a Dockerfile.
        dockerfile: String,
    },
}

impl Wish {
    /// Its kind, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Egress(_) => "egress",
            Self::Credential { .. } => "credential",
            Self::Git { .. } => "git",
            Self::Capability { .. } => "capability",
        }
    }

    /// What wishes are grouped by: the registered domain, or the kind.
    pub fn class(&self) -> String {
        match self {
            Self::Egress(wanted) => wanted.class(),
            other => other.kind().to_owned(),
        }
    }

    /// Whether an answer to this one is an answer to another one.
    pub fn answers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Egress(own), Self::Egress(other)) => own.covers(other),
            _ => self.is_same(other),
        }
    }

    /// Whether this one and another one are one request. A push is what was found in it, whatever refs it was to.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Git { operation: own, .. }, Self::Git { operation: other, .. }) => own == other,
            _ => self == other,
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// The operator.
    Operator,
    /// A rule of the bottle, or its policy.
    Rule,
    /// Nobody, in time.
    Deadline,
}

/// The state of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Nobody has decided yet.
    Pending,
    /// It was granted, and is enforced.
    Approved {
        /// For how long.
        scope: Scope,
        /// The generation of the policy that has it.
        generation: u64,
        /// Seconds since the epoch.
        at: u64,
    },
    /// It was refused.
    Rejected {
        /// Why, for the agent.
        reason: String,
        /// By whom.
        by: Decider,
        /// Seconds since the epoch.
        at: u64,
    },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its id, unique in the bottle.
    pub id: String,
    /// What is asked for.
    pub wish: Wish,
    /// Why, in the agent's words. Hostile text.
    pub reason: String,
    /// Seconds since the epoch.
    pub asked: u64,
    /// How often it was asked.
    pub times: u64,
    /// What became of it.
    pub state: RequestState,
}

impl Request {
    /// Whether nobody has decided yet.
    pub fn is_pending(&self) -> bool {
        self.state == RequestState::Pending
    }

    /// Whether it was refused because it takes what no command does while the bottle runs: another manifest, or another image. The
    /// operator is told, and nobody waits.
    pub fn is_noted(&self) -> bool {
        matches!(self.state, RequestState::Rejected { by: Decider::Rule, .. })
            && matches!(self.wish, Wish::Credential { .. } | Wish::Capability { .. })
    }
}

/// The requests of a bottle.
#[derive(Default)]
pub(in crate::primitive) struct Queue {
    requests: Vec<Request>,
    last: u64,
    lines: usize,
    file: Option<PathBuf>,
}

impl Queue {
    /// Reads what an earlier life of the bottle has left, and writes there from now on.
    pub(in crate::primitive) fn open(&mut self, directory: &Path) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = directory.join(REQUESTS_FILE);
        let requests = closed(read_requests(&path)?);
        let number = |request: &Request| request.id.strip_prefix('r').and_then(|number| number.parse().ok());
        self.last = requests.iter().filter_map(number).max().unwrap_or_default();
        self.requests = requests;
        self.file = Some(path);
        Ok(())
    }

    pub(in crate::primitive) fn all(&self) -> &[Request] {
        &self.requests
    }

    pub(in crate::primitive) fn get(&self, id: &str) -> Option<&Request> {
        self.requests.iter().find(|request| request.id == id)
    }

    pub(in crate::primitive) fn pending(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.is_pending())
    }

    /// The request whose answer would be the answer to a wish, the latest first: a pending one with the same wish, one that the
    /// operator has refused, or the same wish that a rule has refused, if rules still say the same.
    pub(in crate::primitive) fn known(&self, wish: &Wish, rules_stay: bool) -> Option<&Request> {
        self.requests.iter().rev().find(|request| match &request.state {
            RequestState::Pending => request.wish.is_same(wish),
            RequestState::Rejected { by: Decider::Operator, .. } => request.wish.answers(wish),
            RequestState::Rejected { by: Decider::Rule, .. } => rules_stay && request.wish == *wish,
            RequestState::Rejected { by: Decider::Deadline, .. } | RequestState::Approved { .. } => false,
        })
    }

    /// Counts one more time that a pending request was asked. Not worth a line of the file.
    pub(in crate::primitive) fn again(&mut self, id: &str) {
        if let Some(request) = self.requests.iter_mut().find(|request| request.id == id) {
            request.times += 1;
        }
    }

    /// Adds a request, once it is on the disk.
    pub(in crate::primitive) fn add(
        &mut self,
        wish: Wish,
        reason: String,
        asked: u64,
        state: RequestState,
    ) -> io::Result<Request> {
        let request = Request { id: format!("r{}", self.last + 1), wish, reason, asked, times: 1, state };
        self.write(&request)?;
        self.last += 1;
        if self.requests.len() >= MAX_KEPT
            && let Some(oldest) = self.requests.iter().position(|request| !request.is_pending())
        {
            self.requests.remove(oldest);
        }
        self.requests.push(request.clone());
        Ok(request)
    }

    /// Changes the state of a request. It is changed in memory even if it cannot be written: what was decided is in effect already.
    pub(in crate::primitive) fn decide(&mut self, id: &str, state: RequestState) -> (Option<Request>, io::Result<()>) {
        let Some(request) = self.requests.iter_mut().find(|request| request.id == id) else { return (None, Ok(())) };
        request.state = state;
        let request = request.clone();
        let written = self.write(&request);
        (Some(request), written)
    }

    fn write(&mut self, request: &Request) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        if self.lines >= MAX_LINES {
            let lines: Vec<Vec<u8>> = self.requests.iter().map(crate::wire::line).collect::<Result<_, _>>()?;
            crate::host::replace(path, &lines.concat())?;
            self.lines = lines.len();
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(&crate::wire::line(request)?)?;
        file.sync_data()?;
        self.lines += 1;
        Ok(())
    }
}

/// The requests of a bottle that has ended: nothing waits, and no push is released any more.
pub fn closed(mut requests: Vec<Request>) -> Vec<Request> {
    for request in &mut requests {
        let (reason, at) = match &request.state {
            RequestState::Pending => ("the bottle ended before anybody decided", request.asked),
            RequestState::Approved { at, .. } if matches!(request.wish, Wish::Git { .. }) => {
                ("it was released, and the bottle has ended since", *at)
            }
            RequestState::Approved { .. } | RequestState::Rejected { .. } => continue,
        };
        request.state = RequestState::Rejected { reason: reason.to_owned(), by: Decider::Deadline, at };
    }
    requests
}

/// Reads a file of requests; none where there is no file. A last line that is cut off, by a crash, was never acted on.
///
/// # Errors
/// It cannot be read.
pub fn read_requests(path: &Path) -> io::Result<Vec<Request>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut requests: Vec<Request> = Vec::new();
    for line in text.lines() {
        let Ok(request) = serde_json::from_str::<Request>(line) else { continue };
        match requests.iter_mut().find(|known| known.id == request.id) {
            Some(known) => *known = request,
            None => requests.push(request),
        }
    }
    Ok(requests)
}

/// The requests of the agent that egress and other sidecars refused: the last of them, each once.
#[derive(Default)]
struct Denials(VecDeque<audit::Event>);

/// What a bottle knows of its agent's requests to the operator.
#[derive(Default)]
pub(in crate::primitive) struct Desk {
    /// Locked while a question is answered and while one is decided, so that each is decided once.
    pub(in crate::primitive) queue: Arc<tokio::sync::Mutex<Queue>>,
    denials: Mutex<Denials>,
    /// Whether an image can be built, and by what its packages are installed; looked up once.
    pub(in crate::primitive) package_program: tokio::sync::OnceCell<Option<&'static str>>,
    /// The request whose image is being built, and what ends that.
    building: Mutex<Option<(String, Arc<Notify>)>>,
}

/// Held while the image of a request is being built.
pub(in crate::primitive) struct Building {
    desk: Arc<Desk>,
    /// Notified when the request has been rejected.
    pub(in crate::primitive) stop: Arc<Notify>,
}

impl Drop for Building {
    fn drop(&mut self) {
        *lock(&self.desk.building) = None;
    }
}

impl Desk {
    /// Notes that the image of a request is being built.
    ///
    /// # Errors
    /// The request whose image is being built now.
    pub(in crate::primitive) fn begin_build(self: &Arc<Self>, id: &str) -> Result<Building, String> {
        let mut building = lock(&self.building);
        if let Some((other, _)) = &*building {
            return Err(other.clone());
        }
        let stop = Arc::new(Notify::new());
        *building = Some((id.to_owned(), stop.clone()));
        Ok(Building { desk: self.clone(), stop })
    }

    /// Whether the image of a request is being built.
    pub(in crate::primitive) fn is_building(&self, id: &str) -> bool {
        lock(&self.building).as_ref().is_some_and(|(building, _)| building == id)
    }

    /// Ends the building of the image of a request, if it is being built.
    pub(in crate::primitive) fn stop_build(&self, id: &str) {
        if let Some((_, stop)) = lock(&self.building).as_ref().filter(|(building, _)| building == id) {
            stop.notify_one();
        }
    }

    /// Notes a refused request of the agent.
    pub(in crate::primitive) fn note_denial(&self, event: &audit::Event) {
        if event.kind.decision != "refuse" || !event.kind.client.is_empty() {
            return;
        }
        let mut denials = lock(&self.denials);
        denials.0.retain(|known| known.kind != event.kind);
        if denials.0.len() == MAX_DENIALS {
            denials.0.pop_front();
        }
        denials.0.push_back(event.clone());
    }

    /// The refused requests, the latest first.
    pub(in crate::primitive) fn denials(&self) -> Vec<audit::Event> {
        lock(&self.denials).0.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(host: &str) -> Wish {
        Wish::Egress(Wanted { host: host.into(), ..Wanted::default() })
    }

    fn rejected() -> RequestState {
        RequestState::Rejected { reason: "no".into(), by: Decider::Operator, at: 7 }
    }

    #[test]
    fn requests_outlive_their_process_and_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::default();
        queue.open(folder.path()).unwrap();
        let first = queue.add(wish("a.com"), "why".into(), 5, RequestState::Pending).unwrap();
        queue.add(wish("b.com"), "why".into(), 6, RequestState::Pending).unwrap();
        queue.decide(&first.id, rejected()).1.unwrap();
        let path = folder.path().join(REQUESTS_FILE);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\":\"r3\",\"wi").unwrap();
        let mut again = Queue::default();
        again.open(folder.path()).unwrap();
        let states: Vec<(&str, bool)> = again.all().iter().map(|one| (one.id.as_str(), one.is_pending())).collect();
        // What waited when the bottle ended waits no more.
        assert!(matches!(&again.all()[1].state, RequestState::Rejected { by: Decider::Deadline, .. }));
        assert_eq!(states, [("r1", false), ("r2", false)]);
        assert_eq!(again.last, 2);
    }

    #[test]
    fn the_same_wish_is_one_request_and_a_refusal_answers_what_is_narrower() {
        let mut queue = Queue::default();
        let first = queue.add(wish("a.com"), String::new(), 5, RequestState::Pending).unwrap();
        let narrow = Wish::Egress(Wanted { host: "a.com".into(), methods: vec!["GET".into()], paths: vec![] });
        assert_eq!(queue.known(&wish("a.com"), false).unwrap().id, first.id);
        assert!(queue.known(&narrow, false).is_none());
        queue.decide(&first.id, rejected()).1.unwrap();
        assert_eq!(queue.known(&narrow, false).unwrap().id, first.id);
        assert!(queue.known(&wish("b.com"), false).is_none());
        let push = |reference: &str, operation: &str| Wish::Git {
            repository: "lib".into(),
            reference: reference.into(),
            operation: operation.into(),
        };
        let pushed = queue.add(push("refs/heads/a", "0f"), String::new(), 5, RequestState::Pending).unwrap();
        for _ in 0..2 {
            assert_eq!(queue.known(&push("refs/heads/b", "0f"), false).unwrap().id, pushed.id);
            assert!(queue.known(&push("refs/heads/a", "ff"), false).is_none());
            queue.decide(&pushed.id, rejected()).1.unwrap();
        }
        // Nobody has said no: it may be asked again.
        let late = RequestState::Rejected { reason: String::new(), by: Decider::Deadline, at: 7 };
        queue.decide(&first.id, late).1.unwrap();
        assert!(queue.known(&wish("a.com"), false).is_none());
    }

    #[test]
    fn memory_and_file_are_bounded_and_what_waits_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join(REQUESTS_FILE));
        let mut queue = Queue { file, lines: MAX_LINES - 10, ..Queue::default() };
        let waits = queue.add(wish("waits.com"), String::new(), 1, RequestState::Pending).unwrap();
        queue.requests.extend((0..MAX_KEPT).map(|n| Request {
            id: format!("x{n}"),
            state: rejected(),
            ..waits.clone()
        }));
        for n in 0..30 {
            queue.add(wish(&format!("h{n}.com")), String::new(), 1, rejected()).unwrap();
        }
        assert!(queue.requests.len() <= MAX_KEPT + 1 && queue.get(&waits.id).is_some());
        let lines = std::fs::read_to_string(folder.path().join(REQUESTS_FILE)).unwrap().lines().count();
        assert!(lines <= MAX_KEPT + 30, "{lines}");
        assert!(read_requests(&folder.path().join(REQUESTS_FILE)).unwrap().iter().any(|one| one.id == waits.id));
    }
}
