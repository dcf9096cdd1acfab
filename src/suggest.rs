//! What somebody probably meant.

/// Names that are this alike are taken for slips of each other.
const NEAR: f64 = 0.7;

/// The name among `known` that is probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(name, known, NEAR)
}

/// The same for names that are at least so much alike: short names differ by much after one slip.
pub(crate) fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>, near: f64) -> Option<&'a str> {
    let scored = known.map(|other| (strsim::normalized_damerau_levenshtein(name, other), other));
    let best = scored.filter(|(score, _)| *score >= near).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, other)| other)
}
