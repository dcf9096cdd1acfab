//! Forms by which a browser uploads a file to S3: whoever has the key signs a policy and gives out the fields, among them the id of
//! the key (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>).
//!
//! Attacks that this stops: a key's id that passes because a text says that it is a signer's. It is read from a field of its own
//! only, of which nothing else is in the part, in the form that AWS' ids have, and once.

use memchr::memmem;

/// The names of the field, of Signature Version 4 and of the one before it.
const FIELDS: [&[u8]; 2] = [b"x-amz-credential", b"awsaccesskeyid"];
/// The length of an id, in bytes.
const ID: usize = 20;

/// The id in the field of a multipart body with this boundary; `None` if there is none, or another one.
pub(super) fn signer<'a>(boundary: &str, body: &'a [u8]) -> Option<&'a [u8]> {
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"");
    let end = format!("\r\n--{boundary}");
    let mut found = None;
    for at in memmem::find_iter(body, head.as_bytes()).filter(|&at| at == 0 || body[..at].ends_with(b"\r\n")) {
        let rest = &body[at + head.len()..];
        let name = &rest[..memchr::memchr(b'"', rest)?];
        if !FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field)) {
            continue;
        }
        let value = rest[name.len()..].strip_prefix(b"\"\r\n\r\n")?;
        let value = &value[..memmem::find(value, end.as_bytes())?];
        let (id, scope) = value.split_at_checked(ID)?;
        let plain = id.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        // Of the newer form: date, region, service.
        let of_scope = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-_".contains(byte);
        let fits = scope.is_empty() || scope[0] == b'/' && scope.len() < 100 && scope.iter().all(of_scope);
        if !plain || !fits || found.is_some() {
            return None;
        }
        found = Some(id);
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::scan::{Actions, BodyFormat, Budget, Dlp, RequestTarget, Rules, Scanner};
    use std::sync::Arc;

    fn form(fields: &[(&str, &str)]) -> String {
        let part = |(name, value): &(&str, &str)| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        fields.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    #[test]
    fn a_signed_form_may_name_its_signer_to_s3_alone() {
        let (id, other) = (["AKIA", "QYLPMN5HHHFPZAM2"].concat(), ["AKIA", "QYLPMN5HHHFPZAM3"].concat());
        let scope = format!("{id}/20261128/eu-west-1/s3/aws4_request");
        let policy = data_encoding::BASE64.encode(format!("{{\"conditions\": [{{\"x\": \"{scope}\"}}]}}").as_bytes());
        let all = Scanner::new(&[], Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(&Dlp::default())));
        let format = BodyFormat::read("multipart/form-data; boundary=b", &[], None).unwrap();
        let passes = |host: &str, body: &str| {
            let scanner = all.for_target(RequestTarget::new(host, "/"));
            let scanner = match format.signer(body.as_bytes()) {
                Some(id) => scanner.for_signer(id),
                None => scanner,
            };
            format.scan(&scanner, body.as_bytes(), &mut Budget::unbounded()) == Ok(None)
        };
        let bucket = "bucket.s3.eu-west-1.amazonaws.com";
        let newer = form(&[("key", "k"), ("x-amz-credential", &scope), ("policy", &policy), ("file", "hello")]);
        let older = form(&[("AWSAccessKeyId", &id), ("policy", "e30="), ("file", "hello")]);
        for body in [&newer, &older] {
            assert!(passes(bucket, body), "{body}");
            assert!(!passes("api.example.com", body), "{body}");
            assert!(!passes("lambda.eu-west-1.amazonaws.com.example.com", body), "{body}");
        }
        let within = format!("a\r\nContent-Disposition: form-data; name=\"AWSAccessKeyId\"\r\n\r\n{id}");
        for body in [
            form(&[("note", &id)]),
            form(&[("x-amz-credential", &scope), ("file", &other)]),
            form(&[("x-amz-credential", &scope), ("AWSAccessKeyId", &other)]),
            form(&[("x-amz-credential", &scope), ("x-amz-credential", &scope)]),
            form(&[("x-amz-credential", &format!("{id} and more"))]),
            form(&[("file", &within)]),
        ] {
            assert!(!passes(bucket, &body), "{body}");
        }
        // What has not the form of an id is none, whatever it would let through.
        for id in [
            id.to_lowercase(),
            id.replace('A', "-"),
            format!("{}/", &id[1..]),
            id[1..].to_owned(),
            format!("\r\n{id}"),
            String::new(),
        ] {
            assert_eq!(super::signer("b", form(&[("AWSAccessKeyId", &id)]).as_bytes()), None, "{id}");
        }
        assert_eq!(super::signer("b", older.as_bytes()), Some(id.as_bytes()));
        // A boundary begins a line; and a scope is short.
        let field = format!("--b\r\nContent-Disposition: form-data; name=\"AWSAccessKeyId\"\r\n\r\n{id}");
        let scope = |length: usize| form(&[("x-amz-credential", &format!("{id}/{}", "s3/".repeat(length / 3)))]);
        let body = form(&[("note", &format!("a text{field}"))]);
        assert_eq!(super::signer("b", body.as_bytes()), None, "{body}");
        assert_eq!(super::signer("b", scope(90).as_bytes()), Some(id.as_bytes()));
        assert_eq!(super::signer("b", scope(120).as_bytes()), None);
    }
}
