use data_encoding::{BASE64, HEXLOWER};
use proptest::prelude::*;

use super::*;
use crate::credential::Place;

const VALUE: &str = "value/of+the=key";
const HELD: &str = "placeholder-0123456789";
const OTHER: &str = "placeholder-9876543210";

fn credential(name: &str, placeholder: &str, value: &str, slots: &[Slot]) -> Credential {
    let place = |slot: &Slot| Place {
        host: "api.example.com".into(),
        slot: slot.clone(),
        methods: Vec::new(),
        paths: Vec::new(),
    };
    let places = slots.iter().map(place).collect();
    Credential { name: name.into(), placeholder: placeholder.into(), value: value.into(), places }
}

/// Names and values.
type Headers<'a> = Vec<(&'a str, &'a str)>;

/// A request with some headers to a host that has these slots of one credential, and none of another one.
fn judged(slots: &[Slot], open: bool, path: &str, headers: &[(&str, &str)]) -> Result<Substitution, Violation> {
    let (own, other) = (credential("own", HELD, VALUE, slots), credential("other", OTHER, "another-value", &[]));
    let placeholders = Placeholders::new([("own", HELD), ("other", OTHER)].into_iter());
    let offers: Vec<Offer<'_>> =
        own.places.iter().map(|place| Offer { credential: &own, slot: &place.slot, open }).collect();
    let _ = other;
    let handed_out = |credential: &str, token: &str| (credential, token) == ("own", "handed-out");
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let websocket = headers.iter().any(|(name, _)| *name == PROTOCOLS);
    let head = RequestHead { path, headers, websocket, sealed: true, handed_out: &handed_out };
    substitute(&head, &offers, &placeholders)
}

