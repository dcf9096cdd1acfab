//! What Git LFS's clients and servers say to each other (git-lfs, `docs/api/batch.md` and `docs/api/basic-transfers.md`):
//! parsed, and written again from what was understood. Pure.
//!
//! Attacks that this stops: fields that the gate does not know and a server does; an upstream that sends the gate, with
//! its credential, to another repository or host; ids that are no hashes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::visible;

/// The type of its messages.
pub(super) const KIND: &str = "application/vnd.git-lfs+json";
/// Maximum number of objects of one request. Clients ask for a hundred.
const MAX_OBJECTS: usize = 1000;
/// Digits of an id: SHA-256.
const DIGITS: usize = 64;
/// Where servers keep objects of a repository, below its path: the API's own place, and GitLab's.
const PLACES: [&str; 2] = ["/info/lfs/", "/gitlab-lfs/objects/"];

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// Its SHA-256, in hexadecimal digits.
    pub(super) oid: String,
    /// Its size, in bytes.
    pub(super) size: u64,
}

/// What is done with objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    /// The client gets them.
    Download,
    /// The client sends them.
    Upload,
}

/// A request for where objects are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// What is done.
    pub(super) operation: Operation,
    /// The ways of the transfer that the client knows; `basic` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transfers: Option<Vec<String>>,
    /// The objects.
    pub(super) objects: Vec<Object>,
    /// The hash that ids are made with; SHA-256 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash_algo: Option<String>,
}

/// A server's answer.
#[derive(Debug, Deserialize)]
struct Found {
    #[serde(default)]
    transfer: Option<String>,
    #[serde(default)]
    objects: Vec<FoundObject>,
}

#[derive(Debug, Deserialize)]
struct FoundObject {
    oid: String,
    #[serde(default)]
    actions: Option<BTreeMap<String, Link>>,
    #[serde(default)]
    error: Option<Wrong>,
}

#[derive(Debug, Deserialize)]
struct Link {
    href: String,
}

/// Why an object is not transferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wrong {
    /// A status of HTTP.
    pub(super) code: u16,
    /// In words.
    pub(super) message: String,
}

/// What is to be done for each object of a request.
pub(super) type Steps = Vec<(Object, Result<Step, Wrong>)>;

/// What is to be done for one object at the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is there.
    Nothing,
    /// It is got from, or sent to, this target at the repository's host; then it is verified at the other one.
    Transfer(String, Option<String>),
}

