//! Vectors of formats whose values stand in files, addresses and variables: what is found is the value and no more, and what only
//! looks like one is none. Values are random or assembled here, so that repository scanners do not report them.

use std::sync::{Arc, LazyLock};

use super::tests::letters;
use super::*;

const HEX: &str = "0123456789abcdef";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const BASE32: &str = "abcdefghijklmnopqrstuvwxyz234567";
const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::providers().unwrap()));

/// The rule and the text of each token.
fn tokens(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut push = |_: &mut Budget, rule: &str, token: &[u8]| -> Option<()> {
        all.push((rule.to_owned(), String::from_utf8_lossy(token).into_owned()));
        None
    };
    RULES.find(text.as_bytes(), &mut Budget::unbounded(), &mut push).unwrap();
    all
}

fn rule_of(text: &[u8]) -> Option<String> {
    let scanner = Scanner::new(&[], RULES.clone(), Arc::new(Actions::new(&Dlp::default())));
    scanner.scan_unbounded(text).map(|finding| finding.rule)
}

/// Asserts that a value is found where it stands between the two texts: alone, in a file in JSON, and in one in base64.
fn assert_found(id: &str, before: &str, value: &str, after: &str) {
    let text = format!("{before}{value}{after}");
    let found = tokens(&text);
    let trimmed = |token: &str| token.trim().trim_end_matches('\\').to_owned();
    assert!(found.iter().any(|(rule, token)| rule == id && trimmed(token) == value), "{id} in {text}: {found:?}");
    let json = serde_json::json!({ "messages": [{ "content": text }] }).to_string();
    let twice = serde_json::json!({ "arguments": json }).to_string();
    for carrier in [json, twice, data_encoding::BASE64.encode(text.as_bytes())] {
        assert!(rule_of(carrier.as_bytes()).is_some(), "{id} in {carrier}");
    }
}

fn assert_nothing(text: &str) {
    assert_eq!(tokens(text), [], "{text}");
    assert_eq!(rule_of(text.as_bytes()), None, "{text}");
}

fn base64_lines(count: usize, width: usize) -> String {
    let text: Vec<String> = (0..count).map(|line| letters(BASE64, width + line)[line..].to_owned()).collect();
    text.join("\n")
}

#[test]
fn private_keys_of_every_tool_are_found_with_and_without_headers() {
    let lines = base64_lines(4, 64);
    for (begin, end) in [
        ("-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "\n-----END OPENSSH PRIVATE KEY-----\n"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,8A3F2C1D\n\n",
            "\n-----END RSA PRIVATE KEY-----\n",
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: DES-EDE3-CBC,8A3F2C1D\r\n\r\n",
            "\r\n-----END EC PRIVATE KEY-----\r\n",
        ),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n", "\n=x1Yz\n-----END PGP PRIVATE KEY BLOCK-----\n"),
        (
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2.0.22 (GNU/Linux)\nComment: of \"me\" <me@a.b>\n\n",
            "\n-----END PGP PRIVATE KEY BLOCK-----\n",
        ),
        (
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: \"3072-bit rsa\"\n",
            "\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n",
        ),
    ] {
        let text = format!("{begin}{lines}{end}");
        let (rule, token) = &tokens(&text)[0];
        assert_eq!((rule.as_str(), token.trim().starts_with(&lines)), ("private-key", true), "{text}: {token}");
        for carrier in [serde_json::json!({ "private_key": text }).to_string(), text.replace('\n', "\\n")] {
            assert_eq!(rule_of(carrier.as_bytes()).as_deref(), Some("private-key"), "{carrier}");
        }
        let twice = serde_json::json!([serde_json::json!({ "private_key": text }).to_string()]).to_string();
        assert_eq!(rule_of(twice.as_bytes()).as_deref(), Some("private-key"), "{twice}");
    }
    let putty = |version: u8| {
        format!(
            "PuTTY-User-Key-File-{version}: ssh-ed25519\nEncryption: none\nComment: me\nPublic-Lines: 2\n{}\nPrivate-Lines: 1\n",
            base64_lines(2, 56)
        )
    };
    for version in [2, 3] {
        let text = format!("{}{}\nPrivate-MAC: {}\n", putty(version), letters(BASE64, 48), letters(HEX, 40));
        let (rule, token) = &tokens(&text)[0];
        assert_eq!(
            (rule.as_str(), token.trim().starts_with(&letters(BASE64, 48))),
            ("putty-private-key", true),
            "{text}"
        );
        assert_eq!(rule_of(serde_json::json!([text]).to_string().as_bytes()).as_deref(), Some("putty-private-key"));
    }
    for text in [
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,8A3F2C1D\n\n(the key)\n",
        &format!(
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: GnuPG v2\n\n{lines}\n-----END PGP PUBLIC KEY BLOCK-----"
        ),
        &format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----"),
        "the line `Private-Lines: 14` says how many lines follow, and `Private-MAC` comes behind them",
    ] {
        assert_nothing(text);
    }
}

