//! What an agent works at: a folder of the host, copied; what the agent made of it, read in this process and never unpacked
//! over the tree. Nothing here knows an engine.

mod archive;
mod binary;
mod brought;
mod clone;
pub mod context;
mod entry;
mod executed;
mod file;
mod git;
mod handed;
mod ignored;
mod index;
mod listing;
mod mountable;
mod name;
mod patch;
mod places;
mod pull;
mod reading;
mod reftable;
mod repository;
mod seed;
mod snapshot;
mod spool;
mod tables;
mod walk;

pub use archive::stream;
pub use brought::{Brought, Outstanding, outstanding};
pub use entry::{Entry, Regular};
pub use executed::{Kind as MaskedKind, MASKED, MASKED_HEAD, is_executed, looks_secret};
pub use file::{Change, Files, MAX_ARCHIVE, MAX_BYTES, MAX_FILES, WorkspaceFile};
pub use git::{Git, identity};
pub use handed::hand_on;
pub use listing::{Listing, list};
pub use mountable::{Closed, refusal};
pub use name::{Name, quoted, shown};
pub use patch::{patch, patch_text};
pub use places::{Place as ExecutedPlace, Places, is_repository};
pub use pull::{Order as PullOrder, Pulled, Skipped, default_branch, pull, sweep};
pub use reading::{read, read_at};
pub use seed::{Seed, Temporary, copy, create_private};
pub use snapshot::{Snapshot, changes};
pub use spool::Spool;
pub use walk::read_files;
