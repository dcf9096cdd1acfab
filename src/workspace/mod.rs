//! Workspaces: copies a host folder for an agent, reads what the agent changed, and fetches it. An agent's archive is
//! read in this process and never unpacked over the user's tree. This room does not use an engine.

mod archive_reader;
mod archive_stream;
mod binary;
mod clone;
pub mod context;
mod entry;
mod executed_paths;
mod fetched;
mod file;
mod git;
mod handoff;
mod ignore_rules;
mod index;
mod listing;
mod mountable;
mod name;
mod patch;
mod path_rules;
mod pull;
mod reftable;
mod repository;
mod seed;
mod snapshot;
mod spool;
mod tables;
mod unified;
mod walk;

pub use archive_reader::{read, read_at};
pub use archive_stream::stream;
pub use entry::{Entry, Regular};
pub use executed_paths::{ExecutedPath, ExecutedPaths, is_repository};
pub use fetched::{Fetched, Outstanding, outstanding};
pub use file::{Change, Files, MAX_ARCHIVE, MAX_BYTES, MAX_FILES, WorkspaceFile};
pub use git::{Git, identity};
pub use handoff::hand_off;
pub use listing::{Listing, list};
pub use mountable::{ForbiddenPaths, refusal};
pub use name::{Name, quoted, shown};
pub use patch::{patch, patch_text};
pub use path_rules::{MASKED, MASKED_HEAD, MaskKind, is_executed, looks_secret};
pub use pull::{PullOptions, PullReport, SkippedPath, default_branch, pull, sweep};
pub use seed::{Seed, TemporaryFile, copy, create_private};
pub use snapshot::{Snapshot, changes};
pub use spool::Spool;
pub use walk::read_files;
