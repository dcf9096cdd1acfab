//! The primitives, without Lua: each checks what it is asked, records its intent, starts its effect and gives a handle.

mod agent;
mod ask;
mod away;
mod bottle;
mod child;
mod container;
mod event;
mod exec;
mod host;
mod image;
mod life;
mod name;
mod network;
mod proof;
mod save;
mod seconds;
mod sidecar;
mod stream;
mod volume;
pub mod workspace;

pub use agent::{Agent, AgentOptions, ProvisionFile, ProvisionOptions, provision, release, run_agent};
pub use ask::Question;
pub use bottle::{Bottle, MAX_BURST, Setting};
pub use child::{Child, ChildOptions, Launcher, Order, Work, launch_child};
pub use container::{CopyInOptions, CopyOutOptions, LogOptions, StopOptions, copy_in, copy_out, logs, stop};
pub use event::{Event, Events, StepState};
pub use exec::{ExecOptions, ExecResult, exec};
pub use host::{HostOptions, host_run};
pub use image::{Image, ImageInfo, ImageOptions, build_image, own_image};
pub use life::Life;
pub use network::{FreeRanges, Network, NetworkOptions, free_ranges, network_create};
pub use proof::watch;
pub use save::save;
pub use seconds::{Seconds, WaitOptions, within};
pub use sidecar::{
    POLICY_FILE, RoleName, ServiceOptions, Sidecar, SidecarHandles, SidecarOptions, ask as ask_sidecar, process,
    service_start, sidecar_start,
};
pub use volume::{Volume, VolumeOptions, volume_create};
pub use workspace::Source;
