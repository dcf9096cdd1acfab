//! The keywords of rules, and where they are in a text. It must not miss one, for a token would leave.
//!
//! Each keyword is known by three consecutive bytes of it, the ones that ordinary text has least. A table tells by the hash of
//! the three bytes at a place whether they may be those of a keyword, and the few places that are left are compared with
//! the keywords themselves. The lookups depend on nothing before them, so that the processor does many at a time, and the
//! table stays in its nearest caches; an automaton waits for its last state at each byte.

use std::collections::BTreeMap;
use std::ops::Range;

use memchr::memmem::Finder;

/// The consecutive bytes of a keyword that are looked for.
const BYTES: usize = 3;
/// How many places are tested together.
const BLOCK: usize = 16;
/// The length of a hash, in bits: few keywords share one, and the table of them stays in the processor's nearest caches.
const BITS: u32 = 15;
/// The factors of the hash: of some thousand, those by which ordinary text has least places that are no keyword's.
const FACTORS: [u16; 2] = [0x19d1, 0x8a0b];
/// Bytes of ordinary text, the most frequent first; those that are absent are rarer.
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybvk0.,/1-x2_:=\"'()";

/// A block, with what is read beyond it.
type Block = [u8; BLOCK + BYTES - 1];
/// The hashes of the even places of a block, and of the odd ones.
type Hashes = [[u16; BLOCK / 2]; 2];

/// A keyword, and the rules that have it.
struct Keyword {
    text: Vec<u8>,
    /// Whether its case counts; otherwise `text` is in lower case.
    cased: bool,
    /// Where its three bytes are.
    offset: usize,
    rules: Vec<usize>,
}

/// Three bytes of a keyword, in one of its spellings.
struct Spelling {
    bytes: [u8; BYTES],
    keyword: usize,
}

/// All keywords.
pub(super) struct Keywords {
    all: Vec<Keyword>,
    longest: usize,
    /// By the hash of three bytes: whether they may be a keyword's.
    may_be: Box<[u8; 1 << BITS]>,
    /// By the hash of three bytes: the first of their spellings; those of the next hash follow.
    first: Box<[u16]>,
    spellings: Vec<Spelling>,
    /// Keywords of fewer than three bytes, in each of their spellings.
    short: Vec<(Finder<'static>, usize)>,
}

impl Keywords {
    /// Reads `(word, rule, whether its case counts)`; words are not empty.
    pub(super) fn new(words: Vec<(String, usize, bool)>) -> Self {
        let mut rules_of: BTreeMap<(Vec<u8>, bool), Vec<usize>> = BTreeMap::new();
        for (word, rule, cased) in words {
            let word = if cased { word } else { word.to_ascii_lowercase() };
            rules_of.entry((word.into_bytes(), cased)).or_default().push(rule);
        }
        let of = |((text, cased), rules): ((Vec<u8>, bool), _)| Keyword { offset: rarest(&text), text, cased, rules };
        let all: Vec<Keyword> = rules_of.into_iter().map(of).collect();
        let (mut spellings, mut short) = (Vec::new(), Vec::new());
        for (index, keyword) in all.iter().enumerate() {
            let looked_for = &keyword.text[keyword.offset..keyword.text.len().min(keyword.offset + BYTES)];
            for spelling in spelled(looked_for, keyword.cased) {
                match spelling.first_chunk() {
                    Some(bytes) => spellings.push(Spelling { bytes: *bytes, keyword: index }),
                    None => short.push((Finder::new(&spelling).into_owned(), index)),
                }
            }
        }
        spellings.sort_unstable_by_key(|spelling| (hash(spelling.bytes), spelling.bytes, spelling.keyword));
        let may_be: Box<[u8]> = vec![0; 1 << BITS].into();
        let mut may_be: Box<[u8; 1 << BITS]> = may_be.try_into().expect("it has that length");
        for spelling in &spellings {
            may_be[hash(spelling.bytes)] = 1;
        }
        let first = (0..=1 << BITS).map(|value| spellings.partition_point(|spelling| hash(spelling.bytes) < value));
        let first = first.map(|index| u16::try_from(index).expect("there are fewer keywords")).collect();
        let longest = all.iter().map(|keyword| keyword.text.len()).max().unwrap_or_default();
        Self { all, longest, may_be, first, spellings, short }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The length of the longest one.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether there are keywords that are looked for one by one.
    #[cfg(test)]
    pub(super) fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Every place of a keyword, also of those within others, and the rules that have it. The places of one keyword are
    /// in their order.
    pub(super) fn places<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a [usize])> {
        let long = self.candidates(bytes).flat_map(move |at| self.at(bytes, at));
        let short = self.short.iter().flat_map(move |(finder, keyword)| {
            let keyword = &self.all[*keyword];
            finder.find_iter(bytes).map(|at| (at..at + keyword.text.len(), keyword.rules.as_slice()))
        });
        long.chain(short)
    }

