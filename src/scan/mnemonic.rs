//! Seed phrases of wallets (BIP-39, "Generating the mnemonic"): 12, 15, 18, 21 or 24 words of the English list, whose last bits
//! are the first ones of the SHA-256 of all others.
//!
//! A phrase has no mark that a keyword could be. Ordinary text has no twelve words of the list in a row: it has "the" and
//! "of", which are none. Where it has, as in lists of words, the checksum of four to eight bits rules most out, and so does the
//! order of the alphabet.

use std::ops::Range;
use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::budget::{Budget, Exhausted};

/// The words in the order of their numbers. From the package `mnemonic` of BIP-39's authors (MIT); a test checks the hash of it.
const LIST: &str = include_str!("bip39_english.txt");
/// Lengths of phrases, in words.
const LENGTHS: [usize; 5] = [24, 21, 18, 15, 12];
const SHORTEST: usize = LENGTHS[4];
/// Lengths of words, in letters.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=8;
/// The bits of the hash of a word's beginning.
const HASH: u32 = 15;
/// The bits of a word.
const BITS: usize = 11;
/// The cost of testing whether phrases begin at a word, in bytes that are scanned.
const ROW_COST: usize = 128;
/// What may stand between two words.
const BETWEEN: [&[u8]; 6] = [b" ", b"\n", b"\r\n", b",", b", ", b",\n"];

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| LIST.split_ascii_whitespace().collect());

/// By a hash of the first four letters of a word, which are no others of the list: whether the list may have it.
static BEGINNINGS: LazyLock<[bool; 1 << HASH]> = LazyLock::new(|| {
    let mut all = [false; 1 << HASH];
    WORDS.iter().for_each(|word| all[beginning(word.as_bytes())] = true);
    all
});

/// The phrases in a text. None overlaps another one.
///
/// # Errors
/// The budget is exhausted.
pub(super) fn phrases(bytes: &[u8], budget: &mut Budget) -> Result<Vec<Range<usize>>, Exhausted> {
    let (mut found, mut row, mut at): (_, Vec<(Range<usize>, u16)>, _) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let place = at..at + length;
        match number(&bytes[place.clone()]) {
            Some(number) => {
                if row.last().is_some_and(|(last, _)| !BETWEEN.contains(&&bytes[last.end..place.start])) {
                    of_row(&mut row, &mut found, budget)?;
                }
                row.push((place, number));
            }
            None if length > 0 => of_row(&mut row, &mut found, budget)?,
            None => {}
        }
        at += length.max(1);
    }
    of_row(&mut row, &mut found, budget)?;
    Ok(found)
}

/// The phrases in consecutive words.
fn of_row(
    row: &mut Vec<(Range<usize>, u16)>,
    found: &mut Vec<Range<usize>>,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    let mut from = 0;
    while from + SHORTEST <= row.len() {
        budget.spend(ROW_COST)?;
        let rest = &row[from..];
        let length = LENGTHS.into_iter().find(|&length| rest.get(..length).is_some_and(is_phrase));
        if let Some(length) = length {
            found.push(rest[0].0.start..rest[length - 1].0.end);
        }
        from += length.unwrap_or(1);
    }
    row.clear();
    Ok(())
}

fn is_phrase(words: &[(Range<usize>, u16)]) -> bool {
    // The list itself, and others that are sorted.
    if words.is_sorted_by(|(_, one), (_, next)| one < next) {
        return false;
    }
    let bits = words.len() * BITS;
    let bit = |at: usize| words[at / BITS].1 >> (BITS - 1 - at % BITS) & 1 == 1;
    // One bit of the checksum for each thirty-two others.
    let checked = bits - bits / 33;
    let byte = |at: usize| (8 * at..8 * at + 8).fold(0, |byte, at| byte << 1 | u8::from(bit(at)));
    let hash = Sha256::digest((0..checked / 8).map(byte).collect::<Vec<u8>>());
    (checked..bits).enumerate().all(|(index, at)| (hash[0] >> (7 - index) & 1 == 1) == bit(at))
}

