//! The scanner: searches a text, and the texts that are encoded in it.
//!
//! Known secrets come first: neither a rule's exceptions nor a token's owner can exempt one.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::action::{Action, Actions, KNOWN_SECRET};
use super::budget::{Budget, Exhausted};
use super::carrier::Carrier;
use super::encoding::DecodeError;
use super::exact::{ExactMatcher, PartialMatch};
use super::finding::{Finding, Passed};
use super::inner::{Inner, MAX_DEPTH, MAX_ESCAPES};
use super::mask::{Layer, overwrite};
use super::owner::{Location, RequestTarget};
use super::places::Places;
use super::rules::{Extent, Rules, Token};
use super::{example, inner};

/// The rule of placeholders of the bottle's credentials, which pass.
pub const PLACEHOLDER: &str = "placeholder";

/// The cost of a place of a known secret, in bytes.
const PLACE_COST: usize = 256;
/// The budget for a short text, in bytes.
const SHORT: u64 = 1 << 20;

/// Called with each finding that is let through or masked.
pub type Warn = Arc<dyn Fn(Passed) + Send + Sync>;

/// What a text that may be masked holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing that stops it.
    Clean,
    /// The masked text, which is to be scanned again, and how often each finding was masked.
    Masked(Vec<u8>, Vec<(Finding, u64)>),
    /// A finding that is blocked; `true` if it would be masked, and cannot be here.
    Blocked(Finding, bool),
}

/// Secrets, rules and actions. Clones share them.
#[derive(Clone)]
pub struct Scanner {
    pub(super) exact: Arc<ExactMatcher>,
    pub(super) rules: Arc<Rules>,
    pub(super) actions: Arc<Actions>,
    /// Applies to every finding, whatever its rule.
    action_override: Option<Action>,
    warn: Option<Warn>,
    /// Secrets that may be sent to this host.
    exempt: Arc<Vec<Vec<u8>>>,
    /// Placeholders of the bottle's credentials. They look like tokens, and are none.
    placeholders: Arc<Vec<Finder<'static>>>,
    /// The destination, if its own tokens may be sent there.
    target: Option<Arc<RequestTarget>>,
}

/// How deep a text is in others. What is deeper than is looked at does not pass.
#[derive(Clone, Copy, Default)]
struct Depth {
    encodings: usize,
    escapes: usize,
}

impl Depth {
    fn below(self, kind: Inner<'_>) -> Result<Self, Exhausted> {
        let deeper = match kind {
            Inner::Encoded => Self { encodings: self.encodings + 1, ..self },
            Inner::Escaped(_) | Inner::Wrapped => Self { escapes: self.escapes + 1, ..self },
        };
        let fits = deeper.encodings <= MAX_DEPTH && deeper.escapes <= MAX_ESCAPES;
        if fits { Ok(deeper) } else { Err(Exhausted) }
    }
}

/// How a text is scanned.
#[derive(Clone, Copy)]
struct ScanContext<'a> {
    /// The location of the text in the request.
    location: Location<'a>,
    /// Whether rules apply, or known secrets alone.
    rules: bool,
    /// How the text stands in the one that leaves, if findings in it can be masked.
    layer: Option<Layer<'a>>,
    /// How much around its escapes is looked at once more without them, if that is not all of it.
    reach: Option<usize>,
    /// Where what were escapes is in a text that is not whole: rules look around those.
    escapes: Option<&'a [usize]>,
}

impl Scanner {
    /// Searches for these secrets, and with these rules.
    pub fn new(secrets: &[String], rules: Arc<Rules>, actions: Arc<Actions>) -> Self {
        let (exact, exempt) = (Arc::new(ExactMatcher::new(secrets)), Arc::default());
        let placeholders = Arc::default();
        Self { exact, rules, actions, action_override: None, warn: None, exempt, placeholders, target: None }
    }

    /// The same scanner for other secrets. The `exempt` ones are let through, whichever rule finds them.
    #[must_use]
    pub fn with_secrets(&self, secrets: &[String], exempt: &[String]) -> Self {
        let exempt = exempt.iter().map(|secret| secret.clone().into_bytes()).collect();
        Self { exact: Arc::new(ExactMatcher::new(secrets)), exempt: Arc::new(exempt), ..self.clone() }
    }

