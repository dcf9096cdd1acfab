//! Looks for secrets in a text and in the texts that are encoded in it.

use std::sync::Arc;

use super::action::{Action, Actions, KNOWN_SECRET};
use super::budget::{Budget, Exhausted};
use super::exact::{ExactMatcher, PartialMatch};
use super::finding::Finding;
use super::owner::{Location, RequestTarget};
use super::rules::Rules;
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
    pub(super) exact: Arc<ExactMatcher>,
    pub(super) rules: Arc<Rules>,
    pub(super) actions: Arc<Actions>,
    /// What happens whatever the finding.
    action_override: Option<Action>,
    warn: Option<Warn>,
    /// Secrets that are for the host that is asked.
    exempt: Arc<Vec<Vec<u8>>>,
    /// The destination, where it may be given the tokens that are its own.
    target: Option<Arc<RequestTarget>>,
}

/// How a text is looked at.
#[derive(Clone, Copy)]
struct ScanContext<'a> {
    /// Where it stands.
    location: Location<'a>,
    /// Whether for tokens by their format, too, and not for known secrets alone.
    rules: bool,
}

impl Scanner {
    /// Looks for these secrets, and for what these rules describe.
    pub fn new(secrets: &[String], rules: Arc<Rules>, actions: Arc<Actions>) -> Self {
        let (exact, exempt) = (Arc::new(ExactMatcher::new(secrets)), Arc::default());
        Self { exact, rules, actions, action_override: None, warn: None, exempt, target: None }
    }

    /// The same for other secrets. Those that are `exempt` are let through, whichever rule would find them.
    #[must_use]
    pub fn with_secrets(&self, secrets: &[String], exempt: &[String]) -> Self {
        let exempt = exempt.iter().map(|secret| secret.clone().into_bytes()).collect();
        Self { exact: Arc::new(ExactMatcher::new(secrets)), exempt: Arc::new(exempt), ..self.clone() }
    }

    /// The same for one request: what happens whatever the finding, if that is said, and who is told of what is let
    /// through.
    #[must_use]
    pub fn for_request(&self, action_override: Option<Action>, warn: Warn) -> Self {
        Self { action_override, warn: Some(warn), ..self.clone() }
    }

    /// The same for a request to a destination that may be given what is its own.
    #[must_use]
    pub fn for_target(&self, target: RequestTarget) -> Self {
        Self { target: Some(Arc::new(target)), ..self.clone() }
    }

    /// Whether anybody looks at all.
    pub fn is_enabled(&self) -> bool {
        self.action_override != Some(Action::Off)
    }

    /// The first finding that is refused in a body that is whole, without a bound of work; see [`Self::context`].
    pub fn scan_unbounded(&self, bytes: &[u8]) -> Option<Finding> {
        let mut budget = Budget::unbounded();
        let found = self.scan(bytes, &mut budget).ok().flatten();
        self.report_warnings(&mut budget);
        found
    }

    /// The first finding that is refused in a text that is whole: as it is, and with its escapes and encodings taken off.
    ///
    /// # Errors
    /// That takes more work than there is.
    pub fn scan(&self, bytes: &[u8], budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        self.scan_at(Location::Body, bytes, budget)
    }

    /// The same in a text that stands elsewhere.
    pub(super) fn scan_at(
        &self,
        location: Location<'_>,
        bytes: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        if self.is_enabled() {
            self.scan_layer(bytes, 0, ScanContext { location, rules: true }, budget)
        } else {
            Ok(None)
        }
    }

    /// The same for known secrets alone: in what was put together out of pieces, where formats would be found that nobody wrote.
    ///
    /// # Errors
    /// That takes more work than there is.
    pub fn scan_known(&self, bytes: &[u8], budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        let context = ScanContext { location: Location::Other, rules: false };
        if self.is_enabled() && !self.exact.is_empty() { self.scan_layer(bytes, 0, context, budget) } else { Ok(None) }
    }

    /// Tells what was found and may pass, once the work is done.
    pub fn report_warnings(&self, budget: &mut Budget) {
        if let Some(warn) = &self.warn {
            budget.warnings.drain(..).for_each(|finding| warn(finding));
        }
    }

    /// Whether a short text holds anything that is looked for, whatever happens then; one that takes too much work to be
    /// looked through may.
    pub fn contains_secret(&self, bytes: &[u8]) -> bool {
        let strict = Self { action_override: Some(Action::Block), ..self.clone() };
        let context = ScanContext { location: Location::Other, rules: true };
        !matches!(strict.scan_layer(bytes, 0, context, &mut Budget::new(SHORT, SHORT)), Ok(None))
    }

    /// How many bytes the longest form of a known secret has.
    pub fn longest_form(&self) -> usize {
        self.exact.longest_form()
    }

    /// What at the end may be the beginning of a known secret.
    pub fn partial_match(&self, bytes: &[u8]) -> Option<PartialMatch> {
        if self.action(KNOWN_SECRET) == Action::Block { self.exact.partial_match(bytes) } else { None }
    }

    pub(super) fn action(&self, rule: &str) -> Action {
        self.action_override.unwrap_or_else(|| self.actions.of(rule))
    }

    fn scan_layer(
        &self,
        bytes: &[u8],
        depth: usize,
        context: ScanContext<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        budget.spend(bytes.len())?;
        if let Some(finding) = self.scan_plain(bytes, context, budget)? {
            return Ok(Some(finding));
        }
        if depth == MAX_DEPTH {
            return Ok(None);
        }
        inner::inner(bytes, budget, &mut |inner, budget| self.scan_layer(inner, depth + 1, context, budget))
    }

    /// The first refused finding in bytes as they are. The automaton of known secrets knows their encodings by itself.
    fn scan_plain(
        &self,
        bytes: &[u8],
        context: ScanContext<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        if self.exact.matches(bytes)
            && let Some(finding) = self.apply_action(Finding::known_secret(), budget)
        {
            return Ok(Some(finding));
        }
        if !context.rules {
            return Ok(None);
        }
        self.rules.find(bytes, budget, &mut |budget, rule, token| {
            // A rule may take a little more or less than the secret for the token.
            if self.exempt.iter().any(|secret| is_part(secret, token) || is_part(token, secret)) {
                return None;
            }
            if example::is_example(token) || self.is_own_token(rule, token, context.location) {
                return None;
            }
            let fingerprint = Some(Actions::fingerprint(rule, token));
            self.apply_action(Finding { rule: rule.to_owned(), fingerprint }, budget)
        })
    }

    /// Whether a token goes to whom it is of; never where the user says that it is blocked.
    fn is_own_token(&self, rule: &str, token: &[u8], location: Location<'_>) -> bool {
        !self.actions.blocks(rule)
            && self.target.as_ref().is_some_and(|target| target.is_own_token(rule, token, location))
    }

    /// Gives back what is refused, and notes what is let through.
    fn apply_action(&self, finding: Finding, budget: &mut Budget) -> Option<Finding> {
        if finding.fingerprint.as_deref().is_some_and(|print| self.actions.allows(print)) {
            return None;
        }
        match self.action(&finding.rule) {
            Action::Block => return Some(finding),
            Action::Warn => budget.warnings.push(finding),
            Action::Off => {}
        }
        None
    }
}

/// Whether one is in the other.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}
