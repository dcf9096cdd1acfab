//! Finds tokens by their format, with rules in gitleaks' TOML format. The keywords that are in a text
//! select the rules to run ([`super::keywords`]); one regex set of all rules would be two hundred times slower.

use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::Regex;

use super::budget::{Budget, Exhausted};
use super::keywords::Keywords;
use super::mnemonic::phrases;
use super::near::{CONTEXT, NESTED, has_escape};
use super::password::is_placeholder;
use super::rule_file::{Allowlist, AllowlistMatcher, Checksum, Direction, File, RuleFinder, compile};
use super::runs::is_of_token;

/// The built-in rules: documented token formats of providers.
pub(super) const PROVIDERS: &str = include_str!("providers.toml");
/// The context that is searched before and after a keyword, and how much of it a token may need, in bytes.
const BEFORE: usize = CONTEXT;
const AFTER: usize = 1024;
const TOKEN: usize = 512;
/// How much longer a token may be that has no gaps, in bytes: those of identity providers have a list of groups in them.
const LONGEST: usize = 16 << 10;
/// How much of a text is searched at first for the whole of a token that is to be masked, in bytes.
const WHOLE: usize = 64 << 10;
/// The cost of running an expression over a window, relative to scanning a byte with every layer.
const WINDOW_COST: usize = 4;

/// Why rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Malformed TOML.
    #[error("read the rules: {0}")]
    Malformed(#[from] toml::de::Error),
    /// A malformed expression.
    #[error("rule {id:?}: {source}")]
    Regex {
        /// The rule's id.
        id: String,
        /// The error in the expression.
        source: regex::Error,
    },
}

struct Rule {
    id: String,
    source: String,
    /// Compiled when one of its keywords is found for the first time: most rules never are.
    regex: OnceLock<Option<Regex>>,
    /// What is at the keyword of each match.
    beginning: Option<Regex>,
    entropy: f64,
    group: Option<usize>,
    checksum: Option<Checksum>,
    /// Whether what only stands for a password is none.
    password: bool,
    /// Whether it applies only where the user names it.
    opt_in: bool,
    allowlists: Vec<AllowlistMatcher>,
}

/// Compiled rules.
pub struct Rules {
    all: Vec<Rule>,
    keywords: Keywords,
    /// Rules without keywords: they always run.
    always: Vec<usize>,
    /// The rule of seed phrases.
    phrases: Option<String>,
}

impl Rules {
    /// The built-in rules, for requests.
    ///
    /// # Errors
    /// Never: a test reads them.
    pub fn providers() -> Result<Self, RulesError> {
        Self::read(&[PROVIDERS], Direction::Request, false)
    }

    /// The built-in rules and those of further files, for one direction.
    ///
    /// # Errors
    /// A file is malformed; the error names the rule.
    pub fn with(files: &[String], direction: Direction) -> Result<Self, RulesError> {
        // Parsed separately, so that every expression is compiled and mistakes are reported at once.
        Self::parse(&files.iter().map(String::as_str).collect::<Vec<_>>())?;
        let all: Vec<&str> = std::iter::once(PROVIDERS).chain(files.iter().map(String::as_str)).collect();
        Self::read(&all, direction, false)
    }

    /// No rules.
    pub fn none() -> Self {
        Self::read(&[], Direction::Request, false).expect("there is nothing to be malformed")
    }

    /// Reads rule files and compiles every rule.
    ///
    /// # Errors
    /// A file is malformed; the error names the rule.
    pub fn parse(files: &[&str]) -> Result<Self, RulesError> {
        Self::read(files, Direction::Request, true)
    }

