//! Where everything is inside containers: paths, ports, loopback addresses, users. Nothing here is a decision; it is what both
//! ends of a mount, a socket or a relay must agree on.
//!
//! Who listens where:
//!
//! | listener | in the agent's container | in its own container | on the network inside, where there is one |
//! | --- | --- | --- | --- |
//! | egress | init at 127.0.0.2:8888 | `/run/bottler-service/socket` | port 8888 of its address |
//! | egress, places kept for the repeated proof | `/run/bottler-services/<egress>/proof` | `/run/bottler-service/proof` | port 8887 |
//! | egress, the `n`-th destination of plain TCP | init at 127.0.2.`host`, its own port | `/run/bottler-service/tcp-<n>` | port 20000 + `n` |
//! | an ordinary image, the `n`-th | init at 127.0.1.`n`, its own ports | `/run/bottler-service/<port>` | ports from 21000 on |
//! | egress, for a prover beside a paused agent | 127.0.0.3:8888, in the prover's container | | |
//! | init, until the release | `/run/bottler/init` | | |
//! | ctl, of each built-in sidecar | not seen | `/run/bottler-ctl/socket` | |
//! | egress, for the holder's channel to services of the user's machine | not seen | `/run/bottler-ctl/host-services` | |
//! | another built-in sidecar, the `n`-th that serves the agent | init at 127.0.3.`n`, its own port | `/run/bottler-service/socket` | its own port |
//! | egress, for a sidecar that goes out through it | not seen | `/run/bottler-pairs/<n>/egress`; there at `/run/bottler-pairs/1/egress` | |
//! | such a sidecar, for egress | not seen | `/run/bottler-pairs/1/sidecar`; in egress' at `/run/bottler-pairs/<n>/sidecar` | |
//! | Pipelock, behind an egress that has it | not seen | 127.0.0.1:8889 | |
//! | the dialer of an egress, on the native engine | not seen | `/run/bottler-service/socket`; in egress' at `/run/bottler-dialer/socket` | |
//! | the bottle's configuration, written by supervise | `/run/bottler-policy`, read-only | `/run/bottler-policy` | |
//! | counterpart, the probe's destination | not reached directly | 8080 HTTP, 7007 UDP, on the outside network | |
//!
//! Who runs as whom: built-in sidecars as [`sidecar::USER`], the agent as the plan's user ([`agent::DEFAULT_USER`] where it
//! names none), an ordinary image as its own. The volume of a service belongs to its sidecar; the agent's container mounts it
//! read-only. The volume of a pair is mounted by egress and by one other sidecar, and by nobody else: who comes in by a socket of
//! it is that sidecar.

/// The executable, in every image of ours and in the layer on an agent's own.
pub const EXECUTABLE: &str = "/bottler";

/// The agent's container.
pub mod agent {
    use std::net::SocketAddrV4;

    use serde::{Deserialize, Serialize};

    /// A memory file system of the agent's user: init's socket until the release, the CA bundle after it.
    pub const RUN_DIR: &str = "/run/bottler";
    /// Where the agent's container sees the sidecars' volumes, read-only, each under its sidecar's name.
    pub const SERVICES_DIR: &str = "/run/bottler-services";
    /// The bottle's CA certificate.
    pub const CA_FILE: &str = "/run/bottler/ca.pem";
    /// The image's own certificates and the bottle's.
    pub const BUNDLE_FILE: &str = "/run/bottler/ca-bundle.pem";
    /// A folder with the same, for those who read folders.
    pub const BUNDLE_DIR: &str = "/run/bottler/certs";
    /// The same as a store of Java's, and its password: nothing in it is secret, and Java's own has this one, too.
    pub const JAVA_STORE: &str = "/run/bottler/truststore.jks";
    /// See [`JAVA_STORE`].
    pub const JAVA_PASSWORD: &str = "changeit";
    /// The image's own certificates alone, where our layer has put them aside.
    pub const OWN_BUNDLE: &str = "/etc/bottler-own-certificates.pem";
    /// The users of an image (passwd(5)).
    pub const PASSWD_FILE: &str = "/etc/passwd";
    /// Its groups (group(5)).
    pub const GROUP_FILE: &str = "/etc/group";
    /// Maximum size of a file that is read of an image, in bytes.
    pub const MAX_IMAGE_FILE: usize = 8 << 20;
    /// Where images keep their certificates: Debian, Fedora, Alpine, SUSE.
    pub const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    /// What the agent was told beyond its container's variables: for those of the operator's commands that run beside it.
    pub const ENV_FILE: &str = "/run/bottler/env.json";

    /// The user of an agent that does not say otherwise; our image layer gives it a home.
    pub const DEFAULT_USER: &str = "1000:1000";
    /// The agent's home, whoever it runs as: our image layer makes it.
    pub const DEFAULT_HOME: &str = "/home/agent";
    /// Where an agent has its workspace; our image layer makes the folder, the agent's own.
    pub const WORKSPACE: &str = "/workspace";
    /// Where the prompt is put.
    pub const PROMPT_FILE: &str = "/home/agent/.bottler/prompt.md";

    /// The far end of a relay.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Far {
        /// A sidecar's socket, below [`SERVICES_DIR`]: `egress/socket`.
        Socket(String),
        /// A sidecar's address on the network inside.
        Address(SocketAddrV4),
    }
}

