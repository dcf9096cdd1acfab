//! Egress: the only way out, and the agent's proxy.

use std::net::{IpAddr, SocketAddrV4};
use std::path::PathBuf;

use super::profile::{ConfigOf, Context, Networks, NoticeEffect, Profile, Serving, UpdateOf};
use super::relay::Relay;
use crate::credential::Credential;
use crate::layout::sidecar::SOCKET;
use crate::layout::{self, loopback};
use crate::net::Host;
use crate::policy::EnforcedPolicy;
use crate::scan::KnownSecret;
use crate::sidecar::egress::{
    Config, Egress, InsideAddresses, Notice, Ready, Registration, Update, tcp_port, tcp_socket,
};

pub(super) struct EgressProfile;

impl Profile for EgressProfile {
    type Role = Egress;
    const NETWORKS: Networks = Networks::Some;
    const IS_PROXY: bool = true;
    const REGISTER: Option<fn(Registration) -> UpdateOf<Self>> = Some(Update::Register);
    const HOST_ADDRESSES: Option<fn(Vec<IpAddr>) -> UpdateOf<Self>> = Some(Update::HostAddresses);
    const POLICY: Option<fn(Box<EnforcedPolicy>) -> UpdateOf<Self>> = Some(Update::Policy);
    const SECRETS: Option<fn(Vec<KnownSecret>) -> UpdateOf<Self>> = Some(Update::Secrets);
    const CREDENTIALS: Option<fn(Vec<Credential>) -> UpdateOf<Self>> = Some(Update::Credentials);

    /// Its own relay first, then one for each destination of plain TCP. Each has its own address, so that it keeps its port.
    fn relays(serving: &Serving<'_>) -> Vec<Relay> {
        let mut relays = vec![Relay {
            name: serving.name.to_owned(),
            address: loopback::EGRESS,
            socket: SOCKET.to_owned(),
            port: layout::egress::PORT,
        }];
        let mut hosts: Vec<&Host> = Vec::new();
        for (index, target) in serving.tcp.iter().enumerate() {
            // All ports of a host share one address, because the host has one name.
            let place = hosts.iter().position(|host| **host == target.host).unwrap_or_else(|| {
                hosts.push(&target.host);
                hosts.len() - 1
            });
            let last = u8::try_from(place + 1).unwrap_or(u8::MAX);
            let address = SocketAddrV4::new(loopback::tcp(last), target.port);
            let (socket, port) = (tcp_socket(index), tcp_port(index));
            relays.push(Relay { name: target.host.to_string(), address, socket, port });
        }
        relays
    }

    fn config(context: Context<'_>) -> Result<ConfigOf<Self>, &'static str> {
        let inside = context.networks.iter().find(|network| network.internal);
        Ok(Config {
            bottle: context.bottle.to_owned(),
            inside: inside.map(|network| InsideAddresses { own: network.own, agent: network.agent }),
            own: vec![format!("{}:{}", context.name, loopback::EGRESS.port()), loopback::EGRESS.to_string()],
            sidecars: context.reachable.into_iter().map(|(name, address)| (name, address.into())).collect(),
            dialer: context.dials.then(|| PathBuf::from(layout::dialer::DIR).join(SOCKET)),
            host_addresses: context.host_addresses,
            pairs: context.pairs,
            policy: context.policy.ok_or("there is no policy")?,
            proxy_credentials: context.proxy_credentials,
            authority: context.authority,
            secrets: context.secrets.unwrap_or_default(),
            credentials: context.credentials,
            supervised: context.supervised,
            pipelock: context.pipelock,
        })
    }

    fn ca(ready: Ready) -> Option<String> {
        Some(ready.ca)
    }

    fn noticed(notice: Notice) -> Option<NoticeEffect> {
        match notice {
            Notice::Spent(grant) => Some(NoticeEffect::Spent(grant)),
            Notice::Need { credential } => Some(NoticeEffect::Need(credential)),
        }
    }
}
