//! The findings of a scan that are to be masked.

use std::ops::Range;

use super::finding::Finding;

/// Findings with their places.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// In the layer that is being scanned.
    pub(super) fresh: Vec<(Range<usize>, Finding)>,
    /// In the text that leaves.
    pub(super) found: Vec<(Range<usize>, Finding)>,
    /// The first finding that has no place in that text.
    pub(super) nowhere: Option<Finding>,
}