#[test]
fn signatures_and_keys_of_azure_are_found_however_they_are_encoded() {
    let plain = format!("{}+{}/{}", letters(BASE64, 20), letters(ALL, 10), letters(BASE64, 11));
    let upper = plain.replace('+', "%2B").replace('/', "%2F");
    let lower = plain.replace('+', "%2b").replace('/', "%2f");
    let blob = "https://a.blob.core.windows.net/c/b?sv=2022-11-02&sr=b";
    for (before, value, after) in [
        (format!("{blob}&sig="), format!("{upper}%3D"), "&se=2026-01-01"),
        (format!("{blob}&sig="), format!("{lower}%3d"), "\n"),
        (format!("{blob}&sig="), format!("{plain}="), "\n"),
        ("SharedAccessSignature sr=a%2Fb&sig=".to_owned(), format!("{upper}%3D"), "&se=1&skn=x"),
        ("BlobEndpoint=https://a.b;SharedAccessSignature=sv=1&amp;sig=".to_owned(), format!("{upper}%3D"), ""),
    ] {
        assert_found("azure-sas", &before, &value, after);
    }
    let key = format!("{}=", letters(BASE64, 43));
    assert_found(
        "azure-access-key",
        "Endpoint=sb://a.b/;SharedAccessKeyName=x;SharedAccessKey=",
        &key,
        ";EntityPath=q",
    );
    assert_found("azure-storage-key", "AccountName=a;AccountKey=", &format!("{}==", letters(BASE64, 86)), ";");
    let middle = letters(ALL, 18);
    assert_found(
        "azure-devops-token",
        "PAT=",
        &format!("{}JQQJ99{middle}AZDO{}", letters(ALL, 52), letters(ALL, 4)),
        "\n",
    );
    assert_found(
        "azure-ai-key",
        "api-key: ",
        &format!("{}JQQJ99{middle}ACOG{}", letters(ALL, 52), letters(ALL, 4)),
        "\n",
    );
    assert_found("azure-devops-old-token", "export AZURE_DEVOPS_EXT_PAT=", &letters(BASE32, 52), "\n");
    for text in [
        "https://a.blob.core.windows.net/c/b?sv=1&sig=<signature>",
        &format!("?sig={}", letters(ALL, 60)),
        &format!("&sig={}%3D", "A".repeat(43)),
        "SharedAccessKey=<key>; AccountKey=<key>",
        &format!("AZDO{}", letters(ALL, 80)),
        &format!("x = {}", letters(BASE32, 52)),
        "AZURE_DEVOPS_EXT_PAT=${PAT}",
    ] {
        assert_nothing(text);
    }
}