    /// The keywords whose three bytes are here.
    fn at<'a>(&'a self, bytes: &'a [u8], at: usize) -> impl Iterator<Item = (Range<usize>, &'a [usize])> {
        let here = bytes[at..].first_chunk().copied().unwrap_or_default();
        let value = hash(here);
        let spellings = &self.spellings[usize::from(self.first[value])..usize::from(self.first[value + 1])];
        spellings.iter().filter(move |spelling| spelling.bytes == here).filter_map(move |spelling| {
            let keyword = &self.all[spelling.keyword];
            let start = at.checked_sub(keyword.offset)?;
            let place = start..start + keyword.text.len();
            let text = bytes.get(place.clone())?;
            let same = if keyword.cased { *text == *keyword.text } else { text.eq_ignore_ascii_case(&keyword.text) };
            same.then_some((place, keyword.rules.as_slice()))
        })
    }

    /// Whether the three bytes at some place of a block may be a keyword's.
    #[inline]
    fn any(&self, [even, odd]: &Hashes) -> bool {
        let any = |hashes: &[u16; BLOCK / 2]| hashes.iter().fold(0, |any, &hash| any | self.may_be[usize::from(hash)]);
        any(even) | any(odd) != 0
    }

    /// At which places of a block they may be, as bits.
    fn which(&self, [even, odd]: &Hashes) -> u32 {
        let at = |place: usize| if place.is_multiple_of(2) { even[place / 2] } else { odd[place / 2] };
        (0..BLOCK).fold(0, |all, place| all | u32::from(self.may_be[usize::from(at(place))]) << place)
    }

    /// The places whose three bytes may be a keyword's, in their order.
    fn candidates<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        // The place of the block that is tested next, and the places of the one before it that are left, as bits.
        let (mut next, mut base, mut left) = (0, 0, 0_u32);
        std::iter::from_fn(move || {
            while left == 0 {
                base = next;
                if let Some(block) = bytes[next..].first_chunk() {
                    next += BLOCK;
                    let hashes = hashes(block);
                    if self.any(&hashes) {
                        left = self.which(&hashes);
                    }
                } else {
                    let bytes = bytes[next..].first_chunk()?;
                    next += 1;
                    left = u32::from(self.may_be[hash(*bytes)]);
                }
            }
            let place = base + left.trailing_zeros() as usize;
            left &= left - 1;
            Some(place)
        })
    }
}

/// The hashes of all places of a block. The processor makes eight at a time, of the words at even and at odd places.
#[inline]
fn hashes(block: &Block) -> Hashes {
    let words = |from: usize| -> [u16; BLOCK / 2] {
        let words = block[from..from + BLOCK].as_chunks().0;
        std::array::from_fn(|index| u16::from_le_bytes(words[index]))
    };
    let (even, odd, next) = (words(0), words(1), words(2));
    let of = |first: [u16; BLOCK / 2], second: [u16; BLOCK / 2]| std::array::from_fn(|at| mixed(first[at], second[at]));
    [of(even, odd), of(odd, next)]
}

/// The hash of three bytes.
fn hash([first, second, third]: [u8; BYTES]) -> usize {
    mixed(u16::from_le_bytes([first, second]), u16::from_le_bytes([second, third])).into()
}

/// The hash of three bytes: of the first two, and of the last two.
#[inline]
fn mixed(first: u16, second: u16) -> u16 {
    first.wrapping_mul(FACTORS[0]).wrapping_add(second.wrapping_mul(FACTORS[1])) >> (u16::BITS - BITS)
}

