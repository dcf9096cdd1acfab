//! Names to addresses, by the machine's resolver.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::Name;
use tokio::time::timeout;

use crate::net::Host;

/// The time limit for resolving a name.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of addresses of a name that are used.
const MAX_ADDRESSES: usize = 16;

/// A resolver.
#[derive(Clone)]
pub struct Resolver(Arc<TokioResolver>);

impl Resolver {
    /// The servers of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_this_machine() -> anyhow::Result<Self> {
        Ok(Self(Arc::new(TokioResolver::builder_tokio()?.build()?)))
    }

    /// One that asks nobody, for tests.
    #[cfg(test)]
    pub fn none() -> Self {
        let provider = hickory_resolver::net::runtime::TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(hickory_resolver::config::ResolverConfig::default(), provider);
        Self(Arc::new(builder.build().expect("it asks nobody")))
    }

    /// The addresses of a host, at least one; an address is its own.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, String> {
        let name = match host {
            Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
            Host::V6(address) => return Ok(vec![IpAddr::V6(*address)]),
            // The final dot disables search domains. Parsed as ASCII: IDNA does not allow underscores.
            Host::Name(name) => Name::from_ascii(format!("{name}.")).map_err(|error| error.to_string())?,
        };
        let answer = timeout(PATIENCE, self.0.lookup_ip(name)).await.map_err(|_| "no answer in time".to_owned())?;
        let addresses = answer.map_err(|_| "no such name, or no resolver".to_owned())?;
        let addresses: Vec<IpAddr> = addresses.iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() { Err("no addresses".to_owned()) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
    use hickory_resolver::proto::rr::rdata::A;
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;

    /// A resolver that asks this server alone.
    fn asking(server: SocketAddr) -> Resolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let server = NameServerConfig::new(server.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Resolver(Arc::new(builder.build().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn promise_15_a_name_has_so_long_to_be_resolved() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        let resolved = asking(silent.local_addr().unwrap()).resolve(&Host::parse("api.example.com").unwrap()).await;
        assert!(resolved.is_err(), "{resolved:?}");
        assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
        assert!(began.elapsed() >= PATIENCE / 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn so_many_addresses_of_a_name_are_used() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        crate::task::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let asked = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
                answer.metadata.response_code = ResponseCode::NoError;
                for query in &asked.queries {
                    answer.add_query(query.clone());
                    // `many` has one more than are used.
                    let count =
                        if query.name().to_string().starts_with("many") { MAX_ADDRESSES + 1 } else { MAX_ADDRESSES };
                    for last in (1..=u8::try_from(count).unwrap()).filter(|_| query.query_type() == RecordType::A) {
                        let address = A(Ipv4Addr::new(93, 184, 215, last));
                        answer.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(address)));
                    }
                }
                let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
            }
        });
        let resolver = asking(server);
        for name in ["all.example.com", "many.example.com"] {
            let found = resolver.resolve(&Host::parse(name).unwrap()).await.unwrap();
            assert_eq!(found.len(), MAX_ADDRESSES, "{name}");
        }
    }
}