/// The number of a word of the list, in either case.
fn number(word: &[u8]) -> Option<u16> {
    if !LETTERS.contains(&word.len()) || !BEGINNINGS[beginning(word)] {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let number = WORDS.binary_search_by(|other| other.as_bytes().cmp(&word)).ok()?;
    u16::try_from(number).ok()
}

/// A hash of the first letters of a word, in either case.
fn beginning(word: &[u8]) -> usize {
    let letters = word.iter().take(4).fold(0, |all: u32, letter| all << 5 | u32::from(letter & 31));
    (letters.wrapping_mul(0x9E37_79B1) >> (u32::BITS - HASH)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_standard() {
        let text: String = WORDS.iter().flat_map(|word| [word, "\n"]).collect();
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
        assert_eq!(hash, "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
        assert!(
            WORDS.len() == 1 << BITS && WORDS.is_sorted() && WORDS.iter().all(|word| LETTERS.contains(&word.len()))
        );
    }

    /// The phrase for some entropy, as BIP-39 says it, by other means than the search.
    fn phrase(entropy: &[u8]) -> String {
        let hash = Sha256::digest(entropy);
        let bits: Vec<String> = entropy.iter().chain([&hash[0]]).map(|byte| format!("{byte:08b}")).collect();
        let bits = bits.concat();
        let bits = &bits[..entropy.len() * 8 / 32 * 33];
        let words: Vec<&str> = bits
            .as_bytes()
            .chunks(BITS)
            .map(|bits| WORDS[usize::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap()])
            .collect();
        words.join(" ")
    }

    fn only(text: &str) -> Option<&str> {
        let found = phrases(text.as_bytes(), &mut Budget::unbounded()).unwrap();
        assert!(found.len() < 2, "{text}: {found:?}");
        found.first().map(|place| &text[place.clone()])
    }

    #[test]
    fn vectors_of_the_standard_are_found() {
        // https://github.com/trezor/python-mnemonic/blob/master/vectors.json: entropy, phrase.
        for (entropy, expected) in [
            (
                "00000000000000000000000000000000",
                "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
            ),
            (
                "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
                "legal winner thank year wave sausage worth useful legal winner thank yellow",
            ),
            ("ffffffffffffffffffffffffffffffff", "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"),
            (
                "808080808080808080808080808080808080808080808080",
                "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter always",
            ),
            (
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
            ),
            (
                "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
                "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold",
            ),
        ] {
            let made = phrase(&data_encoding::HEXLOWER.decode(entropy.as_bytes()).unwrap());
            assert_eq!(made, expected);
            assert_eq!(only(expected), Some(expected));
        }
    }

    #[test]
    fn phrases_of_each_length_are_found_however_they_are_separated() {
        for length in [16, 20, 24, 28, 32] {
            for seed in 0..50_u8 {
                let entropy: Vec<u8> = Sha256::digest([seed, length])[..usize::from(length)].to_vec();
                let text = phrase(&entropy);
                for between in [" ", "\n", "\r\n", ",", ", ", ",\n"] {
                    let text = text.replace(' ', between);
                    assert_eq!(only(&format!("the seed is: {text}")), Some(&text[..]), "{text}");
                    assert_eq!(only(&format!("{{\"seed\":\"{text}\",\"of\":1}}")), Some(&text[..]), "{text}");
                    assert_eq!(only(&text.to_uppercase()), Some(&text.to_uppercase()[..]));
                }
                for between in ["  ", ".", "-", " 2. ", "\n\n", ""] {
                    assert_eq!(only(&text.replace(' ', between)), None, "{text}");
                }
                // A word is missing, or is another one.
                let words: Vec<&str> = text.split(' ').collect();
                assert!(only(&words[1..].join(" ")).is_none_or(|found| found.len() < text.len()));
                assert_eq!(
                    only(&words.join(" ").replace(words[4], "the")).filter(|found| found.len() == text.len()),
                    None
                );
            }
        }
    }

    #[test]
    fn lists_of_words_and_wrong_checksums_are_none() {
        for text in [
            LIST,
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon",
            "legal winner thank year wave sausage worth useful legal winner thank year",
            "about absent absorb abstract absurd abuse access accident account accuse achieve acid",
            "a an zoo",
            "",
        ] {
            assert_eq!(only(text), None, "{text}");
        }
        let sorted: String = LIST.replace(' ', "\n");
        assert_eq!(only(&sorted), None);
    }

    #[test]
    fn the_checksum_is_of_so_many_bits() {
        // Of sixteen last words, one fits on average; of twenty-four words, one of 256.
        for (length, fits) in [(16, 128), (32, 8)] {
            let text = phrase(&Sha256::digest(b"x")[..length]);
            let (rest, _) = text.rsplit_once(' ').unwrap();
            let is_whole =
                |text: &String| phrases(text.as_bytes(), &mut Budget::unbounded()).unwrap().contains(&(0..text.len()));
            let found = WORDS.iter().map(|word| format!("{rest} {word}")).filter(is_whole);
            assert_eq!(found.count(), fits, "{length}");
        }
    }

    /// Words of the list without end have a hash to be made at each of them.
    #[test]
    fn promise_15_each_word_that_a_phrase_may_begin_with_is_paid_for() {
        let text = phrase(&Sha256::digest(b"x")).replace("zoo", "zone");
        let row = [&text[..]; 4].join(" ").replacen(' ', " zoo ", 1);
        let rows = (row.split(' ').count() - SHORTEST + 1) as u64;
        let cost = |budget: u64| phrases(row.as_bytes(), &mut Budget::new(budget, 0)).map(|found| found.len());
        // Words that are of a phrase begin no other one.
        let phrases = cost(u64::MAX).unwrap() as u64;
        assert!(phrases > 0 && phrases < 4);
        let least = (1..=rows).find(|rows| cost(rows * ROW_COST as u64).is_ok()).unwrap();
        assert!(
            least >= rows - phrases * 24 && cost(least * ROW_COST as u64 - 1) == Err(Exhausted),
            "{least} of {rows}"
        );
    }
}