#[test]
fn passwords_in_urls_are_found_at_hosts_of_every_form() {
    let password = ["k9", "mPq2xWz"].concat();
    for (id, before, after) in [
        ("database-password", "postgres://app:", "@db/x"),
        ("database-password", "postgresql+psycopg2://app:", "@db:5432/x?sslmode=require"),
        ("database-password", "mysql://app:", "@10.0.0.3"),
        ("database-password", "mongodb+srv://app:", "@cluster0.ab1cd.mongodb.net/test"),
        ("database-password", "redis://:", "@cache:6379/0"),
        ("database-password", "amqps://app:", "@[2001:db8::7]:5671/"),
        ("database-password", "ftp://app:", "@files.internal/"),
    ] {
        assert_found(id, before, &password, after);
        assert_found(id, &format!("DATABASE_URL=\"{before}"), "p%40ss%2Fk9mPq", &format!("{after}\"\n"));
    }
    let long = ["k9", "mPq2xWz7Bv4Lt"].concat();
    for after in ["@git.internal.net/a.git", "@10.0.0.3:8443/", "@[2001:db8::7]/"] {
        assert_found("url-password", "https://app:", &long, after);
    }
    for text in [
        "postgres://user:password@db/x",
        "postgres://postgres:postgres@db:5432/postgres",
        "postgres://app:${DB_PASSWORD}@db/x",
        "postgres://app:<password>@db/x",
        "postgres://app:{{ password }}@db/x",
        "postgres://app:$PASSWORD@db/x",
        "postgres://app:mysecretpassword@db/x",
        "postgres://app:xxxxxxxx@db/x",
        "mysql://root:changeme123@10.0.0.3/",
        "postgres://app:k9mPq2xWz@localhost:5432/x",
        "postgres://app:k9mPq2xWz@127.0.0.1/x",
        "postgres://app:k9mPq2xWz@db.example.com/x",
        "redis://cache:6379/0",
        "mongodb://a:27017,b:27017/x?replicaSet=r",
        "git://host:path@rev",
    ] {
        assert_nothing(text);
    }
}

#[test]
fn bare_tokens_of_discord_are_told_by_the_number_in_them() {
    let token = |number: &str| {
        let number = data_encoding::BASE64URL_NOPAD.encode(number.as_bytes());
        format!("{number}.{}.{}", letters(URL, 6), letters(URL, 38))
    };
    for number in ["1032456789012345678", "1541236789012345678"] {
        assert_found("discord-bot", "TOKEN=", &token(number), "\n");
    }
    for number in ["923456789012345678", "81234567890123456"] {
        assert_found("discord-bot", "DISCORD_TOKEN=", &token(number), "\n");
    }
    let other = format!("MTIz{}.{}.{}", letters(URL, 22), letters(URL, 6), letters(URL, 38));
    assert_nothing(&format!("DISCORD_TOKEN={other}"));
}