/// What is sent: each header that is replaced, and the path.
fn sent(slots: &[Slot], path: &str, headers: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
    let result =
        judged(slots, true, path, headers).unwrap_or_else(|violation| panic!("{path} {headers:?}: {violation}"));
    assert_eq!(result.used, ["own"], "{path} {headers:?}");
    let line = |it: &Replaced| format!("{}: {}", it.name, String::from_utf8_lossy(&it.after));
    (result.headers.iter().map(line).collect(), result.path)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

#[test]
fn a_value_is_put_into_its_slot() {
    let header =
        |slot: Slot, name: &str, value: String| sent(&[slot], "/v1?a=b", &[("accept", "*/*"), (name, &value)]).0;
    for (slot, name, value, expected) in [
        (Slot::Bearer, "authorization", format!("Bearer {HELD}"), format!("Bearer {VALUE}")),
        (Slot::Bearer, "authorization", format!("bearer  {HELD} "), format!("Bearer {VALUE}")),
        (Slot::Token, "authorization", format!("TOKEN {HELD}"), format!("token {VALUE}")),
        (
            Slot::Basic("x-access-token".into()),
            "authorization",
            basic("x-access-token", HELD),
            basic("x-access-token", VALUE),
        ),
        (Slot::Basic("*".into()), "authorization", basic("anybody", HELD), basic("anybody", VALUE)),
        (Slot::Basic("*".into()), "authorization", basic("", HELD), basic("", VALUE)),
        (Slot::Header("X-Api-Key".into()), "x-api-key", HELD.into(), VALUE.into()),
        (Slot::Header("Authorization".into()), "authorization", HELD.into(), VALUE.into()),
        (Slot::Header("Authorization".into()), "authorization", format!("Bot {HELD}"), format!("Bot {VALUE}")),
        (Slot::Header("x-any".into()), "x-any", HELD.into(), VALUE.into()),
        (
            Slot::WebSocket,
            PROTOCOLS,
            format!("realtime,  insecure-key.{HELD}"),
            format!("realtime, insecure-key.{VALUE}"),
        ),
    ] {
        assert_eq!(header(slot, name, value), [format!("{name}: {expected}")]);
    }
    let path = |slot: Slot, path: &str| sent(&[slot], path, &[("accept", "*/*")]).1.unwrap();
    let key = || Slot::Query("key".into());
    for (slot, before, after) in [
        (key(), format!("/v1?key={HELD}"), "/v1?key=value%2Fof%2Bthe%3Dkey"),
        (key(), format!("/v1?a=%20&key={HELD}&b=c"), "/v1?a=%20&key=value%2Fof%2Bthe%3Dkey&b=c"),
        // As a server decodes it.
        (key(), format!("/v1?%6Bey={}", HELD.replace('-', "%2D")), "/v1?%6Bey=value%2Fof%2Bthe%3Dkey"),
        (Slot::Path, format!("/bot{HELD}/getMe?a=b"), "/botvalue%2Fof%2Bthe%3Dkey/getMe?a=b"),
        (Slot::Path, format!("/{HELD}"), "/value%2Fof%2Bthe%3Dkey"),
    ] {
        assert_eq!(path(slot, &before), after, "{before}");
    }
    // Two slots of one host, both of which are used.
    let both = [Slot::Bearer, Slot::Header("x-api-key".into())];
    let authorization = format!("Bearer {HELD}");
    let (headers, _) = sent(&both, "/", &[("authorization", &authorization), ("x-api-key", HELD)]);
    assert_eq!(headers, [format!("authorization: Bearer {VALUE}"), format!("x-api-key: {VALUE}")]);
}

#[test]
fn a_placeholder_in_another_place_for_credentials_is_refused() {
    let authorization = format!("Bearer {HELD}");
    let (base64, hex) = (BASE64.encode(HELD.as_bytes()), HEXLOWER.encode(HELD.as_bytes()));
    let user = basic(HELD, "x-oauth-basic");
    let proxy = basic("x", HELD);
    let twice = HELD.bytes().map(|byte| format!("%25{byte:02x}")).collect::<Vec<_>>().concat();
    let header = Slot::Header("x-api-key".into());
    let attempts: Vec<(&str, Slot, String, Headers<'_>)> = vec![
        ("another scheme", Slot::Token, "/".into(), vec![("authorization", &authorization)]),
        ("another header", header.clone(), "/".into(), vec![("authorization", &authorization)]),
        ("a header like it", Slot::Bearer, "/".into(), vec![("x-forwarded-authorization", &authorization)]),
        ("a key header", Slot::Bearer, "/".into(), vec![("x-api-key", HELD)]),
        ("a cookie", Slot::Bearer, "/".into(), vec![("cookie", "a=b; session=placeholder-0123456789")]),
        ("the proxy", Slot::Bearer, "/".into(), vec![("proxy-authorization", &proxy)]),
        ("the user name", Slot::Basic("*".into()), "/".into(), vec![("authorization", &user)]),
        ("another user", Slot::Basic("git".into()), "/".into(), vec![("authorization", &proxy)]),
        (
            "two in one header",
            Slot::Bearer,
            "/".into(),
            vec![("authorization", "Bearer placeholder-0123456789, Basic x")],
        ),
        ("a part of the header", header.clone(), "/".into(), vec![("x-api-key", "x-placeholder-0123456789")]),
        ("what follows it", header.clone(), "/".into(), vec![("x-api-key", "placeholder-0123456789x")]),
        ("base64", header.clone(), "/".into(), vec![("x-api-key", &base64)]),
        ("hex in a cookie", Slot::Bearer, "/".into(), vec![("cookie", &hex)]),
        ("no handshake", Slot::WebSocket, "/".into(), vec![("x-token", HELD)]),
        ("the query", Slot::Bearer, format!("/?key={HELD}"), vec![]),
        ("another parameter", Slot::Query("key".into()), format!("/?kez={HELD}"), vec![]),
        ("another case", Slot::Query("key".into()), format!("/?KEY={HELD}"), vec![]),
        ("a name", Slot::Query("key".into()), format!("/?{HELD}=key"), vec![]),
        ("a part of a parameter", Slot::Query("key".into()), format!("/?key=x{HELD}"), vec![]),
        ("the query in base64", Slot::Query("key".into()), format!("/?key={base64}"), vec![]),
        ("double escapes", Slot::Query("key".into()), format!("/?key={twice}"), vec![]),
        ("double escapes elsewhere", Slot::Bearer, format!("/?a={twice}"), vec![]),
        ("the path", Slot::Bearer, format!("/x/{HELD}/y"), vec![]),
        ("the path in escapes", Slot::Bearer, format!("/{twice}"), vec![]),
        ("the middle of a segment", Slot::Path, format!("/{HELD}x"), vec![]),
    ];
    for (name, slot, path, headers) in attempts {
        match judged(&[slot], true, &path, &headers) {
            Err(Violation::Misplaced { credential, why, .. }) => {
                assert_eq!((credential.as_str(), why), ("own", Why::Slot), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
            Ok(_) => panic!("{name}: it passes"),
        }
    }
    let why = |slots: &[Slot], open: bool, held: &str| match judged(slots, open, "/", &[("authorization", held)]) {
        Err(Violation::Misplaced { why, .. }) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it passes"),
    };
    assert_eq!(why(&[], true, &authorization), Why::Host);
    assert_eq!(why(&[Slot::Bearer], false, &authorization), Why::Request);
    assert_eq!(why(&[Slot::Bearer], true, &format!("Bearer {OTHER}")), Why::Host);
}

#[test]
fn without_tls_nothing_is_put_anywhere() {
    let own = credential("own", HELD, VALUE, &[Slot::Bearer]);
    let placeholders = Placeholders::new([("own", HELD)].into_iter());
    let offers = [Offer { credential: &own, slot: &own.places[0].slot, open: true }];
    let held = format!("Bearer {HELD}");
    let headers = vec![("authorization", held.as_bytes())];
    let request = RequestHead { path: "/", headers, websocket: false, sealed: false, handed_out: &|_, _| true };
    let result = substitute(&request, &offers, &placeholders);
    assert!(matches!(result, Err(Violation::Misplaced { why: Why::Plain, .. })));
}

#[test]
fn a_host_with_a_credential_takes_no_other_one() {
    let header = || Slot::Header("x-api-key".into());
    let all: Vec<(Slot, &str, Headers<'_>)> = vec![
        (Slot::Bearer, "/", vec![("authorization", "Bearer of-somebody-else")]),
        (Slot::Bearer, "/", vec![("authorization", "token of-somebody-else")]),
        (Slot::Bearer, "/", vec![("authorization", "Digest username=x")]),
        (Slot::Bearer, "/", vec![("authorization", "\u{fe}")]),
        (Slot::Basic("*".into()), "/", vec![("authorization", "Basic not base64")]),
        (header(), "/", vec![("authorization", "Bearer of-somebody-else")]),
        (header(), "/", vec![("x-api-key", "of-somebody-else")]),
        (Slot::Bearer, "/", vec![("x-api-key", "of-somebody-else")]),
        (Slot::Bearer, "/", vec![("private-token", "of-somebody-else")]),
        (Slot::Header("x-own".into()), "/", vec![("x-own", "of-somebody-else")]),
        (Slot::Query("key".into()), "/?key=of-somebody-else", vec![]),
        (Slot::Query("key".into()), "/?KEY=of-somebody-else", vec![]),
        (Slot::Query("key".into()), "/?key[0]=of-somebody-else", vec![]),
        (Slot::Query("key".into()), "/?a=b;key=of-somebody-else", vec![]),
        (Slot::Query("key".into()), "/?%6bey=of-somebody-else", vec![]),
        (Slot::Bearer, "/?access_token=of-somebody-else", vec![]),
        (Slot::Bearer, "/?API_KEY=of-somebody-else", vec![]),
        (Slot::Path, "/bot-of-somebody-else/getMe", vec![]),
        (Slot::Bearer, "/", vec![(PROTOCOLS, "realtime, insecure-api-key.of-somebody-else")]),
    ];
    for (slot, path, headers) in all {
        let result = judged(std::slice::from_ref(&slot), true, path, &headers);
        assert!(matches!(result, Err(Violation::Foreign { .. })), "{slot:?} {path} {headers:?}");
        // The same at a host that has none, and for another method or path of the same host.
        assert!(judged(&[], true, path, &headers).is_ok(), "{path} {headers:?}");
        if slot != Slot::Path {
            assert!(
                matches!(judged(&[slot], false, path, &headers), Err(Violation::Foreign { .. })),
                "{path} {headers:?}"
            );
        }
    }
    // What is no credential passes, and the value itself, if the scan let it.
    for (slot, path, headers) in [
        (
            Slot::Bearer,
            "/?page_token=3&sort=key",
            vec![("authorization", ""), ("x-csrf-token", "abc"), ("cookie", "a=b")],
        ),
        (
            Slot::Bearer,
            "/",
            vec![("authorization", "Bearer"), (PROTOCOLS, "realtime, graphql-ws"), ("idempotency-key", "1")],
        ),
        (Slot::Bearer, "/", vec![("authorization", "Bearer value/of+the=key")]),
        (header(), "/?key=x", vec![("x-api-key", "value/of+the=key")]),
        (Slot::Query("key".into()), "/?key=&a", vec![]),
    ] {
        assert!(judged(&[slot], true, path, &headers).is_ok_and(|result| result.used.is_empty()), "{path} {headers:?}");
    }
}

#[test]
fn what_a_host_has_handed_out_for_its_credential_goes_back_to_it() {
    let basic = || [Slot::Basic("*".into())];
    let result = judged(&basic(), true, "/", &[("authorization", "Bearer handed-out")]).unwrap();
    assert_eq!(result.handed_out.as_deref(), Some("handed-out"));
    assert!(result.used.is_empty());
    for value in ["token handed-out", "Bearer handed-out2", "handed-out"] {
        let result = judged(&basic(), true, "/", &[("authorization", value)]);
        assert!(matches!(result, Err(Violation::Foreign { .. })), "{value}");
    }
    // In no other header.
    assert!(judged(&basic(), true, "/", &[("x-api-key", "Bearer handed-out")]).is_err());
    assert!(judged(&[], true, "/", &[("authorization", "Bearer handed-out")]).unwrap().handed_out.is_none());
}

#[test]
fn what_stands_twice_is_refused() {
    let authorization = format!("Bearer {HELD}");
    let key = || Slot::Query("key".into());
    for (slot, path, headers) in [
        (Slot::Bearer, "/".to_owned(), vec![("authorization", &*authorization), ("authorization", &*authorization)]),
        (Slot::Bearer, "/".to_owned(), vec![("authorization", "Bearer x"), ("authorization", &*authorization)]),
        (Slot::Bearer, "/".to_owned(), vec![("authorization", &*authorization), ("authorization", "")]),
        (key(), format!("/?key={HELD}&key={HELD}"), vec![]),
        (key(), format!("/?key={HELD}&key=x"), vec![]),
        (key(), format!("/?key={HELD}&Key="), vec![]),
        (key(), format!("/?a=b;key=&key={HELD}"), vec![]),
        (Slot::Path, format!("/{HELD}/{HELD}"), vec![]),
    ] {
        let result = judged(&[slot], true, &path, &headers);
        assert!(matches!(result, Err(Violation::Twice { .. })), "{path} {headers:?}: {:?}", result.err());
    }
}

#[test]
fn elsewhere_a_placeholder_passes_and_is_noted() {
    let result = judged(&[Slot::Bearer], true, "/", &[("user-agent", HELD), ("x-note", OTHER)]).unwrap();
    assert!(result.headers.is_empty() && result.used.is_empty());
    assert_eq!(result.elsewhere.as_deref(), Some("own"));
}

proptest! {
    #[test]
    fn no_value_is_ever_sent_where_no_slot_is(
        path in "/[a-z?&=%/;]{0,12}", before in "[ -~]{0,12}", after in "[ -~]{0,12}", which in 0_usize..6, open: bool,
    ) {
        let names = ["authorization", "x-api-key", "cookie", "x-note", PROTOCOLS, "user-agent"];
        let value = format!("{before}{HELD}{after}");
        let slots = [Slot::Bearer, Slot::Header("x-api-key".into())];
        if let Ok(result) = judged(&slots, open, &format!("{path}{HELD}"), &[(names[which], &value)]) {
            prop_assert!(result.used.is_empty(), "the path holds the placeholder, and is no slot");
        }
        if let Ok(result) = judged(&slots, open, "/", &[(names[which], &value)]) {
            for replaced in &result.headers {
                prop_assert!(open && which < 2, "{}", replaced.name);
                let text = String::from_utf8(replaced.after.clone()).unwrap();
                prop_assert!(text.ends_with(VALUE) && text.matches(VALUE).count() == 1);
            }
        }
    }
}

#[test]
fn a_signature_of_aws_is_made_anew_with_the_hosts_secret() {
    let authorization = |id: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/20150830/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
        )
    };
    let judged = |with_secret: bool, open: bool, path: &str, header: &str| {
        let id = credential("id", HELD, "AKIDEXAMPLE", &[Slot::AwsKeyId]);
        let secret = credential("secret", OTHER, "the/secret+key", &[Slot::AwsSecret]);
        let placeholders = Placeholders::new([("id", HELD), ("secret", OTHER)].into_iter());
        let mut offers = vec![Offer { credential: &id, slot: &Slot::AwsKeyId, open }];
        if with_secret {
            offers.push(Offer { credential: &secret, slot: &Slot::AwsSecret, open });
        }
        let headers = vec![("authorization", header.as_bytes())];
        let head = RequestHead { path, headers, websocket: false, sealed: true, handed_out: &|_, _| false };
        substitute(&head, &offers, &placeholders)
    };
    let result = judged(true, true, "/", &authorization(HELD)).unwrap();
    assert_eq!(result.used, ["id", "secret"]);
    assert!(String::from_utf8_lossy(&result.headers[0].after).contains("Credential=AKIDEXAMPLE/2015"));
    assert!(result.signing.is_some_and(|signing| signing.credential() == "id"));
    for (with_secret, open, path, header, words) in [
        (false, true, "/", authorization(HELD), "no credential in the slot aws-secret"),
        (true, false, "/", authorization(HELD), "not declared for this method"),
        (true, true, "/", authorization("AKIAIOSFODNN7EXAMPLE"), "another credential than id"),
        (true, true, "/", authorization(HELD).replace("HMAC", "ECDSA-P256"), "which is not its slot"),
        (true, true, "/", format!("AWS {HELD}:frJIUN8DYpKDtOLCwo"), "which is not its slot"),
        (true, true, "/", format!("Bearer {OTHER}"), "which is not its slot"),
        (true, true, &format!("/?X-Amz-Credential={HELD}%2F20150830%2Fus-east-1"), String::new(), "a presigned URL"),
        (true, true, &format!("/?AWSAccessKeyId={HELD}&Signature=x"), String::new(), "a presigned URL"),
    ] {
        let violation = judged(with_secret, open, path, &header).err().unwrap().to_string();
        assert!(violation.contains(words), "{path} {header}: {violation}");
    }
}
