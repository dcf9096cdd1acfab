//! Rules out the places of a text where no keyword is: most of every text.
//!
//! Each keyword is represented by three consecutive bytes of it, the ones that ordinary text has least. The keywords are
//! spread over the bits of a mask, and three tables tell for a byte which bits may have it as their first, second and
//! third byte: where no bit is in all three, no keyword's three bytes are. Keywords that are alike share a bit: the bytes of
//! one go with those of another, and there are few such mixtures of words that differ little. The lookups depend on nothing
//! before them, so that the processor does many at a time, and the tables stay in its first cache; an automaton waits for
//! its last state at each byte.
//!
//! It must not miss a keyword, for a token would leave: a keyword is passed in every spelling that the rules know it in,
//! at every place, and what the tables cannot express (an empty keyword) is passed everywhere.

use std::ops::Range;

/// The consecutive bytes of a keyword that are looked for.
const BYTES: usize = 3;
/// How many places are tested together.
const BLOCK: usize = 32;
/// Bytes of ordinary text, the most frequent first; those that are absent are rarer.
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybvk0.,/1-x2_:=\"'()";

/// The bits of the keywords that may have a byte at a place.
type Mask = u64;

/// Which bytes the keywords have.
pub(super) struct Prefilter {
    /// For each of the consecutive bytes: the keywords that have it there.
    tables: [[Mask; 256]; BYTES],
    /// How far before its three bytes a keyword may begin, and how far after their beginning it may end.
    before: usize,
    after: usize,
    /// Whether everything is passed.
    everything: bool,
}

impl Prefilter {
    /// Reads the keywords, and whether their case counts.
    pub(super) fn new<'a>(words: impl Iterator<Item = (&'a [u8], bool)>) -> Self {
        let mut filter = Self { tables: [[0; 256]; BYTES], before: 0, after: 0, everything: false };
        let mut spread = [[0; BYTES]; Mask::BITS as usize];
        for (word, cased) in words {
            filter.everything |= word.is_empty();
            let offset = rarest(word);
            let looked_for = &word[offset..word.len().min(offset + BYTES)];
            filter.before = filter.before.max(offset);
            filter.after = filter.after.max(word.len() - offset);
            let bytes: [Vec<u8>; BYTES] = std::array::from_fn(|index| match looked_for.get(index) {
                Some(&byte) if cased => vec![byte],
                Some(&byte) if byte.is_ascii_alphabetic() => vec![byte.to_ascii_lowercase(), byte.to_ascii_uppercase()],
                Some(&byte) => vec![byte],
                // A shorter keyword: any byte may follow.
                None => (0..=u8::MAX).collect(),
            });
            filter.add(&bytes, &mut spread);
        }
        filter
    }

    /// Gives a bit to a keyword with these bytes: the one that passes the least more of ordinary text. `spread` is how much
    /// of it the bytes of each bit are, at each place.
    fn add(&mut self, bytes: &[Vec<u8>; BYTES], spread: &mut [[u64; BYTES]; Mask::BITS as usize]) {
        let with = |bit: usize, of: &[u64; BYTES]| -> [u64; BYTES] {
            std::array::from_fn(|place| {
                let is_new = |byte: &&u8| self.tables[place][usize::from(**byte)] & (1 << bit) == 0;
                of[place] + bytes[place].iter().filter(is_new).map(|byte| frequency(*byte)).sum::<u64>()
            })
        };
        let passes = |of: &[u64; BYTES]| of.iter().product::<u64>();
        let cost = |bit: &usize| passes(&with(*bit, &spread[*bit])) - passes(&spread[*bit]);
        let bit = (0..spread.len()).min_by_key(cost).unwrap_or_default();
        spread[bit] = with(bit, &spread[bit]);
        for (table, bytes) in self.tables.iter_mut().zip(bytes) {
            for byte in bytes {
                table[usize::from(*byte)] |= 1 << bit;
            }
        }
    }

    /// The ranges of a text that may hold keywords, in the order of their ends. Each keyword is wholly in one of them.
    pub(super) fn ranges<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        // The place of the block that is tested next, and the places that the one before it is passed at, as bits.
        let (mut at, mut base, mut passed) = (0, 0, 0_u32);
        let mut ended = false;
        std::iter::from_fn(move || {
            if self.everything && !ended {
                ended = true;
                return Some(0..bytes.len());
            }
            while passed == 0 && !ended {
                let Some(block) = bytes[at..].first_chunk::<{ BLOCK + BYTES - 1 }>() else {
                    // The rest is shorter than a block.
                    ended = true;
                    return Some(at.saturating_sub(self.before)..bytes.len());
                };
                base = at;
                at += BLOCK;
                if (0..BLOCK).fold(0, |any, index| any | self.mask(block, index)) != 0 {
                    passed = (0..BLOCK).fold(0, |all, index| all | u32::from(self.mask(block, index) != 0) << index);
                }
            }
            if passed == 0 {
                return None;
            }
            let place = base + passed.trailing_zeros() as usize;
            passed &= passed - 1;
            Some(place.saturating_sub(self.before)..bytes.len().min(place + self.after))
        })
    }

    /// The keywords whose bytes may be here.
    fn mask(&self, block: &[u8; BLOCK + BYTES - 1], index: usize) -> Mask {
        let [first, second, third] = &self.tables;
        first[usize::from(block[index])] & second[usize::from(block[index + 1])] & third[usize::from(block[index + 2])]
    }
}

/// How frequent a byte is in ordinary text, in no unit.
fn frequency(byte: u8) -> u64 {
    let rank = FREQUENT.iter().position(|other| *other == byte);
    rank.map_or(1, |rank| 2 * (FREQUENT.len() - rank) as u64)
}

/// Where the three bytes of a word begin that ordinary text has least.
fn rarest(word: &[u8]) -> usize {
    let rank = |byte: &u8| FREQUENT.iter().position(|other| other == byte).unwrap_or(FREQUENT.len());
    let all = word.windows(BYTES).enumerate();
    all.max_by_key(|(_, bytes)| bytes.iter().map(rank).sum::<usize>()).map_or(0, |(offset, _)| offset)
}
