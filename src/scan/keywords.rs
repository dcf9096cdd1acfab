//! The keywords of rules, and where they are in a text: one automaton finds all of them, where the prefilter does not rule
//! them out.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, StartKind};

use super::prefilter::Prefilter;

/// A keyword of a rule.
pub(super) struct Keyword {
    /// The rule, by its index.
    pub(super) rule: usize,
    /// The keyword as written, if it is case-sensitive.
    pub(super) exact: Option<Vec<u8>>,
}

/// All keywords: one automaton finds them in any case, where the prefilter does not rule them out.
pub(super) struct Keywords {
    automaton: DFA,
    /// The keywords of each pattern of the automaton.
    of_pattern: Vec<Vec<Keyword>>,
    prefilter: Prefilter,
}

impl Keywords {
    /// Reads `(word, rule, whether its case counts)`.
    pub(super) fn new(words: Vec<(String, usize, bool)>) -> Result<Self, aho_corasick::BuildError> {
        let prefilter = Prefilter::new(words.iter().map(|(word, _, cased)| (word.as_bytes(), *cased)));
        let mut of_word: BTreeMap<String, Vec<Keyword>> = BTreeMap::new();
        for (word, rule, cased) in words {
            let keyword = Keyword { rule, exact: cased.then(|| word.clone().into_bytes()) };
            of_word.entry(word.to_ascii_lowercase()).or_default().push(keyword);
        }
        let mut builder = DFA::builder();
        builder.ascii_case_insensitive(true).start_kind(StartKind::Unanchored).prefilter(false);
        Ok(Self { automaton: builder.build(of_word.keys())?, of_pattern: of_word.into_values().collect(), prefilter })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.of_pattern.is_empty()
    }

    /// Every place of a keyword, also of those within others: its range, and the keywords that it is one of. The places
    /// are in the order of their ends.
    ///
    /// The states are walked here, which costs a fifth of the crate's own search for overlapping matches.
    pub(super) fn places<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a [Keyword])> {
        let start = self.automaton.start_state(Anchored::No).ok();
        let mut ranges = self.prefilter.ranges(bytes);
        let (mut state, mut rest) = (start, 0..0);
        let at_matches = std::iter::from_fn(move || {
            loop {
                for index in rest.by_ref() {
                    let next = self.automaton.next_state(Anchored::No, state?, bytes[index]);
                    state = Some(next);
                    if self.automaton.is_special(next) && self.automaton.is_match(next) {
                        return Some((index + 1, next));
                    }
                }
                let range = ranges.next()?;
                // A range that does not continue the one before it begins in the middle of nothing.
                if range.start > rest.end {
                    state = start;
                }
                rest = range.start.max(rest.end)..range.end.max(rest.end);
            }
        });
        at_matches.flat_map(move |(end, state)| {
            (0..self.automaton.match_len(state)).map(move |number| {
                let pattern = self.automaton.match_pattern(state, number);
                let start = end - self.automaton.pattern_len(pattern);
                (start..end, self.of_pattern[pattern.as_usize()].as_slice())
            })
        })
    }

    /// The same by the automaton alone.
    #[cfg(test)]
    fn places_without_prefilter<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a [Keyword])> {
        let mut state = self.automaton.start_state(Anchored::No).unwrap();
        bytes.iter().enumerate().flat_map(move |(index, &byte)| {
            state = self.automaton.next_state(Anchored::No, state, byte);
            let (state, end) = (state, index + 1);
            let matches = if self.automaton.is_match(state) { self.automaton.match_len(state) } else { 0 };
            (0..matches).map(move |number| {
                let pattern = self.automaton.match_pattern(state, number);
                let start = end - self.automaton.pattern_len(pattern);
                (start..end, self.of_pattern[pattern.as_usize()].as_slice())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::rule_file::File;
    use super::super::rules::PROVIDERS;
    use super::*;

    type Place = (Range<usize>, *const Keyword);

    fn places(keywords: &Keywords, text: &[u8]) -> [Vec<Place>; 2] {
        let of = |(range, keywords): (Range<usize>, &[Keyword])| (range, keywords.as_ptr());
        [keywords.places(text).map(of).collect(), keywords.places_without_prefilter(text).map(of).collect()]
    }

    /// Whether the place of a keyword whose case counts is another word, which the prefilter may leave out.
    fn counts(keywords: &Keywords, text: &[u8], place: &Place) -> bool {
        let of = keywords.of_pattern.iter().find(|of| of.as_ptr() == place.1).unwrap();
        of.iter().any(|keyword| keyword.exact.as_ref().is_none_or(|word| text[place.0.clone()] == **word))
    }

    /// Asserts that the prefilter changes nothing but places that no rule asks for.
    fn assert_same(keywords: &Keywords, text: &[u8]) {
        let [mut with, mut without] = places(keywords, text);
        with.retain(|place| counts(keywords, text, place));
        without.retain(|place| counts(keywords, text, place));
        assert_eq!(with, without, "{:?}", String::from_utf8_lossy(text));
    }

    fn provider_words() -> Vec<String> {
        let file: File = toml::from_str(PROVIDERS).unwrap();
        file.rules.into_iter().flat_map(|rule| rule.keywords).collect()
    }

    /// The keywords of our rules, and those of a file without `keyword_case`, some of them shorter than three bytes.
    fn keyword_sets() -> Vec<Keywords> {
        let words = provider_words();
        let set = |words: Vec<String>, cased| {
            Keywords::new(words.into_iter().enumerate().map(|(rule, word)| (word, rule, cased)).collect()).unwrap()
        };
        let more = ["q", "Key", "to", "secret_key", "k.Y", "\u{e4}b"].map(str::to_owned).to_vec();
        vec![set(words.clone(), true), set(words.clone(), false), set([words, more].concat(), false)]
    }

    #[test]
    fn promise_09_the_prefilter_passes_every_keyword_at_every_alignment_and_case() {
        let words = provider_words();
        for keywords in keyword_sets() {
            for word in &words {
                for word in [word.clone(), word.to_lowercase(), word.to_uppercase()] {
                    for (before, after) in (0..72).flat_map(|before| [(before, 0), (before, 1), (before, 80)]) {
                        let text = [&vec![b'#'; before][..], word.as_bytes(), &vec![b'#'; after]].concat();
                        assert_same(&keywords, &text);
                    }
                }
            }
        }
        let empty = Keywords::new(vec![(String::new(), 0, false), ("abc".to_owned(), 1, true)]).unwrap();
        assert_same(&empty, b"x abc");
        assert_same(&Keywords::new(Vec::new()).unwrap(), b"x abc");
    }

    proptest::proptest! {
        #[test]
        fn the_prefilter_changes_no_place_in_mixtures(
            parts in proptest::collection::vec((0..400_usize, 0..3_u8, proptest::collection::vec(0..=255_u8, 0..9)), 0..60),
        ) {
            static SETS: LazyLock<(Vec<Keywords>, Vec<String>)> = LazyLock::new(|| (keyword_sets(), provider_words()));
            let (sets, words) = &*SETS;
            let mut text = Vec::new();
            for (number, case, noise) in parts {
                if let Some(word) = words.get(number) {
                    let word = match case { 0 => word.clone(), 1 => word.to_uppercase(), _ => word[..word.len() / 2].to_owned() };
                    text.extend_from_slice(word.as_bytes());
                }
                text.extend_from_slice(&noise);
            }
            for keywords in sets {
                assert_same(keywords, &text);
            }
        }
    }
}