/// Where the three bytes of a word begin that ordinary text has least.
fn rarest(word: &[u8]) -> usize {
    let rank = |byte: &u8| FREQUENT.iter().position(|other| other == byte).unwrap_or(FREQUENT.len());
    let all = word.windows(BYTES).enumerate();
    all.max_by_key(|(_, bytes)| bytes.iter().map(rank).sum::<usize>()).map_or(0, |(offset, _)| offset)
}

/// A text in every case, unless its case counts.
fn spelled(text: &[u8], cased: bool) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    for &byte in text {
        let other = if cased { byte } else { byte.to_ascii_uppercase() };
        let longer = |end: u8| all.iter().map(move |start: &Vec<u8>| [start, &[end][..]].concat());
        all = if other == byte { longer(byte).collect() } else { longer(byte).chain(longer(other)).collect() };
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::rule_file::File;
    use super::super::rules::PROVIDERS;
    use super::*;

    /// Keywords as they are written in rules, with the rule's number and whether their case counts.
    type Words = Vec<(String, usize, bool)>;

    /// The rules and places that are found in a text.
    fn found(keywords: &Keywords, text: &[u8]) -> Vec<(usize, Range<usize>)> {
        let places = keywords.places(text);
        places.flat_map(|(place, rules)| rules.iter().map(move |&rule| (rule, place.clone()))).collect()
    }

    /// Asserts that every place of every word is found, and nothing else, by looking for each of them at each place.
    fn assert_same((keywords, words): &(Keywords, Words), text: &[u8]) {
        let mut expected = Vec::new();
        for (word, rule, cased) in words {
            for (at, here) in text.windows(word.len()).enumerate() {
                if if *cased { here == word.as_bytes() } else { here.eq_ignore_ascii_case(word.as_bytes()) } {
                    expected.push((*rule, at..at + word.len()));
                }
            }
        }
        let mut found = found(keywords, text);
        found.sort_unstable_by_key(|(rule, place)| (*rule, place.start));
        expected.sort_unstable_by_key(|(rule, place)| (*rule, place.start));
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(text));
    }

    fn provider_words() -> Vec<String> {
        let file: File = toml::from_str(PROVIDERS).unwrap();
        file.rules.into_iter().flat_map(|rule| rule.keywords).collect()
    }

    /// The keywords of our rules, and those of a file without `keyword_case`, some of them shorter than three bytes.
    fn keyword_sets() -> Vec<(Keywords, Words)> {
        let words = provider_words();
        let set = |words: Vec<String>, cased| {
            let words: Words = words.into_iter().enumerate().map(|(rule, word)| (word, rule, cased)).collect();
            (Keywords::new(words.clone()), words)
        };
        let more = ["q", "Key", "to", "secret_key", "k.Y", "\u{e4}b"].map(str::to_owned).to_vec();
        vec![set(words.clone(), true), set(words.clone(), false), set([words, more].concat(), false)]
    }

    #[test]
    fn promise_09_every_keyword_is_found_at_every_alignment_and_case() {
        for (keywords, words) in keyword_sets() {
            for (word, rule, cased) in words {
                for spelled in [word.clone(), word.to_ascii_lowercase(), word.to_ascii_uppercase()] {
                    for (before, after) in
                        (0..2 * BLOCK + 2).flat_map(|before| [(before, 0), (before, 1), (before, 80)])
                    {
                        let text = [&vec![b'#'; before][..], spelled.as_bytes(), &vec![b'#'; after]].concat();
                        let is_found = found(&keywords, &text).contains(&(rule, before..before + word.len()));
                        assert_eq!(is_found, !cased || spelled == word, "{:?}", String::from_utf8_lossy(&text));
                    }
                }
            }
        }
        assert_same(&(Keywords::new(Vec::new()), Vec::new()), b"x abc");
    }

    proptest::proptest! {
        #[test]
        fn every_keyword_is_found_in_mixtures(
            parts in proptest::collection::vec((0..400_usize, 0..3_u8, proptest::collection::vec(0..=255_u8, 0..9)), 0..60),
        ) {
            static SETS: LazyLock<Vec<(Keywords, Words)>> = LazyLock::new(keyword_sets);
            static WORDS: LazyLock<Vec<String>> = LazyLock::new(provider_words);
            let (sets, words) = (&*SETS, &*WORDS);
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
