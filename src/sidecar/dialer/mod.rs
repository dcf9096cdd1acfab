//! `dialer`: the way out of an egress whose container has no network that leads anywhere, as on the native engine. It runs in the
//! host's network namespace, in a container of its own. It resolves names, connects to addresses that the policy allows, and
//! relays the bytes.
//!
//! Its client, egress, counts as hostile, because egress reads what the whole world sends. Attacks that this stops:
//! * An address of the host itself, of its loopback or of a private network: [`rules`] classifies what is about to be dialled, by
//!   the code that egress uses, and asks the kernel whether the address is the host's own.
//! * A socket of the host's namespace in egress' hands: none is passed. Whoever holds one can disconnect it (`connect` with
//!   `AF_UNSPEC`, connect(2)), connect it to the host's loopback, or listen with it.
//! * A dialer that is itself broken: [`lock`] takes away unix sockets, abstract ones included, listening, and new programs.

mod lock;
mod outside;
mod protocol;
mod resolver;
mod role;
mod rules;

pub use outside::{Connection, DIAL, Outside, tcp};
pub use protocol::Config;
pub use resolver::Resolver;
pub use role::Dialer;

/// The role's name.
pub const ROLE: &str = "dialer";
