//! Sources of an agent's image: pulled from a registry, by tag and by digest, or built; and refusals. The registry
//! belongs to this test, on this machine's loopback, where the engine accepts it without TLS.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::images::Busybox;
use crate::support::origin::docker;
use crate::support::process::{Done, World};
use sha2::{Digest, Sha256};

/// A registry with one image (OCI distribution specification 1.1, "Pull"): blobs by digest, and one manifest.
struct Registry {
    port: u16,
    /// The manifest's digest.
    digest: String,
}

type Blobs = BTreeMap<String, (&'static str, Vec<u8>)>;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)))
}

impl Registry {
    /// Serves an image with one layer, the given archive, as `one:1`.
    fn start(layer: &[u8]) -> Self {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(layer).unwrap();
        let zipped = zipped.finish().unwrap();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}
        });
        let config = config.to_string().into_bytes();
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": zipped.len(), "digest": digest(&zipped)}]
        });
        let manifest = manifest.to_string().into_bytes();
        let own = digest(&manifest);
        let mut blobs = Blobs::new();
        for name in ["/v2/one/manifests/1".to_owned(), format!("/v2/one/manifests/{own}")] {
            blobs.insert(name, (kind, manifest.clone()));
        }
        for blob in [config, zipped] {
            blobs.insert(format!("/v2/one/blobs/{}", digest(&blob)), ("application/octet-stream", blob));
        }
        blobs.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let blobs = Arc::new(blobs);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let blobs = blobs.clone();
                std::thread::spawn(move || drop(serve(stream, &blobs)));
            }
        });
        Self { port, digest: own }
    }
}

fn serve(stream: TcpStream, blobs: &Blobs) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let mut words = first.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let (status, kind, body) = match blobs.get(path) {
            Some((kind, body)) => ("200 OK", *kind, body.as_slice()),
            None => ("404 Not Found", "application/json", &b"{}"[..]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\r\n",
            body.len(),
            digest(body)
        );
        reader.get_mut().write_all(head.as_bytes())?;
        if method != "HEAD" {
            reader.get_mut().write_all(body)?;
        }
    }
}

/// An image of busybox and some incompressible bytes.
fn layer() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/busybox", root.path().join("busybox")).unwrap();
    let mut noise = vec![0; 12 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(root.path().join("noise"), noise).unwrap();
    Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap().stdout
}

fn run(world: &World, image: &str, more: &[&str]) -> Done {
    world.run(&[&["run", "shell", "--image", image], more, &["--", "/busybox", "echo", "it runs"]].concat())
}

#[test]
fn an_image_is_pulled_by_its_name_and_its_digest_and_not_when_it_is_there() {
    // Takes turns: emptying the cache removes the other test's images.
    let (world, _turn) = (World::new(), Busybox::import());
    let registry = Registry::start(&layer());
    let tag = format!("localhost:{}/one:1", registry.port);
    let done = run(&world, &tag, &[]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "it runs\n"), "{}", done.stderr);
    assert!(
        done.stderr.contains("pull localhost:") && done.stderr.contains("of 13 MiB in 1 layers"),
        "{}",
        done.stderr
    );
    let again = run(&world, &tag, &[]);
    assert!(again.code() == 0 && !again.stderr.contains("pull localhost:"), "{}", again.stderr);
    let asked = run(&world, &tag, &["--pull"]);
    assert!(asked.code() == 0 && asked.stderr.contains("pull localhost:"), "{}", asked.stderr);
    let exact = format!("localhost:{}/one@{}", registry.port, registry.digest);
    assert_eq!(run(&world, &exact, &[]).code(), 0);
    let other = format!("localhost:{}/one@{}", registry.port, digest(b"something else"));
    for (image, words) in [(other.as_str(), "pull image"), ("localhost:1/gone:1", "which the engine does not have")] {
        let done = run(&world, image, &[]);
        assert!(done.code() == 122 && done.stderr.contains(words) && done.stderr.contains("hint: "), "{}", done.stderr);
    }
    let _ = Command::new(crate::support::process::bottler()).args(["gc", "--cache"]).output();
    let _ = Command::new("docker").args(["rmi", "-f", &tag, &exact]).output();
    world.assert_clean();
}

