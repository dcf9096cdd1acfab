//! Looks for secrets in a text and in the texts that are encoded in it.

use std::sync::Arc;

use super::action::{Action, Actions, KNOWN_SECRET};
use super::exact::{Exact, Pending};
use super::finding::Finding;
use super::owner::{Place, Target};
use super::rules::Rules;
use super::work::{Exhausted, Work};
use super::{example, inner};

/// How many encodings around each other are looked through.
const MAX_DEPTH: usize = 6;
/// What may be done for a short text, in bytes that are looked at.
const SHORT: u64 = 1 << 20;

/// Where findings go that are let through.
pub type Warn = Arc<dyn Fn(Finding) + Send + Sync>;

/// Everything that is looked for. Clones share it.
#[derive(Clone)]
pub struct Scanner {
    pub(super) exact: Arc<Exact>,
    pub(super) rules: Arc<Rules>,
    pub(super) actions: Arc<Actions>,
    /// What happens whatever the finding.
    always: Option<Action>,
    warn: Option<Warn>,
    /// Secrets that are for the host that is asked.
    passing: Arc<Vec<Vec<u8>>>,
    /// The destination, where it may be given the tokens that are its own.
    target: Option<Arc<Target>>,
}

/// How a text is looked at.
#[derive(Clone, Copy)]
struct Look<'a> {
    /// Where it stands.
    place: Place<'a>,
    /// Whether for tokens by their format, too, and not for known secrets alone.
    rules: bool,
}

impl Scanner {
    /// Looks for these secrets, and for what these rules describe.
    pub fn new(secrets: &[String], rules: Arc<Rules>, actions: Arc<Actions>) -> Self {
        let (exact, passing) = (Arc::new(Exact::new(secrets)), Arc::default());
        Self { exact, rules, actions, always: None, warn: None, passing, target: None }
    }

    /// The same for other secrets. Those that are `passing` are let through, whichever rule would find them.
    #[must_use]
    pub fn with_secrets(&self, secrets: &[String], passing: &[String]) -> Self {
        let passing = passing.iter().map(|secret| secret.clone().into_bytes()).collect();
        Self { exact: Arc::new(Exact::new(secrets)), passing: Arc::new(passing), ..self.clone() }
    }

    /// The same for one request: what happens whatever the finding, if that is said, and who is told of what is let
    /// through.
    #[must_use]
    pub fn of_request(&self, always: Option<Action>, warn: Warn) -> Self {
        Self { always, warn: Some(warn), ..self.clone() }
    }

    /// The same for a request to a destination that may be given what is its own.
    #[must_use]
    pub fn towards(&self, target: Target) -> Self {
        Self { target: Some(Arc::new(target)), ..self.clone() }
    }

    /// Whether anybody looks at all.
    pub fn looks(&self) -> bool {
        self.always != Some(Action::Off)
    }

    /// The first finding that is refused in a body that is whole, without a bound of work; see [`Self::look`].
    pub fn whole(&self, bytes: &[u8]) -> Option<Finding> {
        let mut work = Work::unbounded();
        let found = self.look(bytes, &mut work).ok().flatten();
        self.tell(&mut work);
        found
    }

    /// The first finding that is refused in a text that is whole: as it is, and with its escapes and encodings taken off.
    ///
    /// # Errors
    /// That takes more work than there is.
    pub fn look(&self, bytes: &[u8], work: &mut Work) -> Result<Option<Finding>, Exhausted> {
        self.at(Place::Body, bytes, work)
    }

    /// The same in a text that stands elsewhere.
    pub(super) fn at(&self, place: Place<'_>, bytes: &[u8], work: &mut Work) -> Result<Option<Finding>, Exhausted> {
        if self.looks() { self.layer(bytes, 0, Look { place, rules: true }, work) } else { Ok(None) }
    }

    /// The same for known secrets alone: in what was put together out of pieces, where formats would be found that nobody wrote.
    ///
    /// # Errors
    /// That takes more work than there is.
    pub fn known(&self, bytes: &[u8], work: &mut Work) -> Result<Option<Finding>, Exhausted> {
        let look = Look { place: Place::Elsewhere, rules: false };
        if self.looks() && !self.exact.is_empty() { self.layer(bytes, 0, look, work) } else { Ok(None) }
    }

    /// Tells what was found and may pass, once the work is done.
    pub fn tell(&self, work: &mut Work) {
        if let Some(warn) = &self.warn {
            work.warned.drain(..).for_each(|finding| warn(finding));
        }
    }

    /// Whether a short text holds anything that is looked for, whatever happens then; one that takes too much work to be
    /// looked through may.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let strict = Self { always: Some(Action::Block), ..self.clone() };
        let look = Look { place: Place::Elsewhere, rules: true };
        !matches!(strict.layer(bytes, 0, look, &mut Work::new(SHORT, SHORT)), Ok(None))
    }

    /// How many bytes the longest form of a known secret has.
    pub fn longest(&self) -> usize {
        self.exact.longest()
    }

    /// What at the end may be the beginning of a known secret.
    pub fn pending(&self, bytes: &[u8]) -> Option<Pending> {
        if self.action(KNOWN_SECRET) == Action::Block { self.exact.pending(bytes) } else { None }
    }

    pub(super) fn action(&self, rule: &str) -> Action {
        self.always.unwrap_or_else(|| self.actions.of(rule))
    }

    fn layer(&self, bytes: &[u8], depth: usize, look: Look<'_>, work: &mut Work) -> Result<Option<Finding>, Exhausted> {
        work.spend(bytes.len())?;
        if let Some(finding) = self.plain(bytes, look, work)? {
            return Ok(Some(finding));
        }
        if depth == MAX_DEPTH {
            return Ok(None);
        }
        inner::inner(bytes, work, &mut |inner, work| self.layer(inner, depth + 1, look, work))
    }

    /// The first refused finding in bytes as they are. The automaton of known secrets knows their encodings by itself.
    fn plain(&self, bytes: &[u8], look: Look<'_>, work: &mut Work) -> Result<Option<Finding>, Exhausted> {
        if self.exact.is_in(bytes)
            && let Some(finding) = self.judge(Finding::known_secret(), work)
        {
            return Ok(Some(finding));
        }
        if !look.rules {
            return Ok(None);
        }
        self.rules.find(bytes, work, &mut |work, rule, token| {
            // A rule may take a little more or less than the secret for the token.
            if self.passing.iter().any(|secret| is_part(secret, token) || is_part(token, secret)) {
                return None;
            }
            if example::is_example(token) || self.is_given(rule, token, look.place) {
                return None;
            }
            let fingerprint = Some(Actions::fingerprint(rule, token));
            self.judge(Finding { rule: rule.to_owned(), fingerprint }, work)
        })
    }

    /// Whether a token goes to whom it is of; never where the user says that it is blocked.
    fn is_given(&self, rule: &str, token: &[u8], place: Place<'_>) -> bool {
        !self.actions.blocks(rule) && self.target.as_ref().is_some_and(|target| target.is_given(rule, token, place))
    }

    /// Gives back what is refused, and notes what is let through.
    fn judge(&self, finding: Finding, work: &mut Work) -> Option<Finding> {
        if finding.fingerprint.as_deref().is_some_and(|print| self.actions.allows(print)) {
            return None;
        }
        match self.action(&finding.rule) {
            Action::Block => return Some(finding),
            Action::Warn => work.warned.push(finding),
            Action::Off => {}
        }
        None
    }
}

/// Whether one is in the other.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}