    fn read(files: &[&str], direction: Direction, precompile: bool) -> Result<Self, RulesError> {
        let (mut all, mut always): (Vec<Rule>, Vec<usize>) = Default::default();
        let (mut words, mut seeds) = (Vec::new(), None);
        for file in files {
            let file: File = toml::from_str(file)?;
            let general: Vec<&Allowlist> = file.allowlist.iter().chain(&file.allowlists).collect();
            for entry in file.rules {
                if entry.finder == Some(RuleFinder::Bip39) {
                    seeds = Some(entry.id);
                    continue;
                }
                // A rule without an expression applies to file names.
                let Some(source) = entry.regex else { continue };
                if entry.direction.is_some_and(|only| only != direction) {
                    continue;
                }
                let malformed = |source| RulesError::Regex { id: entry.id.clone(), source };
                let regex = OnceLock::new();
                if precompile {
                    let _ = regex.set(Some(compile(&source).map_err(malformed)?));
                }
                let beginning = entry.beginning.as_ref().map(|source| compile(&format!("^(?:{source})")));
                let beginning = beginning.transpose().map_err(malformed)?;
                let own = entry.allowlist.iter().chain(&entry.allowlists);
                let general = general.iter().copied();
                let general = general.filter(|it| it.target_rules.is_empty() || it.target_rules.contains(&entry.id));
                let allowlists: Result<Vec<_>, _> = own.chain(general).filter_map(|it| it.read().transpose()).collect();
                let allowlists = allowlists.map_err(malformed)?;
                if entry.keywords.is_empty() || entry.keywords.iter().any(String::is_empty) {
                    always.push(all.len());
                }
                let keywords = entry.keywords.into_iter().filter(|word| !word.is_empty());
                words.extend(keywords.map(|word| (word, all.len(), file.keyword_case)));
                let (id, entropy, group) = (entry.id, entry.entropy.unwrap_or_default(), entry.secret_group);
                let (checksum, password, opt_in) = (entry.checksum, entry.password, entry.default.is_some());
                all.push(Rule { id, source, regex, beginning, entropy, group, checksum, password, opt_in, allowlists });
            }
        }
        Ok(Self { all, keywords: Keywords::new(words), always, phrases: seeds })
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.ids().count()
    }

    /// Whether there is a rule with this id.
    pub fn has(&self, id: &str) -> bool {
        self.ids().any(|other| other == id)
    }

    /// The ids of all rules.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|rule| rule.id.as_str()).chain(self.phrases.as_deref())
    }

    /// Whether a rule applies only where the user's actions name it.
    pub(super) fn is_opt_in(&self, id: &str) -> bool {
        self.all.iter().any(|rule| rule.opt_in && rule.id == id) || self.phrases.as_deref() == Some(id)
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.phrases.is_none()
    }

    /// The rule of seed phrases, which applies only where the user's actions name it.
    pub(super) fn phrases(&self) -> Option<&str> {
        self.phrases.as_deref()
    }

    /// Calls `on_match` with the rule's id and the token of each match, until it returns a value.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn find<T>(
        &self,
        bytes: &[u8],
        budget: &mut Budget,
        on_match: &mut OnText<'_, T>,
    ) -> Result<Option<T>, Exhausted> {
        self.find_tokens(bytes, Extent::default(), budget, &mut |budget, token| {
            on_match(budget, token.rule, token.text)
        })
    }

    /// How much of a text says what is found at one place of it, on both sides; none if all of it may.
    pub(super) fn reach(&self) -> Option<usize> {
        self.always.is_empty().then(|| BEFORE + self.keywords.longest() + AFTER + NESTED)
    }

    /// The same, with the place of each token.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(super) fn find_tokens<T>(
        &self,
        bytes: &[u8],
        Extent { whole_tokens, escapes }: Extent<'_>,
        budget: &mut Budget,
        on_match: &mut OnMatch<'_, T>,
    ) -> Result<Option<T>, Exhausted> {
        for &rule in &self.always {
            let (outcome, _) = self.all[rule].find(bytes, 0..bytes.len(), whole_tokens, budget, on_match)?;
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        if self.keywords.is_empty() {
            return Ok(None);
        }
        // Where each rule has searched: nearby keywords share one window. Most texts have no keyword.
        let (mut searched, mut run) = (Vec::new(), TokenRun::default());
        for (place, rules) in self.keywords.places(bytes) {
            let from = place.start.saturating_sub(BEFORE);
            searched.resize(self.all.len(), 0..0);
            for &rule in rules {
                let needed = run.window_end(bytes, place.end, TOKEN, LONGEST / 2);
                if from >= searched[rule].start && needed <= searched[rule].end {
                    continue;
                }
                let beginning = &self.all[rule].beginning;
                if beginning.as_ref().is_some_and(|beginning| !beginning.is_match(&bytes[place.start..])) {
                    continue;
                }
                let to = run.window_end(bytes, place.end, AFTER, LONGEST);
                if escapes.is_some_and(|escapes| !has_escape(escapes, &(from..to))) {
                    continue;
                }
                budget.spend((to - from) / WINDOW_COST)?;
                let (outcome, end) = self.all[rule].find(bytes, from..to, whole_tokens, budget, on_match)?;
                if outcome.is_some() {
                    return Ok(outcome);
                }
                // A whole token may be longer than the window: it is not searched once more.
                searched[rule] = from..to.max(end);
            }
        }
        Ok(None)
    }

    /// The same for seed phrases.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(super) fn find_phrases<T>(
        &self,
        bytes: &[u8],
        budget: &mut Budget,
        on_match: &mut OnMatch<'_, T>,
    ) -> Result<Option<T>, Exhausted> {
        let Some(rule) = &self.phrases else { return Ok(None) };
        let mut found = phrases(bytes, budget)?.into_iter();
        Ok(found.find_map(|place| on_match(budget, Token { rule, text: &bytes[place.clone()], place })))
    }
}