fn manifest(folder: &Path, build: &str) -> String {
    let text = format!(
        "bottles: {{b: {{build: {build}, workspace: {{mode: none}}}}}}\nagents: {{a: {{bottle: b, template: shell, command: [/bin/cat, /made, /arg]}}}}\n"
    );
    let path = folder.join("bottler.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn an_image_is_built_once_from_what_dockerignore_leaves_and_without_a_network() {
    let (world, _image) = (World::new(), Busybox::import());
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("context");
    std::fs::create_dir_all(context.join("sub")).unwrap();
    let dockerfile = "FROM bottler-test:busybox AS first\nARG WHO=nobody\nCOPY . /context/\nSHELL [\"/bin/sh\", \"-c\"]\nUSER 0\n\
        RUN cd /context && echo * sub/* > /made; echo $WHO > /arg; grep -c : /proc/net/dev >> /arg\nFROM first AS second\nRUN echo second > /made\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(context.join(".dockerignore"), "*.log\n!keep.log\nsub/secret\n").unwrap();
    for (name, text) in [("a.log", ""), ("keep.log", ""), ("sub/secret", "s"), ("sub/file", "f")] {
        std::fs::write(context.join(name), text).unwrap();
    }
    let path = manifest(folder.path(), "{context: context, args: {WHO: me}, target: first}");
    let run = |more: &[&str]| world.run(&[&["run", "a", "--manifest", &path], more].concat());
    let done = run(&[]);
    // One interface: loopback.
    assert_eq!(done.stdout, "Dockerfile keep.log sub sub/file\nme\n1\n", "{}", done.stderr);
    assert!(done.stderr.contains("Step 1/"), "{}", done.stderr);
    let again = run(&[]);
    assert!(again.code() == 0 && !again.stderr.contains("Step 1/"), "{}", again.stderr);
    assert!(run(&["--rebuild"]).stderr.contains("Step 1/"));
    std::fs::write(context.join("a.log"), "changed, and left out").unwrap();
    assert!(!run(&[]).stderr.contains("Step 1/"));
    manifest(folder.path(), "{context: context}");
    assert!(run(&[]).stdout.starts_with("second\n"));
    for (dockerfile, words) in [
        ("FROM bottler-test:busybox\nADD http://127.0.0.1:1/x /x\n", "fetched by the engine itself"),
        ("FROM bottler-test:busybox\nRUN exit 3\n", "its commands have no network"),
        ("FROM scratch\nCOPY gone /\n", "gone"),
    ] {
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let done = run(&[]);
        assert!(matches!(done.code(), 120 | 122) && done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    manifest(folder.path(), "{context: context, dockerfile: ../outside}");
    std::fs::write(folder.path().join("outside"), "FROM scratch\n").unwrap();
    assert_eq!(run(&[]).code(), 120, "a Dockerfile is below its context");
    let _ = Command::new(crate::support::process::bottler()).args(["gc", "--cache"]).stdout(Stdio::null()).status();
    docker(&["image", "prune", "-f"]);
    world.assert_clean();
}

/// An image with tools on an unusual path, and with a user who has a home.
const TOOLS: &str = "bottler-test:tools";

#[test]
fn an_image_keeps_its_path_and_its_users_their_homes() {
    let world = World::new();
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for folder in ["bin", "tools/bin", "etc", "home/dev", "tmp"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", at("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "id", "readlink", "ls"] {
        std::os::unix::fs::symlink("busybox", at("bin").join(applet)).unwrap();
    }
    std::fs::write(at("tools/bin/tool"), "#!/bin/sh\necho the tool runs\n").unwrap();
    std::fs::write(at("home/dev/.profile"), "its own\n").unwrap();
    std::fs::write(at("etc/passwd"), "root:x:0:0::/root:/bin/sh\ndev:x:1500:1500::/home/dev:/bin/sh\n").unwrap();
    std::fs::write(at("etc/group"), "root:x:0:\ndev:x:1500:\n").unwrap();
    let path = root.path().display();
    let import = format!(
        "chmod 755 {path}/tools/bin/tool; tar --owner=0 --group=0 -C {path} -c . | \
         docker import --change 'ENV PATH=/tools/bin:/bin LANG=de_DE.UTF-8 JAVA_TOOL_OPTIONS=-Xmx64m' - {TOOLS}"
    );
    assert!(Command::new("sh").args(["-c", &import]).stdout(Stdio::null()).status().unwrap().success());
    let script = "tool; echo $HOME ~; echo mine > ~/new; cat /home/agent/new ~/.profile; cat ~/.bottler/prompt.md; \
                  echo $PATH $LANG; echo $JAVA_TOOL_OPTIONS; id -un; pwd";
    let folder = tempfile::tempdir().unwrap();
    let of = |user: &str| {
        let manifest = format!(
            "bottles: {{b: {{image: '{TOOLS}', user: '{user}', workspace: {{mode: none}}}}}}\n\
             agents: {{a: {{bottle: b, template: shell, prompt: Do it., command: [sh, -c, '{script}']}}}}\n"
        );
        std::fs::write(folder.path().join("bottler.yaml"), manifest).unwrap();
        let done: Done = world
            .command(&["run", "a", "--manifest", "bottler.yaml"])
            .current_dir(folder.path())
            .output()
            .unwrap()
            .into();
        assert_eq!(done.code(), 0, "{user}: {}", done.stderr);
        done.stdout
    };
    let said = of("dev");
    for words in [
        "the tool runs\n/home/dev /home/dev\nmine\nits own\nDo it.",
        "/tools/bin:/bin de_DE.UTF-8\n-Djavax.net.ssl.trustStore=",
        " -Xmx64m\ndev\n/home/dev\n",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // A user id that the image does not know gets bottler's default home.
    let said = of("4711:4711");
    assert!(said.starts_with("the tool runs\n/home/agent /home/agent\nmine\n"), "{said}");
    docker(&["rmi", "-f", TOOLS]);
    world.assert_clean();
}