/// Loopback addresses of the agent's container, which init listens on.
pub mod loopback {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::egress;

    /// Egress.
    pub const EGRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), egress::PORT);
    /// Egress, in a prover's container: where that shares the agent's namespace, init has [`EGRESS`].
    pub const PROVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 3), egress::PORT);

    /// An ordinary image, by its number from 1.
    pub fn service(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 1, number)
    }

    /// A built-in sidecar that is not egress, by its number from 1.
    pub fn sidecar(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 3, number)
    }

    /// A host of named destinations of plain TCP, by its number from 1.
    pub fn tcp(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 2, number)
    }
}

/// A sidecar's container.
pub mod sidecar {
    /// Where it sees its own service volume, writable.
    pub const SERVICE_DIR: &str = "/run/bottler-service";
    /// The socket in that volume.
    pub const SOCKET: &str = "socket";
    /// The first port that an ordinary image's ports are at on the network inside: its command may have its own ports on every
    /// address.
    pub const INSIDE_PORTS: u16 = 21_000;
    /// The user that built-in sidecars run as; the image gives it the service folder.
    pub const USER: u32 = 65532;
    /// Where the socket of `ctl` is: a tmpfs of the sidecar's container.
    pub const CTL_DIR: &str = "/run/bottler-ctl";
    /// That socket.
    pub const CTL_SOCKET: &str = "socket";
    /// The socket beside it by which egress reaches services of the user's machine.
    pub const HOST_SOCKET: &str = "host-services";
}

/// The volume that egress shares with one sidecar that goes out through it: the sockets of both directions.
pub mod pair {
    /// Where either container sees such volumes, each in a folder of its number.
    pub const DIR: &str = "/run/bottler-pairs";
    /// As many as one egress may have; the image has their folders, which give the volumes their owner.
    pub const MAX: u8 = 8;
    /// Where the other sidecar sees its only one.
    pub const OTHERS: u8 = 1;
    /// The socket at which egress listens for that sidecar.
    pub const EGRESS: &str = "egress";
    /// The socket at which that sidecar listens for what egress lets through to it.
    pub const SIDECAR: &str = "sidecar";

    /// The folder of a pair, by its number from 1.
    pub fn folder(number: u8) -> String {
        format!("{DIR}/{number}")
    }
}

/// Egress.
pub mod egress {
    /// Where it listens, on the network inside of a bottle that has one; the agent's relays have this port, too.
    pub const PORT: u16 = 8888;
    /// Where the repeated proof comes in: a socket beside the agent's, or a port of the same address.
    pub const PROOF_SOCKET: &str = "proof";
    /// That port.
    pub const PROOF_PORT: u16 = 8887;
    /// Where its named destinations of plain TCP are, there: this and the ports after it.
    pub const TCP_PORTS: u16 = 20_000;
}

/// Pipelock, in the container of an egress that has it.
pub mod pipelock {
    /// Its files, in memory.
    pub const DIR: &str = "/run/bottler-pipelock";
    /// Where it listens, on its container's loopback.
    pub const PORT: u16 = 8889;
    /// Its configuration.
    pub const CONFIG: &str = "pipelock.yaml";
    /// The bottle's secrets, a line each.
    pub const SECRETS: &str = "secrets";
    /// The certificate of its own CA.
    pub const CERTIFICATE: &str = "ca.pem";
    /// The key of that.
    pub const KEY: &str = "ca.key";
    /// The authorities of destinations.
    pub const ROOTS: &str = "roots.pem";
}

/// The dialer, which connects for an egress whose container has no network that leads anywhere.
pub mod dialer {
    /// Where egress sees the volume of its socket, read-only.
    pub const DIR: &str = "/run/bottler-dialer";
}

/// The cred-proxy.
pub mod cred_proxy {
    /// The name that the agent finds it under, in the default launch.
    pub const NAME: &str = "cred-proxy";
    /// Its port.
    pub const PORT: u16 = 9099;
}

/// The git gate.
pub mod git_gate {
    /// The name that the agent finds it under, in the default launch.
    pub const NAME: &str = "git-gate";
    /// Its port, for git's protocol and for smart HTTP (git-daemon(1)).
    pub const PORT: u16 = 9418;
    /// Where it has keys, in memory.
    pub const KEYS: &str = "/run/bottler-git-keys";
    /// Where it has mirrors, and pushes while they are inspected: a volume of its own.
    pub const STATE: &str = "/run/bottler-git";
    /// Its programs, in its image.
    pub const GIT: &str = "/usr/bin/git";
    /// See [`GIT`].
    pub const SSH: &str = "/usr/bin/ssh";
}

/// The server by which the agent asks the operator.
pub mod supervise {
    /// The name that the agent finds it under, in the default launch.
    pub const NAME: &str = "supervise";
    /// Its port.
    pub const PORT: u16 = 9098;
    /// The volume with the bottle's configuration: the sidecar writes it, the agent reads it.
    pub const POLICY_DIR: &str = "/run/bottler-policy";
}

/// The probe's counterpart.
pub mod counterpart {
    use std::net::Ipv4Addr;

    /// Where it serves HTTP.
    pub const HTTP_PORT: u16 = 8080;
    /// Where it receives datagrams.
    pub const UDP_PORT: u16 = 7007;
    /// The multicast group it joins: administratively scoped (RFC 2365).
    pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);
}
