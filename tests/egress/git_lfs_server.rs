//! A small server of Git LFS (git-lfs, `docs/api`): it keeps objects in a folder, and checks what it is sent.

use std::path::Path;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Responds to what follows `/info/lfs`. `at` is the URL of that.
pub fn respond(folder: &Path, method: &str, rest: &str, body: &Bytes, at: &str) -> Response<Full<Bytes>> {
    std::fs::create_dir_all(folder).unwrap();
    let (status, body) = match (method, rest) {
        ("POST", "/objects/batch") => {
            (200, batch(folder, &serde_json::from_slice(body).unwrap(), at).to_string().into())
        }
        ("POST", "/verify") => {
            let asked: Value = serde_json::from_slice(body).unwrap();
            let there = std::fs::metadata(folder.join(asked["oid"].as_str().unwrap())).map(|data| data.len());
            (if there.ok() == asked["size"].as_u64() { 200 } else { 404 }, "{}".into())
        }
        ("PUT", _) => {
            let oid = rest.trim_start_matches("/objects/");
            if HEXLOWER.encode(&Sha256::digest(body)) == oid {
                std::fs::write(folder.join(oid), body).unwrap();
                (200, Bytes::new())
            } else {
                (422, r#"{"message": "this is another object"}"#.into())
            }
        }
        ("GET", _) => std::fs::read(folder.join(rest.trim_start_matches("/objects/")))
            .map_or_else(|_| (404, "{}".into()), |content| (200, content.into())),
        _ => (404, "{}".into()),
    };
    let response = Response::builder().status(status).header("content-type", "application/vnd.git-lfs+json");
    response.body(Full::new(body)).unwrap()
}

fn batch(folder: &Path, asked: &Value, at: &str) -> Value {
    let upload = asked["operation"] == "upload";
    let object = |object: &Value| {
        let oid = object["oid"].as_str().unwrap();
        let link = json!({ "href": format!("{at}/objects/{oid}"), "header": { "Authorization": "Basic eDp5" } });
        match (upload, folder.join(oid).exists()) {
            (true, true) => json!({ "oid": oid, "size": object["size"] }),
            (true, false) => json!({ "oid": oid, "size": object["size"],
                "actions": { "upload": link, "verify": { "href": format!("{at}/verify") } } }),
            (false, true) => json!({ "oid": oid, "size": object["size"], "actions": { "download": link } }),
            (false, false) => {
                json!({ "oid": oid, "size": object["size"], "error": { "code": 404, "message": "there is no such object" } })
            }
        }
    };
    let objects: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(object).collect();
    json!({ "transfer": "basic", "objects": objects })
}