#[test]
fn tokens_of_bitbucket_and_vendors_of_models_are_found_and_their_likes_are_not() {
    let uuid = format!("{0}-{1}-{1}-{1}-{0}{1}", letters(HEX, 8), letters(HEX, 4));
    for (id, prefix, body) in [
        ("bitbucket-token", "ATBB", format!("{}A1B2C3D4", letters(ALL, 24))),
        ("atlassian-token", "ATCTT3xFfGN0", format!("{}={}", letters(URL, 170), "A1B2C3D4")),
        ("atlassian-token", "ATATT3xFfGF0", format!("{}={}", letters(URL, 170), "A1B2C3D4")),
        ("openai-key", "sk-proj-", format!("{}T3BlbkFJ{}", letters(URL, 74), letters(URL, 73) + "a")),
        ("openai-key", "sk-svcacct-", format!("{}T3BlbkFJ{}", letters(URL, 74), letters(URL, 73) + "a")),
        ("openai-key", "sk-admin-", format!("{}T3BlbkFJ{}", letters(URL, 58), letters(URL, 57) + "a")),
        ("openai-key", "sk-", format!("{}T3BlbkFJ{}", letters(ALL, 20), letters(ALL, 20))),
        ("anthropic-key", "sk-ant-api03-", letters(URL, 93) + "AA"),
        ("anthropic-key", "sk-ant-admin01-", letters(URL, 93) + "AA"),
        ("anthropic-key", "sk-ant-oat01-", letters(URL, 93) + "AA"),
        ("google-api-key", "AQ.Ab", letters(URL, 48)),
        ("xai-key", "xai-", letters(ALL, 80)),
        ("groq-key", "gsk_", letters(ALL, 52)),
        ("openrouter-key", "sk-or-v1-", letters(HEX, 64)),
        ("hugging-face-token", "hf_", letters(&ALL[..52], 34)),
        ("replicate-token", "r8_", letters(ALL, 37)),
        ("perplexity-key", "pplx-", letters(ALL, 48)),
        ("fireworks-key", "fw_", letters(ALL, 24)),
        ("cerebras-key", "csk-", letters(LOWER, 48)),
        ("deepseek-key", "sk-", letters(HEX, 32)),
        ("elevenlabs-key", "sk_", letters(HEX, 48)),
        ("together-key", "tgp_v1_", letters(URL, 43)),
        ("nvidia-key", "nvapi-", letters(URL, 64)),
        ("pinecone-key", "pcsk_", format!("{}_{}", letters(ALL, 6), letters(ALL, 63))),
        ("langsmith-key", "lsv2_pt_", format!("{}_{}", letters(HEX, 32), letters(HEX, 10))),
        ("langfuse-key", "sk-lf-", uuid.clone()),
        ("wandb-key", "wandb_v1_", format!("{}_{}", letters(ALL, 27), letters(ALL, 49))),
        ("tavily-key", "tvly-dev-", letters(ALL, 32)),
        ("jina-key", "jina_", format!("{}{}", letters(HEX, 32), letters(URL, 28))),
    ] {
        assert_found(id, "KEY=\"", &[prefix, &body].concat(), "\"\n");
        // One character less or more is none, where the form has one length.
        if matches!(id, "cerebras-key" | "deepseek-key" | "elevenlabs-key" | "langfuse-key" | "groq-key") {
            assert_nothing(&format!("KEY=\"{prefix}{}\"", &body[1..]));
            assert_nothing(&format!("KEY=\"{prefix}{body}a\""));
        }
    }
    for (id, before, value) in [
        ("voyage-key", "VOYAGE_API_KEY=", format!("pa-{}", letters(URL, 43))),
        ("unmarked-model-key", "export MISTRAL_API_KEY=\"", letters(ALL, 32)),
        ("unmarked-model-key", "COHERE_API_KEY: ", letters(ALL, 40)),
        ("unmarked-model-key", "os.environ['WANDB_API_KEY'] = '", letters(HEX, 40)),
        ("unmarked-model-key", "AZURE_OPENAI_API_KEY=", letters(HEX, 32)),
    ] {
        assert_found(id, before, &value, "\"\n");
        assert_nothing(&format!("x = {value}"));
    }
    for text in [
        "the keys begin with sk-, sk_, csk-, gsk_, tgp_v1_, pcsk_, nvapi- and tvly-",
        "task-0123456789abcdef0123456789abcdef",
        &format!("disk_{}", letters(HEX, 48)),
        &format!("pk-lf-{uuid}"),
        "LANGFUSE_SECRET_KEY=sk-lf-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        "MISTRAL_API_KEY=${MISTRAL_API_KEY}",
        "MISTRAL_API_KEY=your_mistral_api_key_here_0000000",
        "WANDB_API_KEY=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ] {
        assert_nothing(text);
    }
}

