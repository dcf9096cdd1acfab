//! The primitives without Lua: each checks its options, announces an object, starts an effect and returns a handle.
//!
//! Layers, from below: `roles`, `channel` and `handle` are the parts of a bottle; `bottle` holds them; everything
//! else works on a bottle.

mod account;
mod agent;
mod ask;
mod away;
mod bottle;
mod channel;
mod child;
mod container;
mod event;
mod exec;
mod handle;
mod host;
mod image;
mod in_memory;
mod name;
mod network;
mod proof;
mod receiver;
mod release;
mod roles;
mod save;
mod seconds;
mod sidecar;
mod supervise;
mod unstarted;
mod volume;
pub mod workspace;

pub use agent::{Agent, AgentOptions, HomeOrigin, ProvisionFile, ProvisionOptions, provision, run_agent};
pub use bottle::{
    Bottle, Decider, FreeRanges, HostContext, Images, Launcher, MAX_BURST, Nesting, REQUESTS_FILE, Renew, Request,
    RequestState, Wish, closed, free_ranges, read_requests,
};
pub use channel::ask as ask_sidecar;
pub use child::launch_child;
pub use container::{CopyInOptions, CopyOutOptions, LogOptions, StopOptions, copy_in, copy_out, logs, stop};
pub use event::{Event, Events, Question, StepState};
pub use exec::{ExecOptions, ExecResult, exec};
pub use handle::{
    Child, ChildOptions, ChildOutcome, ChildRequest, HomeSource, Image, ImageInfo, Lifecycle, Network, Sidecar,
    SidecarOptions, Volume, WorkspaceSource,
};
pub use host::{HostOptions, host_run};
pub use image::{ImageOptions, build_image, build_reference, images_on_engine, own_image, placeholder_images};
pub use in_memory::in_memory;
pub use network::{NetworkOptions, network_create};
pub use proof::watch;
pub use release::release;
pub use roles::{RoleName, process};
pub use save::save;
pub use seconds::{Seconds, WaitOptions, within};
pub use sidecar::{POLICY_FILE, ServiceOptions, SidecarHandles, service_start, sidecar_start};
pub use supervise::{BuildStep, ImageOffer, Offered, ShownRequest};
pub use volume::{VolumeOptions, volume_create};
