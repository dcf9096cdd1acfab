//! What an operator decides about: an entry of the allowlist, a push that the git gate has refused, or another image. Pure.

use serde::{Deserialize, Serialize};

use super::capability::ImageOffer;
use crate::policy::{Candidate, Scope, hash_of};
use crate::sidecar::git_gate::Offer;

/// What a grant does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offered {
    /// It adds this entry to the allowlist.
    Entry(Candidate),
    /// It lets this push pass.
    Push(Offer),
    /// It builds this image, which the bottle has from its next launch on.
    Image(ImageOffer),
}

impl Offered {
    /// The hash of what an operator is shown. An entry is compared with a policy; a push has nothing to do with it.
    pub fn hash(&self, bottle: &str, request: &str, generation: u64) -> String {
        match self {
            Self::Entry(candidate) => candidate.hash(bottle, request, generation),
            Self::Push(offer) => hash_of(&(bottle, request, "push", offer)),
            Self::Image(offer) => hash_of(&(bottle, request, "image", offer)),
        }
    }

    /// Whether it can be granted for one request, or one push.
    pub fn fits_once(&self) -> bool {
        match self {
            Self::Entry(candidate) => candidate.exact,
            Self::Push(_) => true,
            Self::Image(_) => false,
        }
    }

    /// Whether it can be granted for a time, and for later launches.
    pub fn fits_time(&self) -> bool {
        matches!(self, Self::Entry(_))
    }

    /// Checks that it can be granted for so long.
    ///
    /// # Errors
    /// Why not, and what can be done.
    pub(super) fn check(&self, scope: Scope) -> Result<(), (&'static str, &'static str)> {
        match scope {
            Scope::Once | Scope::Until(_) | Scope::Always if matches!(self, Self::Image(_)) => {
                Err(("an image is built for the bottle, as long as it is kept", "--bottle, or no option"))
            }
            Scope::Once if !self.fits_once() => Err((
                "a grant for one request is for one method and one plain path",
                "--for 10m, or reject it with the reason: ask for less",
            )),
            Scope::Until(_) | Scope::Always if !self.fits_time() => {
                Err(("a push is released once, or as long as the bottle lives", "--once or --bottle"))
            }
            Scope::Once | Scope::Until(_) | Scope::Bottle | Scope::Always => Ok(()),
        }
    }
}
