//! Options of the egress policy, shared by `run` and `policy`.

use std::path::PathBuf;

use crate::cli::failure::input;
use crate::manifest::{Egress, EgressSection, text};
use crate::policy::{AllowSpec, Connect, DenySpec, HostService, UpstreamProxy, expanded, is_preset};
use crate::session::Failure;

/// What may leave.
#[derive(clap::Args)]
pub(in crate::cli) struct EgressArgs {
    /// A file with an `egress` section, instead of the bottle's
    #[arg(long, value_name = "FILE")]
    egress: Option<PathBuf>,
    /// A host, or a preset such as `@pypi`, that the agent may reach, in addition to those of its template and the file; may be repeated
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// A host that the agent may not reach, even if it is allowed; may be repeated
    #[arg(long, value_name = "HOST")]
    deny: Vec<String>,
    /// A destination of plain TCP, which the agent reaches under its own name; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Vec<String>,
    /// A service on this machine's loopback interface, which the agent reaches as `http://NAME:PORT`; may be repeated
    #[arg(long, value_name = "NAME:PORT")]
    host_service: Vec<String>,
    /// A private address range that allowed hosts may have, as CIDR; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_ip: Vec<ipnet::IpNet>,
    /// A PEM file with further CA certificates for destinations; may be repeated
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// A proxy for all destinations: `http://host:port`; credentials for it belong in the --egress file
    #[arg(long, value_name = "URL")]
    upstream_proxy: Option<String>,
}

impl EgressArgs {
    /// What a bottle says, or a file instead, and the flags, put together.
    pub(in crate::cli) fn read(&self, bottle: Egress) -> Result<Egress, Failure> {
        let mut egress = match &self.egress {
            Some(path) => EgressSection::read(path).map_err(input)?,
            None => bottle,
        };
        let spec = &mut egress.spec;
        for host in self.allow.iter().filter(|host| !is_preset(host)) {
            host.parse::<crate::policy::Rule>()
                .map_err(|error| input(format!("--allow {error}")).hint("a host, or \"*.\" and a host"))?;
        }
        let allowed = expanded(self.allow.iter().cloned().map(AllowSpec::Host));
        spec.allow.extend(allowed.map_err(|error| input(format!("--allow: {error}")))?);
        spec.deny.extend(self.deny.iter().cloned().map(DenySpec::Host));
        spec.tcp.extend(self.tcp.iter().cloned());
        for service in &self.host_service {
            let service = HostService::parse(service).map_err(|why| input(format!("--host-service: {why}")))?;
            spec.host_services.push(service);
        }
        spec.ip_allow.extend(&self.allow_ip);
        for path in &self.upstream_ca {
            spec.roots.push(text("the authorities", path).map_err(input)?);
        }
        if let Some(url) = &self.upstream_proxy {
            spec.upstream_proxy =
                Some(UpstreamProxy { url: url.clone(), no_proxy: Vec::new(), connect: Connect::Name });
        }
        spec.check().map_err(|error| input(format!("egress: {error}")))?;
        Ok(egress)
    }
}
