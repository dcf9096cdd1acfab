//! This machine: files that survive a power loss, locks between processes, commands with a deadline, routes and
//! addresses, random ids, executables, the user's ssh agent.

mod command;
mod executable;
mod file;
mod id;
mod lock;
mod network;
mod process;
mod ssh_agent;

pub use command::{Limits, output, shell_word};
pub use executable::loadable;
pub use file::{check_own, create_whole, keep_on_disk, make_private, replace, replace_in_memory, sweep_unfinished};
pub use id::{random_base36, random_seed};
pub use lock::{ByteRange, exclusive, is_held, try_exclusive, try_shared, wait_exclusive};
pub use network::{Route, addresses, own_addresses, readable_routes, routes, routes_v6};
pub use process::{is_running, process_identity};
pub use ssh_agent::ask_agent;
