//! First messages of TLS, cut as the bytes say: read or refused, and for one host only.

#![no_main]

use bottler_fuzz::net::Host;
use bottler_fuzz::policy::check_server_name;
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;

fuzz_target!(|bytes: &[u8]| {
    let host = Host::parse("api.example.com").expect("it is a host");
    let mut acceptor = Acceptor::default();
    let size = usize::from(bytes.first().copied().unwrap_or(1)).max(1);
    for mut piece in bytes.get(1..).unwrap_or_default().chunks(size) {
        if acceptor.read_tls(&mut piece).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                let fits = check_server_name(&host, name.as_deref()).is_ok();
                let same = name.is_some_and(|name| name.trim_end_matches('.').eq_ignore_ascii_case("api.example.com"));
                assert_eq!(fits, same);
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
});