#[test]
fn values_in_files_of_credentials_are_found_and_variables_are_not() {
    let base64 = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let (secret, uuid) = (letters(BASE64, 40), format!("{}-4a1b-{}", letters(HEX, 8), letters(HEX, 12)));
    let pem = base64(&format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC", base64_lines(3, 64)));
    for (id, before, value, after) in [
        ("aws-secret-key", "[default]\naws_secret_access_key = ", secret.clone(), "\nregion = x"),
        ("aws-secret-key", "export AWS_SECRET_ACCESS_KEY='", secret.clone(), "'\n"),
        ("aws-secret-key", "{\"SecretAccessKey\" : \"", secret.clone(), "\"}"),
        ("aws-secret-key", "<SecretAccessKey>", secret.clone(), "</SecretAccessKey>"),
        ("npmrc-password", "//npm.a.b/:_authToken=", uuid.clone(), "\n"),
        ("npmrc-password", "//npm.a.b/:_authToken = \"", letters(URL, 40), "\"\n"),
        ("npmrc-password", "registry=https://a.b/\n_auth=", base64("me:k9mPq2xWz"), "\n"),
        ("npmrc-password", "//a.b/:username=me\n//a.b/:_password=", base64("k9mPq2xWz"), "\n"),
        ("docker-auth", "{\"auths\": {\"a.b\": {\"auth\": \"", base64("me:k9mPq2xWz"), "\"}}}"),
        ("netrc-password", "machine a.b login me password ", "k9mPq2xWz".to_owned(), "\nmachine c.d"),
        ("netrc-password", "machine a.b\r\n\tlogin me\r\n\tpassword ", "k9mPq2xWz".to_owned(), "\r\n"),
        ("wireguard-key", "[Interface]\nPrivateKey = ", letters(BASE64, 42) + "E=", "\n"),
        ("wireguard-key", "PresharedKey=", letters(BASE64, 42) + "0=", "\n"),
        ("kubeconfig-key", "  user:\n    client-key-data: ", pem.clone(), "\n"),
        ("kubeconfig-key", "{\"client-key-data\": \"", pem, "\"}"),
        ("kubeconfig-token", "- name: me\n  user:\n    token: ", format!("kubeconfig-me:{}", letters(LOWER, 54)), "\n"),
        ("pgpass-password", "# mine\ndb.internal:5432:*:me:", "k9mPq2xWz".to_owned(), "\n"),
    ] {
        assert_found(id, before, &value, after);
    }
    for text in [
        "aws_secret_access_key = <your secret access key>",
        "AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY}",
        &format!("AWS_SECRET_ACCESS_KEY={}", "x".repeat(40)),
        &format!("git show {}", letters(HEX, 40)),
        "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
        "//registry.npmjs.org/:_authToken=<token>",
        "//registry.npmjs.org/:_authToken=xxxxxxxx-xxxx-xxxx",
        "self._auth = authentication_backend\n_auth = AuthenticationBackend\n_password = read_password()\n",
        "//registry.npmjs.org/:_password=****************",
        &format!("{{\"auth\": \"{}\"}}", base64("user:password")),
        &format!("{{\"auth\": \"{}\"}}", base64("just a text without any")),
        "{\"auth\": \"required\", \"type\": \"none\"}",
        "machine a.b login me password <password>",
        "machine a.b login me password changeme",
        "machine a.example.com login me password k9mPq2xWz",
        "the machine asks for a login and a password that nobody knows",
        "PrivateKey = <contents-of-privatekey>",
        &format!("PublicKey = {}E=", letters(BASE64, 42)),
        &format!("PrivateKey = {}=", "A".repeat(43)),
        "client-key-data: REDACTED",
        "user:\n    token: {{ .Values.token }}\n",
        "ports:\n  - 127.0.0.1:5432:5432\n",
        "localhost:5432:mydb:me:password",
    ] {
        assert_nothing(text);
    }
    let example = ["wJalrXUtnFEMI/", "K7MDENG/bPxRfiCYEXAMPLEKEY"].concat();
    assert_eq!(rule_of(format!("aws_secret_access_key = {example}").as_bytes()), None);
}

#[test]
fn keys_of_bitcoin_are_found_where_the_user_names_their_rules() {
    // Of Bitcoin's wiki, and the first test vector of BIP-32.
    let wif = ["5HueCGU8rMjxEXxi", "PuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"].concat();
    let extended = [
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVv",
        "vNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
    ]
    .concat();
    for (id, text) in [("bitcoin-wif", format!("privkey: {wif}\n")), ("bip32-key", format!("key = {extended}\n"))] {
        assert_eq!(rule_of(text.as_bytes()), None, "{id} is not named");
        for action in [Action::Block, Action::Mask, Action::Warn] {
            let dlp = Dlp { actions: [(id.to_owned(), action)].into(), ..Dlp::default() };
            let scanner = Scanner::new(&[], RULES.clone(), Arc::new(Actions::new(&dlp)));
            let found = scanner.scan_unbounded(text.as_bytes()).map(|finding| finding.rule);
            assert_eq!(found.as_deref(), (action >= Action::Mask).then_some(id), "{text}");
            // Towards a model, where everything else is masked.
            let model = scanner.for_request(Some(Action::Mask), Arc::new(|_| {}));
            assert_eq!(model.scan_unbounded(text.as_bytes()).is_some(), action >= Action::Mask, "{text}");
            let wrong = text.replace('T', "U");
            assert_eq!(scanner.scan_unbounded(wrong.as_bytes()), None, "{wrong}");
        }
        let strict = Scanner::new(&[], RULES.clone(), Arc::new(Actions::new(&Dlp::default())));
        assert!(
            !strict.contains_secret(text.as_bytes())
                && strict.for_request(Some(Action::Mask), Arc::new(|_| {})).scan_unbounded(text.as_bytes()).is_none()
        );
    }
    let public = [
        "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhe",
        "PY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
    ]
    .concat();
    let dlp = Dlp { actions: [("bip32-key".to_owned(), Action::Block)].into(), ..Dlp::default() };
    let scanner = Scanner::new(&[], RULES.clone(), Arc::new(Actions::new(&dlp)));
    assert_eq!(scanner.scan_unbounded(public.as_bytes()), None);
}

#[test]
fn seed_phrases_are_found_where_the_user_names_their_rule() {
    // The fourth vector of BIP-39 with twelve words.
    let phrase = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong";
    let text = format!("{{\"note\": \"my seed is: {phrase}, and\"}}\n");
    assert_eq!(rule_of(text.as_bytes()), None);
    for action in [Action::Block, Action::Mask, Action::Warn, Action::Off] {
        let dlp = Dlp { actions: [("bip39-phrase".to_owned(), action)].into(), ..Dlp::default() };
        let scanner = Scanner::new(&[], RULES.clone(), Arc::new(Actions::new(&dlp)));
        let rule = |text: &str| scanner.scan_unbounded(text.as_bytes()).map(|finding| finding.rule);
        let expected = (action >= Action::Mask).then_some("bip39-phrase");
        assert_eq!(rule(&text).as_deref(), expected);
        // In layers, and in lines.
        for text in [
            data_encoding::BASE64.encode(text.as_bytes()),
            text.replace(' ', "\\u0020"),
            text.replace(' ', "%20"),
            phrase.replace(' ', "\n"),
            phrase.replace(' ', "\\n"),
        ] {
            assert_eq!(rule(&text).as_deref(), expected, "{text}");
        }
        assert_eq!(rule(&text.replace("wrong", "zoo")), None);
        if action == Action::Mask {
            let look = scanner.look(text.as_bytes(), Carrier::Json, &mut Budget::unbounded()).unwrap();
            let Look::Masked(masked, _) = look else { panic!("{look:?}") };
            assert_eq!(String::from_utf8(masked).unwrap(), text.replace(phrase, &"*".repeat(phrase.len())));
        }
    }
}