/// How much of a text is searched.
#[derive(Clone, Copy, Default)]
pub(super) struct Extent<'a> {
    /// Whether a token's place is of the whole token, also where that goes beyond the context of its keyword.
    pub(super) whole_tokens: bool,
    /// Only contexts in which one of these was an escape; all of them if there are none.
    pub(super) escapes: Option<&'a [usize]>,
}

/// A token that a rule has found.
pub(super) struct Token<'a> {
    /// The rule's id.
    pub(super) rule: &'a str,
    /// The token, as far as it is in the context of its keyword.
    pub(super) text: &'a [u8],
    /// Where it is.
    pub(super) place: Range<usize>,
}

/// Called with the id of the rule and the text of each token.
type OnText<'a, T> = dyn FnMut(&mut Budget, &str, &[u8]) -> Option<T> + 'a;
/// Called with each token.
type OnMatch<'a, T> = dyn FnMut(&mut Budget, Token<'_>) -> Option<T> + 'a;

impl Rule {
    /// Searches a window of a text; also returns the end of the last token.
    fn find<T>(
        &self,
        text: &[u8],
        window: Range<usize>,
        whole_tokens: bool,
        budget: &mut Budget,
        on_match: &mut OnMatch<'_, T>,
    ) -> Result<(Option<T>, usize), Exhausted> {
        let mut end = 0;
        let Some(regex) = self.regex.get_or_init(|| compile(&self.source).ok()) else { return Ok((None, end)) };
        let bytes = &text[window.clone()];
        // A test without captures is cheaper.
        if !regex.is_match(bytes) {
            return Ok((None, end));
        }
        for found in regex.captures_iter(bytes) {
            let Some(whole) = found.get(0) else { continue };
            let captured = self.captured(&found).unwrap_or(whole);
            let token = captured.as_bytes();
            let from = memchr::memrchr(b'\n', &bytes[..whole.start()]).map_or(0, |before| before + 1);
            let to = memchr::memchr(b'\n', &bytes[whole.end()..]).map_or(bytes.len(), |after| whole.end() + after);
            let meant = entropy(token) >= self.entropy
                && self.checksum.is_none_or(|checksum| checksum.matches(token))
                && !(self.password && is_placeholder(token))
                && !self
                    .allowlists
                    .iter()
                    .any(|allowlists| allowlists.matches(token, whole.as_bytes(), &bytes[from..to]));
            if !meant {
                continue;
            }
            let mut place = window.start + captured.start()..window.start + captured.end();
            if whole_tokens {
                place.end = place.end.max(self.end_of(regex, text, window.start + whole.start(), budget)?);
                end = end.max(place.end);
            }
            let outcome = on_match(budget, Token { rule: &self.id, text: token, place });
            if outcome.is_some() {
                return Ok((outcome, end));
            }
        }
        Ok((None, end))
    }

    /// The part of a match that is the token.
    fn captured<'a>(&self, found: &regex::bytes::Captures<'a>) -> Option<regex::bytes::Match<'a>> {
        found.get(self.group.or_else(|| (found.len() > 1).then_some(1)).unwrap_or_default())
    }

    /// The end of the token of the match that begins at `start`, however long it is: a window may end within it.
    fn end_of(&self, regex: &Regex, text: &[u8], start: usize, budget: &mut Budget) -> Result<usize, Exhausted> {
        let mut length = WHOLE;
        loop {
            let to = text.len().min(start.saturating_add(length));
            let found = regex.captures_at(&text[..to], start);
            let whole = found.as_ref().and_then(|found| found.get(0)).filter(|whole| whole.start() == start);
            let end = whole.map_or(start, |whole| whole.end());
            budget.spend(end - start)?;
            if to == text.len() || to - end >= TOKEN {
                return Ok(found
                    .filter(|_| whole.is_some())
                    .and_then(|it| self.captured(&it))
                    .map_or(0, |it| it.end()));
            }
            length *= 4;
        }
    }
}