impl Object {
    /// Reads `OID/SIZE`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (oid, size) = text.split_once('/')?;
        let object = Self { oid: oid.to_owned(), size: size.parse().ok()? };
        // One spelling only.
        (object.is_plain() && object.path() == text).then_some(object)
    }

    /// `OID/SIZE`.
    fn path(&self) -> String {
        format!("{}/{}", self.oid, self.size)
    }

    /// The beginning of its id, for people.
    pub(super) fn short(&self) -> &str {
        self.oid.get(..10).unwrap_or_default()
    }

    fn is_plain(&self) -> bool {
        self.oid.len() == DIGITS && self.oid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl Wrong {
    /// A reason, with a status.
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Batch {
    /// A request for these objects.
    pub(super) fn new(operation: Operation, objects: Vec<Object>) -> Self {
        let (transfers, hash_algo) = (Some(vec!["basic".to_owned()]), Some("sha256".to_owned()));
        Self { operation, transfers, objects, hash_algo }
    }

    /// Reads a client's request; only what is understood is kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let batch: Self =
            serde_json::from_slice(text).map_err(|error| format!("the request cannot be read: {error}"))?;
        if batch.objects.len() > MAX_OBJECTS {
            return Err(format!("a request may name at most {MAX_OBJECTS} objects"));
        }
        if batch.hash_algo.as_deref().is_some_and(|name| name != "sha256") {
            return Err("objects are named by SHA-256 only".to_owned());
        }
        if batch.transfers.as_ref().is_some_and(|names| !names.iter().any(|name| name == "basic")) {
            return Err("objects are transferred in the basic way only".to_owned());
        }
        if let Some(odd) = batch.objects.iter().find(|object| !object.is_plain()) {
            return Err(format!("{:?} is not the id of an object", odd.oid.chars().take(80).collect::<String>()));
        }
        Ok(Self::new(batch.operation, batch.objects))
    }

    /// The request, as it is sent.
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an upstream's answer: what is to be done for each object that was asked for.
    ///
    /// # Errors
    /// The answer cannot be read.
    pub(super) fn steps(&self, answer: &[u8], repository: &Url) -> Result<Steps, String> {
        let found: Found = serde_json::from_slice(answer).map_err(|error| format!("its answer: {error}"))?;
        if let Some(other) = found.transfer.filter(|name| name != "basic") {
            return Err(format!("it wants the transfer {}, and the gate knows the basic one", visible::reason(&other)));
        }
        let found: BTreeMap<&str, &FoundObject> =
            found.objects.iter().map(|object| (object.oid.as_str(), object)).collect();
        let step = |object: &Object| match found.get(object.oid.as_str()) {
            None => Err(Wrong::new(502, "the upstream does not say where it is")),
            Some(FoundObject { error: Some(wrong), .. }) => {
                Err(Wrong::new(wrong.code, visible::reason(&wrong.message)))
            }
            Some(FoundObject { actions, .. }) => self.step(actions.as_ref(), repository),
        };
        Ok(self.objects.iter().map(|object| (object.clone(), step(object))).collect())
    }

    fn step(&self, actions: Option<&BTreeMap<String, Link>>, repository: &Url) -> Result<Step, Wrong> {
        let link = |name: &str| actions.and_then(|actions| actions.get(name));
        let place = |link: &Link| place(&link.href, repository).map_err(|why| Wrong::new(501, why));
        let name = if self.operation == Operation::Upload { "upload" } else { "download" };
        match (link(name), self.operation) {
            (None, Operation::Upload) => Ok(Step::Nothing),
            (None, Operation::Download) => Err(Wrong::new(404, "the upstream does not have it")),
            (Some(to), Operation::Upload) => Ok(Step::Transfer(place(to)?, link("verify").map(place).transpose()?)),
            (Some(from), Operation::Download) => Ok(Step::Transfer(place(from)?, None)),
        }
    }

    /// The answer to the client: it sends to, and gets from, the gate, below `base`.
    pub(super) fn answer(&self, steps: &[(Object, Result<Step, Wrong>)], base: &str) -> Vec<u8> {
        let name = if self.operation == Operation::Upload { "upload" } else { "download" };
        let object = |(object, step): &(Object, Result<Step, Wrong>)| {
            let mut shown = serde_json::json!({ "oid": object.oid, "size": object.size, "authenticated": true });
            match step {
                Err(wrong) => shown["error"] = serde_json::json!(wrong),
                Ok(Step::Nothing) => {}
                Ok(Step::Transfer(..)) => {
                    let href = format!("{base}/info/lfs/objects/{}", object.path());
                    shown["actions"] = serde_json::json!({ name: { "href": href } });
                }
            }
            shown
        };
        let objects: Vec<_> = steps.iter().map(object).collect();
        serde_json::json!({ "transfer": "basic", "hash_algo": "sha256", "objects": objects }).to_string().into_bytes()
    }
}

/// The target of a link at the repository's own host, if it is below the repository.
fn place(href: &str, repository: &Url) -> Result<String, String> {
    let url = Url::parse(href).map_err(|error| format!("the upstream's link to it is malformed: {error}"))?;
    let own = repository.path().trim_end_matches(".git");
    let below = url.path().split_at_checked(own.len()).filter(|(start, _)| start.eq_ignore_ascii_case(own));
    let rest = below.map(|(_, rest)| rest.strip_prefix(".git").unwrap_or(rest));
    let is_below = rest.is_some_and(|rest| PLACES.iter().any(|place| rest.starts_with(place)));
    let is_plain = !url.path().contains(['%', '\\']) && url.username().is_empty() && url.password().is_none();
    if url.origin() != repository.origin() || !is_below || !is_plain {
        let host = url.host_str().unwrap_or_default();
        let place = visible::reason(&format!("{host}{}", url.path().chars().take(80).collect::<String>()));
        return Err(format!(
            "the upstream keeps it at {place}, and the git gate transfers objects below the repository itself only"
        ));
    }
    Ok(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(letter: &str) -> String {
        letter.repeat(DIGITS)
    }

    #[test]
    fn a_request_is_written_again_from_what_was_understood() {
        let text = format!(
            r#"{{"operation":"upload","transfers":["ssh","basic"],"ref":{{"name":"refs/heads/x"}},"more":"secret",
            "objects":[{{"oid":"{}","size":3,"x":1}}],"hash_algo":"sha256"}}"#,
            oid("a")
        );
        let batch = Batch::read(text.as_bytes()).unwrap();
        let expected = format!(
            r#"{{"operation":"upload","transfers":["basic"],"objects":[{{"oid":"{}","size":3}}],"hash_algo":"sha256"}}"#,
            oid("a")
        );
        assert_eq!(String::from_utf8(batch.write()).unwrap(), expected);
        let many = vec![Object { oid: oid("a"), size: 1 }; MAX_OBJECTS + 1];
        let object = |oid: &str| format!(r#"{{"operation":"upload","objects":[{{"oid":"{oid}","size":1}}]}}"#);
        for (wrong, words) in [
            ("{}".to_owned(), "cannot be read"),
            (r#"{"operation":"verify","objects":[]}"#.to_owned(), "cannot be read"),
            (r#"{"operation":"upload","objects":[],"hash_algo":"sha1"}"#.to_owned(), "SHA-256 only"),
            (r#"{"operation":"upload","objects":[],"transfers":["tus"]}"#.to_owned(), "basic way"),
            (object("a-secret"), "not the id"),
            (object(&oid("A")), "not the id"),
            (String::from_utf8(Batch::new(Operation::Upload, many).write()).unwrap(), "at most 1000"),
        ] {
            let why = Batch::read(wrong.as_bytes()).unwrap_err();
            assert!(why.contains(words), "{wrong}: {why}");
        }
        assert_eq!(Object::read(&format!("{}/12", oid("b"))), Some(Object { oid: oid("b"), size: 12 }));
        for wrong in [format!("{}/012", oid("b")), format!("{}/", oid("b")), oid("b"), "x/1".to_owned()] {
            assert_eq!(Object::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn promise_10_links_of_an_upstream_lead_to_the_repository_itself_only() {
        let repository = Url::parse("https://git.example.com/acme/lib.git").unwrap();
        for (href, target) in [
            ("https://git.example.com/acme/lib.git/info/lfs/objects/1", Some("/acme/lib.git/info/lfs/objects/1")),
            ("https://git.example.com:443/Acme/lib/info/lfs/verify?x=1", Some("/Acme/lib/info/lfs/verify?x=1")),
            (
                "https://git.example.com/acme/lib.git/gitlab-lfs/objects/1/2",
                Some("/acme/lib.git/gitlab-lfs/objects/1/2"),
            ),
            ("http://git.example.com/acme/lib.git/info/lfs/objects/1", None),
            ("https://git.example.com:8443/acme/lib.git/info/lfs/objects/1", None),
            ("https://storage.example.com/acme/lib.git/info/lfs/objects/1", None),
            ("https://git.example.com/acme/library.git/info/lfs/objects/1", None),
            ("https://git.example.com/acme/lib.git/info/lfs/../../../other/info/lfs/1", None),
            ("https://git.example.com/acme/lib.git/info/lfs/%2e%2e/1", None),
            ("https://git.example.com/acme/lib.git/git-receive-pack", None),
            ("https://u:p@git.example.com/acme/lib.git/info/lfs/objects/1", None),
            ("/acme/lib.git/info/lfs/objects/1", None),
        ] {
            assert_eq!(place(href, &repository).ok().as_deref(), target, "{href}");
        }
    }

    #[test]
    fn what_the_upstream_says_becomes_what_the_client_does() {
        let repository = Url::parse("https://git.example.com/acme/lib.git").unwrap();
        let objects: Vec<Object> = ["a", "b", "c", "d"].map(|letter| Object { oid: oid(letter), size: 1 }).into();
        let batch = Batch::new(Operation::Upload, objects);
        let at = "https://git.example.com/acme/lib.git/info/lfs";
        let answer = serde_json::json!({ "objects": [
            { "oid": oid("a"), "size": 1, "actions": { "upload": { "href": format!("{at}/objects/1") }, "verify": { "href": format!("{at}/verify") } } },
            { "oid": oid("b"), "size": 1, "actions": {} },
            { "oid": oid("c"), "size": 1, "error": { "code": 422, "message": "no\u{1b}[31m" } },
            { "oid": oid("e"), "size": 1, "actions": { "upload": { "href": format!("{at}/objects/5") } } },
        ] });
        let steps = batch.steps(answer.to_string().as_bytes(), &repository).unwrap();
        let transfer = Step::Transfer(
            "/acme/lib.git/info/lfs/objects/1".to_owned(),
            Some("/acme/lib.git/info/lfs/verify".to_owned()),
        );
        let found: Vec<_> = steps.iter().map(|(_, step)| step.clone()).collect();
        let lacking = Wrong::new(502, "the upstream does not say where it is");
        assert_eq!(found, [Ok(transfer), Ok(Step::Nothing), Err(Wrong::new(422, "no?[31m")), Err(lacking)]);
        let shown: serde_json::Value = serde_json::from_slice(&batch.answer(&steps, "http://gate/app.git")).unwrap();
        let href = format!("http://gate/app.git/info/lfs/objects/{}/1", oid("a"));
        assert_eq!(shown["objects"][0]["actions"]["upload"]["href"], href);
        assert!(shown["objects"][1].get("actions").is_none() && shown["objects"][2]["error"]["code"] == 422);
        let download = Batch::new(Operation::Download, vec![Object { oid: oid("b"), size: 1 }]);
        let steps = download.steps(answer.to_string().as_bytes(), &repository).unwrap();
        assert_eq!(steps[0].1.as_ref().unwrap_err().code, 404);
        let other = br#"{"transfer":"tus","objects":[]}"#;
        assert!(batch.steps(other, &repository).unwrap_err().contains("tus"));
    }
}
