//! Hosts in every spelling: one form, and the one that the url crate and the standard library read.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use bottler_fuzz::net::{Host, classify};
use bottler_fuzz::policy::Rule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(host) = Host::parse(text) else { return };
    assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host), "its own form is another host");
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        assert_eq!(host, Host::V4(address));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok()) {
        assert_eq!(host, address.to_ipv4_mapped().map_or(Host::V6(address), Host::V4));
    }
    // What a URL with that host leads to is what is judged.
    if let Some(found) = url::Url::parse(&format!("https://{text}/")).ok().as_ref().and_then(|url| url.host()) {
        let found = Host::parse(&found.to_string());
        assert_eq!(found.as_ref(), Ok(&host), "a URL with it leads elsewhere");
    }
    match host {
        Host::V4(address) => drop(classify(address.into())),
        Host::V6(address) => drop(classify(address.into())),
        Host::Name(name) => {
            if let Ok(rule) = name.parse::<Rule>() {
                assert!(rule.has_host(&Host::Name(name)));
            }
        }
    }
});
