//! Secrets in compressed and chunked bodies, by curl, on every way through the proxy: none arrives.

use std::io::Write;

use crate::lab::{Lab, PUBLIC, in_namespace};

const HOST: &str = "api.example.com";
const SECRET: &str = "correct-horse-battery-staple";

#[test]
fn promise_09_a_compressed_or_chunked_secret_arrives_on_no_way() {
    if in_namespace("compressed::promise_09_a_compressed_or_chunked_secret_arrives_on_no_way") {
        attempt();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[tokio::main]
async fn attempt() {
    let names = [(HOST, vec![PUBLIC])].into();
    let mut lab = Lab::new(&format!("{{allow: [{HOST}, '{HOST}:8080']}}"), &names, &[SECRET]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("@{}", folder.path().join(name).display());
    let text = format!("a text, {} and {SECRET}\n", "of no meaning, ".repeat(9000));
    std::fs::write(folder.path().join("plain"), &text).unwrap();
    std::fs::write(folder.path().join("gz"), gzip(text.as_bytes())).unwrap();
    std::fs::write(folder.path().join("twice"), gzip(&gzip(text.as_bytes()))).unwrap();
    let (encoding, chunked) = ("Content-Encoding: gzip", "Transfer-Encoding: chunked");
    // The last one is the request of a client that asks for a tunnel to plain HTTP.
    let ways = [
        vec![format!("https://{HOST}/")],
        vec!["--http1.1".to_owned(), format!("https://{HOST}/")],
        vec![format!("http://{HOST}/")],
        vec!["--proxytunnel".to_owned(), format!("http://{HOST}:8080/")],
    ];
    for way in &ways {
        for (file, headers) in [
            ("plain", vec![chunked]),
            ("gz", vec![]),
            ("gz", vec![encoding]),
            ("gz", vec![chunked]),
            ("gz", vec![encoding, chunked]),
            ("gz", vec!["Content-Type: application/json", encoding]),
            ("twice", vec![]),
            ("twice", vec![encoding]),
            ("twice", vec!["Content-Encoding: gzip, gzip", chunked]),
        ] {
            let what = format!("{way:?} {file} {headers:?}");
            let data = path(file);
            let headers = headers.iter().flat_map(|header| ["-H", header]);
            let words: Vec<&str> =
                way.iter().map(String::as_str).chain(["--data-binary", &data]).chain(headers).collect();
            lab.curl_is_refused(&words, &what).await;
        }
    }
    // The way is there.
    std::fs::write(folder.path().join("gz"), gzip(b"a text of no meaning")).unwrap();
    let said = lab.curl(&[&ways[0][0], "--data-binary", &path("gz"), "-H", encoding, "-H", chunked]).await;
    assert!(said.ends_with("here 200"), "{said}");
}
