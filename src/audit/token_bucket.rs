//! A token bucket.

/// Holds up to `most` tokens, and gains one every `every` milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    left: u64,
    most: u64,
    every: u64,
    /// Until when gained tokens are counted.
    at: u64,
}

impl TokenBucket {
    pub(super) fn new(most: u64, every: u64, now: u64) -> Self {
        Self { left: most, most, every, at: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: u64) -> bool {
        let back = now.saturating_sub(self.at) / self.every;
        self.left = self.left.saturating_add(back).min(self.most);
        self.at = self.at.saturating_add(back * self.every);
        let quota = self.left > 0;
        self.left -= u64::from(quota);
        quota
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_and_is_not_hoarded() {
        let mut bucket = TokenBucket::new(2, 10, 0);
        let taken = |bucket: &mut TokenBucket, now| (0..5).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, 0), 2);
        assert_eq!(taken(&mut bucket, 9), 0);
        assert_eq!(taken(&mut bucket, 10), 1);
        assert_eq!(taken(&mut bucket, 10_000), 2);
        // A clock that goes back gains no tokens.
        assert_eq!(taken(&mut bucket, 5), 0);
    }
}
