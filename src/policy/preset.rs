//! Presets: lists of entries that come with bottler, by name, as in `allow: ["@pypi"]`. Pure.
//!
//! Rules:
//! * A preset only reads. Each entry names its methods: `GET` and `HEAD`, or `POST` for the paths by which a protocol reads.
//! * It is expanded where a list is read: plans, policies and egress know entries only. What is shown is what is enforced.
//! * An entry of a preset says which one it is of, and in which version. An entry that says so and is not one of that preset
//!   is refused, so that nobody is shown a preset's name for something else.

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, de};

use super::preset_name::PRESETS;
use super::{Allow, AllowSpec, AllowTable, PresetTag, UnknownPreset};
use crate::net::Host;

/// A preset.
#[derive(Debug)]
pub struct Preset {
    /// Its name, with the sign in front.
    pub name: &'static str,
    /// Its version, which changes whenever its entries do.
    pub version: u32,
    /// What it is for.
    pub description: String,
    /// Its file, with its sources.
    pub text: &'static str,
    entries: Vec<AllowTable>,
    parsed: Vec<Allow>,
}

/// The file of a preset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    description: String,
    allow: Vec<AllowTable>,
}

/// Why a list with presets cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// There is no such preset.
    #[error(transparent)]
    Unknown(#[from] UnknownPreset),
    /// An entry says that it is of a preset, and is not.
    #[error("{host}: this is no entry of {preset}; leave out `preset`")]
    Foreign {
        /// The entry's host.
        host: String,
        /// What it says.
        preset: PresetTag,
    },
}

static ALL: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let read = |(name, text): &(&'static str, &'static str)| {
        read(name, text).unwrap_or_else(|why| panic!("{name}, which is compiled in: {why}"))
    };
    PRESETS.iter().map(read).collect()
});

fn read(name: &'static str, text: &'static str) -> Result<Preset, String> {
    let Written { version, description, allow } = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let tag = PresetTag { name: name.to_owned(), version };
    let entries: Vec<AllowTable> =
        allow.into_iter().map(|entry| AllowTable { preset: Some(tag.clone()), ..entry }).collect();
    let parsed = entries.iter().map(|entry| AllowSpec::Table(entry.clone()).read()).collect::<Result<_, _>>();
    let parsed = parsed.map_err(|error| error.to_string())?;
    Ok(Preset { name, version, description, text, entries, parsed })
}

impl Preset {
    /// All presets, by name.
    pub fn all() -> &'static [Self] {
        &ALL
    }

    /// The preset of a name, with the sign in front.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self, UnknownPreset> {
        ALL.iter().find(|preset| preset.name == name).ok_or_else(|| UnknownPreset { name: name.to_owned() })
    }

    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = AllowSpec> {
        self.entries.iter().cloned().map(AllowSpec::Table)
    }

    /// Whether it has a host, for some requests.
    pub fn holds(&self, host: &Host) -> bool {
        self.parsed.iter().any(|entry| entry.has_host(host))
    }

    /// The presets that have a host, for some requests.
    pub fn holding(host: &Host) -> impl Iterator<Item = &'static Self> {
        ALL.iter().filter(move |preset| preset.holds(host))
    }
}

/// A list with the entries of its presets in their places, each once.
///
/// # Errors
/// There is no such preset, or an entry is not of the preset that it names.
pub fn expanded(written: impl IntoIterator<Item = AllowSpec>) -> Result<Vec<AllowSpec>, PresetError> {
    let mut list: Vec<AllowSpec> = Vec::new();
    let mut add = |entry: AllowSpec| {
        let known = entry.preset().is_some() && list.contains(&entry);
        if !known {
            list.push(entry);
        }
    };
    for entry in written {
        match &entry {
            AllowSpec::Host(name) if super::is_preset(name) => Preset::named(name)?.entries().for_each(&mut add),
            AllowSpec::Table(AllowTable { host, preset: Some(tag), .. }) => {
                let genuine = Preset::named(&tag.name)?.entries().any(|own| own == entry);
                if !genuine {
                    return Err(PresetError::Foreign { host: host.clone(), preset: tag.clone() });
                }
                add(entry);
            }
            _ => add(entry),
        }
    }
    Ok(list)
}