/// The characters of a token without gaps around the last keyword: they are looked at once, however many keywords they have.
#[derive(Default)]
struct TokenRun(Range<usize>);

impl TokenRun {
    /// Where a window of this length behind a keyword ends, in bytes: a token that goes on there, from the keyword without a gap, is in
    /// it as well, as far as `more` bytes.
    fn window_end(&mut self, bytes: &[u8], keyword: usize, length: usize, more: usize) -> usize {
        if !(self.0.start..=self.0.end).contains(&keyword) {
            let rest = bytes[keyword..].iter();
            self.0 = keyword..keyword + rest.take_while(|byte| is_of_token(**byte)).count();
        }
        let end = keyword + length;
        bytes.len().min(end.max(self.0.end.min(end + more)))
    }
}

/// Shannon entropy, in bits per byte.
#[expect(clippy::cast_precision_loss, reason = "lengths of tokens")]
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_usize; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let total = bytes.len() as f64;
    let parts = counts.into_iter().filter(|&count| count > 0).map(|count| count as f64 / total);
    -parts.map(|part| part * part.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_are_many_read_and_each_has_a_keyword() {
        let rules = Rules::parse(&[PROVIDERS]).unwrap();
        assert!(rules.len() >= 120, "{}", rules.len());
        assert!(rules.always.is_empty() && !rules.keywords.has_short());
        let ids: std::collections::BTreeSet<&str> = rules.ids().collect();
        assert_eq!(ids.len(), rules.len(), "ids are not used twice");
    }

    fn find(rules: &Rules, text: &str) -> Option<String> {
        rules.find(text.as_bytes(), &mut Budget::unbounded(), &mut |_, rule, _| Some(rule.to_owned())).unwrap()
    }

    #[test]
    fn promise_09_what_rules_out_a_frequent_keyword_rules_out_no_token() {
        let rules = Rules::parse(&[PROVIDERS]).unwrap();
        let hex = "0123456789abcdef".repeat(4);
        // Assembled here, so that scanners of repositories do not report them.
        let tokens = [
            ("airtable-token", ["pat", "aB3dE6gH9jK2mN", ".", &hex].concat()),
            ("url-password", ["https", "://", "a-user", ":", "Tr0ub4dor-x9!", "@api.example.com/"].concat()),
            ("url-password", ["redis", "://", ":", "Tr0ub4dor-x9!", "@cache.example.com/"].concat()),
            ("aws-access-key", ["AKIA", "QYLPMN5HHHFPZAM2"].concat()),
            ("resend-key", ["re_", "aB3dE6gH", "_", "9jK2mNpQ4rS7tU1vW5xY8zA0"].concat()),
        ];
        for (rule, token) in &tokens {
            for around in
                ["", "path pattern re_try https://example.com/a (re_use) ", "://:::// re_re_re_ patpat AKIA ASIAKIA "]
            {
                let text = format!("{around}{token} {around}");
                assert_eq!(find(&rules, &text).as_deref(), Some(*rule), "{text}");
            }
        }
        // All that have such an expression.
        let begun = rules.all.iter().filter(|rule| rule.beginning.is_some()).map(|rule| rule.id.as_str());
        let tested: Vec<&str> = tokens.iter().map(|(rule, _)| *rule).collect();
        assert!(begun.count() == 4 && rules.all.iter().all(|it| it.beginning.is_none() || tested.contains(&&*it.id)));
    }

    #[test]
    fn promise_09_tokens_without_gaps_are_found_however_long_and_whatever_is_in_front() {
        let rules = Rules::parse(&[PROVIDERS]).unwrap();
        let part = |length: usize| -> String {
            let letters = b"aGVsbG8gd29ybGQKfQ0123456789zyxwvu";
            (0..length).map(|at| char::from(letters[(at * at + at / 7) % letters.len()])).collect()
        };
        let jwt =
            |header: usize, payload: usize| ["eyJ", &part(header), ".eyJ", &part(payload), ".", &part(43)].concat();
        for token in [jwt(30, 300), jwt(200, 740), jwt(30, 2000), jwt(3000, 3000), jwt(30, 15_000)] {
            assert_eq!(find(&rules, &token).as_deref(), Some("jwt"), "{}", token.len());
            for gap in (0..1200).step_by(13) {
                let decoy = format!("eyJ {} {token} behind", "; ".repeat(gap / 2));
                assert_eq!(find(&rules, &decoy).as_deref(), Some("jwt"), "{} {gap}", token.len());
            }
        }
    }

    #[test]
    fn files_of_gitleaks_are_understood_with_their_exceptions() {
        let rules = Rules::parse(&[r##"
            title = "mine"
            [allowlist]
            regexes = ["^acme_EXAMPLE"]
            [[rules]]
            id = "acme"
            description = "a token of ours"
            regex = "(acme_[A-Za-z0-9]{8,})"
            keywords = ["acme_"]
            tags = ["x"]
            [[rules.allowlists]]
            stopwords = ["sample"]
            [[rules.allowlists]]
            regexTarget = "line"
            regexes = ["# public"]
            [[rules.allowlists]]
            condition = "AND"
            paths = ["^docs/"]
            regexes = ["acme_"]
            [[rules]]
            id = "by-name"
            path = "secret.txt"
        "##])
        .unwrap();
        assert_eq!(rules.len(), 1);
        for (text, found) in [
            ("ACME_ and acme_12345678", true),
            ("acme_EXAMPLE1234", false),
            ("acme_SAMPLE123456", false),
            ("x = acme_12345678 # public", false),
            ("x = acme_12345678\n# public", true),
        ] {
            assert_eq!(find(&rules, text).is_some(), found, "{text}");
        }
        let wrong = Rules::with(&["[[rules]]\nid = 'x'\nregex = '('".to_owned()], Direction::Request).err().unwrap();
        assert!(wrong.to_string().starts_with("rule \"x\""), "{wrong}");
    }

    #[test]
    fn a_session_token_is_looked_for_on_its_way_out_only() {
        let jwt = [
            "eyJhbGciOiJIUzI1NiJ9.",
            "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4ifQ",
            ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        ]
        .concat();
        assert!(find(&Rules::with(&[], Direction::Request).unwrap(), &jwt).is_some());
        assert!(find(&Rules::with(&[], Direction::Response).unwrap(), &jwt).is_none());
    }

    #[test]
    fn tokens_are_found_and_their_likes_are_not() {
        let rules = Rules::providers().unwrap();
        // Assembled here, so that repository scanners do not report them.
        let token = |parts: &[&str]| parts.concat();
        for (id, text) in [
            ("aws-access-key", token(&["AKIA", "QYLPMN5HHHFPZAM2"])),
            ("github-token", token(&["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"])),
            (
                "github-fine-grained",
                token(&["github_pat_", &"1aB2c3D4e5".repeat(2), "ab_", &"Zz9Yy8Xx7W".repeat(5), "abcdefghi"]),
            ),
            ("gitlab-token", token(&["glpat-", "x1Yz9-Kq_7Lm3Nop2RsT"])),
            ("slack-bot", token(&["xoxb-", "1234567890123-1234567890123-", "AbCdEfGhIjKlMnOpQrStUvWx"])),
            ("stripe-key", token(&["sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"])),
            ("anthropic-key", token(&["sk-ant-api03-", &"aB3-dE6_gH".repeat(9), "xyzAA"])),
            ("google-api-key", token(&["AIza", "SyD4f7Kq9Lm2Np5Rs8Tu1Vw3Xy6Za0Bc4De"])),
            (
                "private-key",
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAA\n".to_owned(),
            ),
            ("npm-token", token(&["npm_", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6Ea"])),
        ] {
            let text = format!("{{\"key\": \"{text}\"}}");
            assert_eq!(find(&rules, &text).as_deref(), Some(id), "{text}");
        }
        for text in [
            "the ghp_ prefix is followed by 36 characters",
            "AKIAAAAAAAAAAAAAAAAA",
            "sk_live_ and sk-ant- are prefixes",
            "git rev-parse HEAD gives 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
            // An example with a wrong checksum.
            &token(&["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUy"]),
            "-----BEGIN PUBLIC KEY-----",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        ] {
            assert_eq!(find(&rules, text), None, "{text}");
        }
    }
}