    /// The same scanner for a bottle with these placeholders: rules do not see them.
    #[must_use]
    pub fn with_placeholders<'a>(&self, placeholders: impl Iterator<Item = &'a str>) -> Self {
        let finders = placeholders.map(|text| Finder::new(text.as_bytes()).into_owned());
        Self { placeholders: Arc::new(finders.collect()), ..self.clone() }
    }

    /// The same scanner, which lets a token through that the destination has handed out.
    #[must_use]
    pub fn exempting(&self, token: &str) -> Self {
        let exempt = self.exempt.iter().cloned().chain([token.to_owned().into_bytes()]).collect();
        Self { exempt: Arc::new(exempt), ..self.clone() }
    }

    /// The scanner for one request. `action_override`, if set, applies to every finding; `warn` receives the findings
    /// that are let through.
    #[must_use]
    pub fn for_request(&self, action_override: Option<Action>, warn: Warn) -> Self {
        Self { action_override, warn: Some(warn), ..self.clone() }
    }

    /// The scanner for a request to a destination that may receive its own tokens.
    #[must_use]
    pub fn for_target(&self, target: RequestTarget) -> Self {
        Self { target: Some(Arc::new(target)), ..self.clone() }
    }

    /// The scanner for a body that says with which of AWS' keys it is signed.
    #[must_use]
    pub fn for_signer(&self, id: &[u8]) -> Self {
        let target = self.target.as_ref().map(|target| Arc::new(target.signed_with(id)));
        Self { target, ..self.clone() }
    }

    /// Whether scanning is enabled.
    pub fn is_enabled(&self) -> bool {
        self.action_override != Some(Action::Off)
    }

    /// Scans a complete text without a limit of work; see [`Self::scan`].
    pub fn scan_unbounded(&self, bytes: &[u8]) -> Option<Finding> {
        let mut budget = Budget::unbounded();
        let found = self.scan(bytes, &mut budget).ok().flatten();
        self.report_warnings(&mut budget);
        found
    }

    /// The first blocked finding in a complete text: as it is, and with its escapes and encodings removed.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan(&self, bytes: &[u8], budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        self.scan_at(Location::Body, bytes, budget)
    }

    /// The same for a text at a location.
    pub(super) fn scan_at(
        &self,
        location: Location<'_>,
        bytes: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        if self.is_enabled() {
            let layer = budget.masks.is_some().then_some(Layer::Whole);
            // What masks searches whole texts, because what it finds has a place in them.
            let reach = if layer.is_none() { self.reach() } else { None };
            let context = ScanContext { location, rules: true, layer, reach, escapes: None };
            self.scan_layer(bytes, Depth::default(), context, budget)
        } else {
            Ok(None)
        }
    }

    /// Searches for known secrets only: for concatenated texts, in which rules would find tokens that nobody wrote.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan_known(&self, bytes: &[u8], budget: &mut Budget) -> Result<Option<Finding>, Exhausted> {
        let reach = Some(self.exact.reach());
        let context = ScanContext { location: Location::Other, rules: false, layer: None, reach, escapes: None };
        if self.is_enabled() && !self.exact.is_empty() {
            self.scan_layer(bytes, Depth::default(), context, budget)
        } else {
            Ok(None)
        }
    }

    /// Scans a complete text in which findings may be masked. A text without findings is scanned as by [`Self::scan`].
    ///
    /// # Errors
    /// The budget is exhausted, or the text is not what its carrier says.
    pub fn look(&self, bytes: &[u8], carrier: Carrier<'_>, budget: &mut Budget) -> Result<Look, DecodeError> {
        self.look_at(bytes, bytes, carrier, budget)
    }

    /// The same for a reading of the text with another byte in some places.
    pub(super) fn look_at(
        &self,
        reading: &[u8],
        bytes: &[u8],
        carrier: Carrier<'_>,
        budget: &mut Budget,
    ) -> Result<Look, DecodeError> {
        if !self.masks() {
            return Ok(self.scan(reading, budget)?.map_or(Look::Clean, |finding| Look::Blocked(finding, false)));
        }
        budget.masks = Some(Places::default());
        let found = self.scan(reading, budget);
        let Places { mut found, nowhere, .. } = match (budget.masks.take(), found?) {
            (_, Some(finding)) => return Ok(Look::Blocked(finding, false)),
            (masks, None) => masks.unwrap_or_default(),
        };
        found.sort_by_key(|(place, _)| place.start);
        let places: Vec<_> = found.iter().map(|(place, _)| place.clone()).collect();
        let allowed = if found.is_empty() { Vec::new() } else { carrier.allows(bytes, &places, budget)? };
        // None of them is masked then: what one of them leaves might be a part of another.
        if let Some(place) = allowed.iter().position(|allowed| !allowed) {
            return Ok(Look::Blocked(found.swap_remove(place).1, true));
        }
        if found.is_empty() {
            // What has no place may be another reading of something that was masked: it counts if nothing is left to mask.
            return Ok(nowhere.map_or(Look::Clean, |finding| Look::Blocked(finding, true)));
        }
        let mut masked = bytes.to_vec();
        let counts = overwrite(&mut masked, found);
        Ok(Look::Masked(masked, counts))
    }

    /// Whether findings are masked, by some rule.
    pub fn masks(&self) -> bool {
        self.action_override.map_or_else(|| self.actions.masks(), |action| action == Action::Mask)
    }

    /// Whether a finding that is blocked at some place would be masked in plain text.
    pub fn would_mask(&self, finding: &Finding) -> bool {
        self.action(&finding.rule) == Action::Mask
    }

    /// Reports the findings that are let through, when the scan is complete.
    pub fn report_warnings(&self, budget: &mut Budget) {
        if let Some(warn) = &self.warn {
            budget.warnings.drain(..).for_each(|finding| warn(Passed::Warned(finding)));
        }
    }

    /// Reports what was masked in a text, with the number of its places.
    pub fn report_masked(&self, masked: impl IntoIterator<Item = (Finding, u64)>) {
        if let Some(warn) = &self.warn {
            masked.into_iter().for_each(|(finding, count)| warn(Passed::Masked(finding, count)));
        }
    }

    /// Whether a short text contains anything that is searched for, whatever the action. A text that exhausts the
    /// budget counts as one that does.
    pub fn contains_secret(&self, bytes: &[u8]) -> bool {
        let strict = Self { action_override: Some(Action::Block), ..self.clone() };
        let context = ScanContext { location: Location::Other, rules: true, layer: None, reach: None, escapes: None };
        !matches!(strict.scan_layer(bytes, Depth::default(), context, &mut Budget::new(SHORT, SHORT)), Ok(None))
    }

    /// The length of the longest form of a known secret, in bytes.
    pub fn longest_form(&self) -> usize {
        self.exact.longest_form()
    }

    /// The prefix of a known secret at the end of the text.
    pub fn partial_match(&self, bytes: &[u8]) -> Option<PartialMatch> {
        if self.action(KNOWN_SECRET) >= Action::Mask { self.exact.partial_match(bytes) } else { None }
    }

    pub(super) fn action(&self, rule: &str) -> Action {
        match self.action_override {
            _ if !self.actions.names(rule) && self.rules.is_opt_in(rule) => Action::Off,
            None => self.actions.of(rule),
            // Softer than `block`: what the user says of a single rule holds.
            Some(Action::Mask) => self.actions.masking(rule),
            Some(action) => action,
        }
    }

    /// What a text has, with so much around its escapes looked at once more, by rules or for known secrets alone.
    #[cfg(test)]
    pub(super) fn found(&self, bytes: &[u8], rules: bool, reach: Option<usize>) -> Option<Finding> {
        let context = ScanContext { location: Location::Other, rules, layer: None, reach, escapes: None };
        self.scan_layer(bytes, Depth::default(), context, &mut Budget::unbounded()).expect("it has no limit")
    }

    /// How much around its escapes shows all that the whole text would; none if nothing less does.
    pub(super) fn reach(&self) -> Option<usize> {
        let known = self.exact.reach();
        if !self.rules_apply() {
            return Some(known);
        }
        // What is around a placeholder is looked at as if that were not there.
        let placeholder = self.placeholders.iter().map(|finder| finder.needle().len()).max().unwrap_or_default();
        let rules = self.rules.reach().filter(|_| !self.phrases_apply())?;
        Some(known.max(rules + placeholder))
    }

    fn scan_layer(
        &self,
        bytes: &[u8],
        depth: Depth,
        context: ScanContext<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        budget.spend(bytes.len())?;
        if let Some(finding) = self.scan_plain(bytes, context, budget)? {
            return Ok(Some(finding));
        }
        let outer = context.layer;
        inner::inner(bytes, context.reach, budget, &mut |inner, kind, budget| {
            let layer = match (kind, &outer) {
                (Inner::Escaped(_), Some(outer)) => Some(Layer::Escaped(bytes, outer)),
                (Inner::Wrapped, Some(outer)) => Some(Layer::Wrapped(bytes, outer)),
                _ => None,
            };
            let escapes = if let Inner::Escaped(escapes) = kind { escapes } else { None };
            self.scan_layer(inner, depth.below(kind)?, ScanContext { layer, escapes, ..context }, budget)
        })
    }

    /// The first blocked finding in the bytes as they are. The matcher for known secrets knows their encodings.
    fn scan_plain(
        &self,
        bytes: &[u8],
        context: ScanContext<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        if self.exact.matches(bytes) {
            if context.layer.is_some() && self.action(KNOWN_SECRET) == Action::Mask {
                self.mask_known(bytes, budget)?;
            } else if let Some(finding) = self.apply_action(Finding::known_secret(), budget) {
                return Ok(Some(finding));
            }
        }
        let found = if context.rules { self.apply_rules(bytes, context, budget)? } else { None };
        if let Some(layer) = context.layer
            && let Some(mut masks) = budget.masks.take()
        {
            masks.settle(bytes, layer, budget)?;
            budget.masks = Some(masks);
        }
        Ok(found)
    }

    /// Notes the places of known secrets, to be masked.
    fn mask_known(&self, bytes: &[u8], budget: &mut Budget) -> Result<(), Exhausted> {
        for (place, plain) in self.exact.places(bytes) {
            budget.spend(PLACE_COST)?;
            let Some(masks) = &mut budget.masks else { return Ok(()) };
            if plain {
                masks.push_known(place)?;
            } else {
                masks.nowhere.get_or_insert_with(Finding::known_secret);
            }
        }
        Ok(())
    }

    /// The first token that is blocked.
    fn apply_rules(
        &self,
        bytes: &[u8],
        context: ScanContext<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        // What is around a placeholder is looked at as if it were not there.
        let blanked = self.blanked(bytes);
        if blanked.is_some() {
            budget.spend(bytes.len())?;
        }
        if blanked.is_some() && context.location == Location::Body {
            budget.warnings.push(Finding { rule: PLACEHOLDER.to_owned(), fingerprint: None });
        }
        if !self.rules_apply() {
            return Ok(None);
        }
        let whole = context.layer.is_some();
        let mut exhausted = None;
        let mut on_match = |budget: &mut Budget, found: Token<'_>| {
            let Token { rule, text: token, place } = found;
            // A text may end within a placeholder.
            if self.placeholders.iter().any(|finder| is_part(token, finder.needle())) {
                return None;
            }
            // A rule may match a little more or less than the secret.
            if self.exempt.iter().any(|secret| is_part(secret, token) || is_part(token, secret)) {
                return None;
            }
            if example::is_example(token) || self.is_own_token(rule, token, context.location) {
                return None;
            }
            let finding = Finding { rule: rule.to_owned(), fingerprint: Some(Actions::fingerprint(rule, token)) };
            if let (true, Some(masks)) = (whole && self.masks_finding(&finding), &mut budget.masks) {
                exhausted = masks.push_token(bytes, place, finding.clone()).err();
                return exhausted.map(|_| finding);
            }
            self.apply_action(finding, budget)
        };
        let text = blanked.as_deref().unwrap_or(bytes);
        let mut found = self.rules.find_tokens(
            text,
            Extent { whole_tokens: whole, escapes: context.escapes },
            budget,
            &mut on_match,
        )?;
        // It has no keyword, and costs nothing unless the user wants it.
        if found.is_none() && self.phrases_apply() {
            found = self.rules.find_phrases(text, budget, &mut on_match)?;
        }
        exhausted.map_or(Ok(found), Err)
    }

    /// Whether something that a rule finds would be blocked, masked or reported.
    fn rules_apply(&self) -> bool {
        !self.rules.is_empty() && (self.action_override.is_some() || self.actions.any_rule_acts())
    }

    /// Whether seed phrases are searched for.
    fn phrases_apply(&self) -> bool {
        self.rules.phrases().is_some_and(|rule| self.actions.names(rule) && self.action(rule) != Action::Off)
    }

    /// Whether a finding is masked: neither let through nor blocked.
    fn masks_finding(&self, finding: &Finding) -> bool {
        let allowed = finding.fingerprint.as_deref().is_some_and(|print| self.actions.allows(print));
        !allowed && self.would_mask(finding)
    }

    /// The text with spaces for placeholders; `None` if there is none in it.
    fn blanked(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut blanked = None;
        for finder in self.placeholders.iter() {
            for at in finder.find_iter(bytes) {
                let text: &mut Vec<u8> = blanked.get_or_insert_with(|| bytes.to_vec());
                text[at..at + finder.needle().len()].fill(b' ');
            }
        }
        blanked
    }

    /// Whether a token is sent to its owner; never if the user blocks the rule.
    fn is_own_token(&self, rule: &str, token: &[u8], location: Location<'_>) -> bool {
        !self.actions.blocks(rule)
            && self.target.as_ref().is_some_and(|target| target.is_own_token(rule, token, location))
    }

    /// Returns a finding that is blocked; records one that is reported.
    fn apply_action(&self, finding: Finding, budget: &mut Budget) -> Option<Finding> {
        if finding.fingerprint.as_deref().is_some_and(|print| self.actions.allows(print)) {
            return None;
        }
        match self.action(&finding.rule) {
            Action::Block => return Some(finding),
            // In a text that may be masked, but at no place in it: the rest of it is looked at as well.
            Action::Mask => match &mut budget.masks {
                Some(masks) => drop(masks.nowhere.get_or_insert(finding)),
                None => return Some(finding),
            },
            Action::Warn => budget.warnings.push(finding),
            Action::Off => {}
        }
        None
    }
}

/// Whether `part` is contained in `whole`.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    memchr::memmem::find(whole, part).is_some()
}