/// Deserializes a list of entries that somebody has written, and expands it.
///
/// # Errors
/// It is malformed, or see [`expanded`].
pub fn allow_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<AllowSpec>, D::Error> {
    expanded(Vec::<AllowSpec>::deserialize(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Decision, EgressSpec, Form, Intent, Reason, authorize};
    use super::*;
    use crate::net::canonical;

    /// The ends of the paths at which a protocol reads with POST.
    const READS: [&str; 3] = ["/git-upload-pack", "/info/lfs/objects/batch", "/paths-info/*"];

    fn policy(names: &[&str]) -> super::super::Policy {
        let list = names.iter().map(|name| AllowSpec::Host((*name).to_owned()));
        let spec = EgressSpec { allow: expanded(list).unwrap(), ..EgressSpec::default() };
        spec.policy(BTreeMap::new()).unwrap()
    }

    /// Whether a request is allowed, and by no audit mode.
    fn allows(policy: &super::super::Policy, method: &str, url: &str) -> bool {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (form, default) = if scheme == "https" { (Form::Inside, 443) } else { (Form::Absolute, 80) };
        let (name, port) =
            authority.split_once(':').map_or((authority, default), |(name, port)| (name, port.parse().unwrap()));
        let (host, path) = (Host::parse(name).unwrap(), Some(canonical(path).unwrap()));
        let intent = Intent { form, method: method.to_owned(), host, port, path };
        matches!(authorize(policy, &intent), Decision::Allow(_))
    }

    #[test]
    fn every_preset_is_a_file_and_can_be_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/presets");
        let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut names: Vec<String> =
            names.map(|file| format!("@{}", file.file_stem().unwrap().to_str().unwrap())).collect();
        names.sort();
        assert_eq!(names, PRESETS.map(|(name, _)| name));
        for preset in Preset::all() {
            assert!(preset.version >= 1 && !preset.description.is_empty(), "{}", preset.name);
            assert!(preset.text.starts_with("# Sources: https://"), "{}: where is this from?", preset.name);
        }
    }

    /// Whoever changes the entries of a preset gives it another version.
    #[test]
    fn a_version_has_its_entries() {
        let versions = [
            ("@crates", 1, "7f8bfc86fa5ad690"),
            ("@debian", 1, "58d0bcefe352f21e"),
            ("@docker", 1, "19360064f9ba6fc4"),
            ("@github", 1, "7c4ae7fdc1188df2"),
            ("@go", 1, "13700a9b2b4b1f9f"),
            ("@huggingface", 1, "2669610d3f253555"),
            ("@maven", 1, "2bc038e5d9b22612"),
            ("@npm", 1, "f4dbfcfc0ba70ef6"),
            ("@pypi", 1, "28dd8c08a9332aad"),
        ];
        for (preset, (name, version, hash)) in Preset::all().iter().zip(versions) {
            let found = (preset.name, preset.version, super::super::hash_of(&preset.entries));
            assert_eq!(found, (name, version, hash.to_owned()), "give it a new version, and this hash");
        }
        assert_eq!(versions.len(), Preset::all().len());
    }

    /// What an attacker would need is in no preset, whatever else is: a request that writes.
    #[test]
    fn no_preset_accepts_a_write() {
        for preset in Preset::all() {
            for entry in &preset.entries {
                let of = format!("{}: {entry:?}", preset.name);
                assert!(entry.tls.is_none() && entry.scan.is_none(), "{of}");
                if entry.methods == ["POST"] {
                    let reads = |path: &String| READS.iter().any(|end| path.ends_with(end));
                    assert!(!entry.paths.is_empty() && entry.paths.iter().all(reads), "{of}");
                } else {
                    assert_eq!(entry.methods, ["GET", "HEAD"], "{of}");
                }
            }
        }
        // By requests: every method that may change something, at every host, for every path that an entry has.
        let all = policy(&PRESETS.map(|(name, _)| name));
        let mut posts = 0;
        for entry in Preset::all().iter().flat_map(|preset| &preset.entries) {
            let host = entry.host.trim_end_matches(":443").replace('*', "x");
            let paths = entry.paths.iter().map(|path| path.replace("**", "a/b").replace('*', "c"));
            for path in paths.chain(["/".to_owned(), "/a/b/c".to_owned()]) {
                let url = format!("https://{host}{path}");
                for method in ["PUT", "PATCH", "DELETE", "MKCOL", "PROPPATCH", "LOCK", "MERGE", "post", "Put"] {
                    assert!(!allows(&all, method, &url), "{method} {url}");
                }
                let is_read = READS.iter().any(|end| path.ends_with(end) || path.contains("/paths-info/"));
                assert!(is_read || !allows(&all, "POST", &url), "POST {url}");
                posts += usize::from(allows(&all, "POST", &url));
            }
        }
        assert!(posts > 8, "the test sends no request that passes");
    }

    /// The ways in which each service takes data, as its own clients use them.
    #[test]
    fn no_client_publishes_through_a_preset() {
        let all = policy(&PRESETS.map(|(name, _)| name));
        for (method, url) in [
            ("POST", "https://upload.pypi.org/legacy/"),
            ("POST", "https://pypi.org/pypi"),
            ("POST", "https://pypi.org/_/oidc/mint-token"),
            ("PUT", "https://registry.npmjs.org/@me%2fpackage"),
            ("PUT", "https://registry.npmjs.org/-/user/org.couchdb.user:me"),
            ("POST", "https://registry.npmjs.org/-/npm/v1/tokens"),
            ("POST", "https://registry.npmjs.org/-/npm/v1/security/advisories/bulk"),
            ("DELETE", "https://registry.npmjs.org/-/package/x/dist-tags/latest"),
            ("PUT", "https://crates.io/api/v1/crates/new"),
            ("DELETE", "https://crates.io/api/v1/crates/x/1.0.0/yank"),
            ("PUT", "https://static.crates.io/crates/x/x-1.0.0.crate"),
            ("POST", "https://registry-1.docker.io/v2/me/x/blobs/uploads/"),
            ("PATCH", "https://registry-1.docker.io/v2/me/x/blobs/uploads/1"),
            ("PUT", "https://registry-1.docker.io/v2/me/x/manifests/latest"),
            ("POST", "https://auth.docker.io/token"),
            ("POST", "https://hub.docker.com/v2/users/login"),
            ("POST", "https://github.com/me/x.git/git-receive-pack"),
            ("GET", "https://github.com/me/x.git/info/refs?service=git-receive-pack"),
            ("GET", "https://github.com/me/x.git/info/refs?a=b;service=git-receive-pack"),
            ("POST", "https://github.com/me/x.git/git-receive-pack/git-upload-pack"),
            ("POST", "https://github.com/me/x.git/info/lfs/objects/verify"),
            ("POST", "https://github.com/me/x.git/info/lfs/locks"),
            ("POST", "https://github.com/login/device/code"),
            ("GET", "https://github.com/me/x?_method=delete"),
            ("POST", "https://api.github.com/graphql"),
            ("POST", "https://api.github.com/gists"),
            ("PUT", "https://api.github.com/repos/me/x/contents/file"),
            ("POST", "https://api.github.com/repos/me/x/git-upload-pack"),
            ("POST", "https://uploads.github.com/repos/me/x/releases/1/assets?name=a"),
            ("PUT", "https://github-cloud.githubusercontent.com/alambic/media/1"),
            ("PUT", "https://github-cloud.s3.amazonaws.com/alambic/media/1"),
            ("POST", "https://gist.github.com/me/1.git/git-receive-pack"),
            ("POST", "https://gist.github.com/"),
            ("POST", "https://sum.golang.org/lookup/x@v1.0.0"),
            ("PUT", "https://repo.maven.apache.org/maven2/x/x/1/x-1.jar"),
            ("POST", "https://central.sonatype.com/api/v1/publisher/upload"),
            ("POST", "https://huggingface.co/api/repos/create"),
            ("POST", "https://huggingface.co/api/models/me/x/commit/main"),
            ("POST", "https://huggingface.co/api/models/me/x/preupload/main"),
            ("GET", "https://huggingface.co/api/models/me/x/xet-write-token/main"),
            ("POST", "https://cas-server.xethub.hf.co/v1/xorbs/default/1"),
            ("POST", "https://cas-server.xethub.hf.co/shards"),
            ("PUT", "http://deb.debian.org/debian/pool/x"),
            // What is read by TLS is not read without.
            ("GET", "http://pypi.org/simple/six/"),
            ("GET", "https://pypi.org:8443/simple/six/"),
        ] {
            assert!(!allows(&all, method, url), "{method} {url}");
        }
    }

    /// What clients send to read, each with nothing but its preset.
    #[test]
    fn clients_read_with_their_preset_alone() {
        for (preset, method, url) in [
            ("@pypi", "GET", "https://pypi.org/simple/six/"),
            ("@pypi", "GET", "https://pypi.org/pypi/six/json"),
            ("@pypi", "GET", "https://pypi.org/pypi/six/1.16.0/json"),
            ("@pypi", "GET", "https://files.pythonhosted.org/packages/d9/5a/e7c3/six-1.16.0-py2.py3-none-any.whl"),
            ("@pypi", "GET", "https://files.pythonhosted.org/packages/d9/x-2.4.1+cpu-py3-none-any.whl.metadata"),
            ("@npm", "GET", "https://registry.npmjs.org/is-number"),
            ("@npm", "GET", "https://registry.npmjs.org/@types%2fnode"),
            ("@npm", "GET", "https://registry.npmjs.org/@types/node"),
            ("@npm", "GET", "https://registry.npmjs.org/@types%2fnode/latest"),
            ("@npm", "GET", "https://registry.npmjs.org/is-number/-/is-number-7.0.0.tgz"),
            ("@npm", "GET", "https://registry.npmjs.org/@types/node/-/node-20.0.0.tgz"),
            ("@npm", "GET", "https://registry.npmjs.org/-/v1/search?text=number"),
            ("@npm", "GET", "https://registry.yarnpkg.com/is-number/-/is-number-7.0.0.tgz"),
            ("@crates", "GET", "https://index.crates.io/config.json"),
            ("@crates", "GET", "https://index.crates.io/it/oa/itoa"),
            ("@crates", "GET", "https://static.crates.io/crates/itoa/1.0.0/download"),
            ("@crates", "GET", "https://crates.io/api/v1/crates?q=itoa&per_page=10"),
            ("@crates", "GET", "https://crates.io/api/v1/crates/itoa/1.0.0/download"),
            ("@debian", "GET", "http://deb.debian.org/debian/dists/trixie/InRelease"),
            ("@debian", "GET", "https://deb.debian.org/debian/pool/main/g/gcc/libstdc++6_14.2.0-19_amd64.deb"),
            ("@debian", "GET", "http://deb.debian.org/debian/pool/main/g/gcc/libstdc%2b%2b6_1%3a2%7erc_amd64.deb"),
            ("@debian", "GET", "http://security.debian.org/debian-security/dists/trixie-security/InRelease"),
            ("@debian", "GET", "http://snapshot.debian.org/archive/debian/20250520T000000Z/dists/sid/InRelease"),
            ("@github", "GET", "https://github.com/me/x.git/info/refs?service=git-upload-pack"),
            ("@github", "POST", "https://github.com/me/x.git/git-upload-pack"),
            ("@github", "POST", "https://github.com/me/x/git-upload-pack"),
            ("@github", "POST", "https://github.com/me/x.git/info/lfs/objects/batch"),
            ("@github", "GET", "https://github.com/me/x/releases/download/v1/x.tar.gz"),
            (
                "@github",
                "GET",
                "https://release-assets.githubusercontent.com/github-production-release-asset/1/2?sig=a",
            ),
            ("@github", "GET", "https://codeload.github.com/me/x/tar.gz/refs/heads/main"),
            ("@github", "GET", "https://raw.githubusercontent.com/me/x/main/README.md"),
            ("@github", "GET", "https://api.github.com/repos/me/x/releases/latest"),
            ("@github", "POST", "https://gist.github.com/1.git/git-upload-pack"),
            ("@docker", "GET", "https://registry-1.docker.io/v2/"),
            ("@docker", "HEAD", "https://registry-1.docker.io/v2/library/debian/manifests/trixie"),
            ("@docker", "GET", "https://registry-1.docker.io/v2/library/debian/blobs/sha256:1"),
            ("@docker", "GET", "https://auth.docker.io/token?service=registry.docker.io&scope=repository:a:pull"),
            ("@docker", "GET", "https://production.cloudflare.docker.com/registry-v2/docker/registry/v2/blobs/1/data"),
            ("@go", "GET", "https://proxy.golang.org/github.com/google/uuid/@v/list"),
            ("@go", "GET", "https://proxy.golang.org/github.com/!burnt!sushi/toml/@v/v1.0.0+incompatible.zip"),
            ("@go", "GET", "https://proxy.golang.org/golang.org/x/mod/@latest"),
            ("@go", "GET", "https://proxy.golang.org/sumdb/sum.golang.org/supported"),
            ("@go", "GET", "https://proxy.golang.org/golang.org/toolchain/@v/v0.0.1-go1.26.0.linux-amd64.zip"),
            ("@go", "GET", "https://sum.golang.org/lookup/github.com/google/uuid@v1.6.0"),
            ("@go", "GET", "https://sum.golang.org/tile/8/0/x001/234.p/5"),
            ("@maven", "GET", "https://repo.maven.apache.org/maven2/junit/junit/4.13.2/junit-4.13.2.pom"),
            ("@maven", "GET", "https://repo1.maven.org/maven2/junit/junit/maven-metadata.xml"),
            ("@huggingface", "HEAD", "https://huggingface.co/me/x/resolve/main/config.json"),
            ("@huggingface", "GET", "https://huggingface.co/datasets/me/x/resolve/main/data/a.parquet"),
            ("@huggingface", "GET", "https://huggingface.co/api/models/me/x"),
            ("@huggingface", "GET", "https://huggingface.co/api/models/me/x/revision/main"),
            ("@huggingface", "GET", "https://huggingface.co/api/datasets/me/x/tree/main/data?recursive=true"),
            ("@huggingface", "POST", "https://huggingface.co/api/datasets/me/x/paths-info/main"),
            ("@huggingface", "GET", "https://huggingface.co/api/models/me/x/xet-read-token/main"),
            ("@huggingface", "GET", "https://cas-server.xethub.hf.co/v1/reconstructions/0123"),
            ("@huggingface", "GET", "https://us.gcp.cdn.hf.co/repos/1"),
            ("@huggingface", "GET", "https://huggingface.co/me/x/info/refs?service=git-upload-pack"),
            ("@huggingface", "POST", "https://huggingface.co/datasets/me/x/git-upload-pack"),
        ] {
            assert!(allows(&policy(&[preset]), method, url), "{preset}: {method} {url}");
            let others: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).filter(|name| *name != preset).collect();
            assert!(!allows(&policy(&others), method, url), "others than {preset}: {method} {url}");
        }
    }

    #[test]
    fn a_preset_is_expanded_in_its_place_and_once() {
        let list = |yaml: &str| -> Result<Vec<AllowSpec>, String> {
            let written: Vec<AllowSpec> = serde_yaml::from_str(yaml).map_err(|error| error.to_string())?;
            expanded(written).map_err(|error| error.to_string())
        };
        let hosts = |yaml: &str| list(yaml).unwrap().iter().map(|one| one.host().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            hosts("[a.com, '@pypi', b.com, '@pypi']"),
            ["a.com", "pypi.org:443", "files.pythonhosted.org:443", "b.com"]
        );
        // What a plan has written is understood, and nothing else under the name of a preset.
        let written = serde_yaml::to_string(&list("['@pypi']").unwrap()).unwrap();
        assert_eq!(list(&written), list("['@pypi']"));
        for (changed, words) in [
            (written.replace("pypi.org", "evil.org"), "evil.org:443: this is no entry of @pypi, version 1"),
            (written.replace("version: 1", "version: 7"), "version 7"),
            (written.replace("'@pypi'", "'@mine'"), "there is no preset \"@mine\""),
            (written.replace("- HEAD", "- PUT"), "this is no entry"),
            ("['@pipy']".into(), "there is no preset \"@pipy\" (did you mean \"@pypi\"?); there are @crates, @debian"),
            ("[{host: '@pypi', methods: [GET]}]".into(), ""),
        ] {
            let error = list(&changed).and_then(|list| {
                let read = list.iter().try_for_each(|one| one.read().map(drop));
                read.map_err(|error| error.to_string())
            });
            assert!(error.as_ref().is_err_and(|error| error.contains(words)), "{words}: {error:?}\n{changed}");
        }
    }

    #[test]
    fn a_refusal_names_the_presets_that_have_the_host() {
        let hint = |host: &str| Reason::HostNotAllowed(Host::parse(host).unwrap()).hint().into_owned();
        for (host, preset) in [("pypi.org", "@pypi"), ("x.cdn.hf.co", "@huggingface"), ("crates.io", "@crates")] {
            assert!(hint(host).contains(&format!("add \"{preset}\"")), "{}", hint(host));
            let advice = Reason::HostNotAllowed(Host::parse(host).unwrap()).advice("demo");
            assert!(advice.contains(&format!("`bottler policy allow demo {preset}`")), "{advice}");
            assert!(advice.contains(&format!("`bottler policy allow demo {host}`")), "{advice}");
        }
        assert!(!hint("upload.pypi.org").contains('@') && !hint("example.com").contains('@'));
    }
}
