//! Values that stand for a password in documentation and templates: variables, placeholders and plain examples. They are no
//! secrets, and in every example of a connection string.

/// What variables and templates begin with: of shells, YAML, Jinja, printf, XML.
const MARKS: &[u8] = b"$<{%[*&#(";
/// What stands within a value that a template makes.
const OPENINGS: [&[u8]; 5] = [b"${", b"$(", b"{{", b"%(", b"#{"];
/// Longer values are none of these, in bytes.
const MAX_LENGTH: usize = 100;
/// As many digits may follow words, as in `password1234`.
const MAX_DIGITS: usize = 4;
/// Words that such values consist of.
const WORDS: [&str; 83] = [
    "a",
    "access",
    "account",
    "admin",
    "an",
    "api",
    "app",
    "auth",
    "bar",
    "base",
    "baz",
    "change",
    "changeit",
    "client",
    "credential",
    "data",
    "database",
    "db",
    "default",
    "demo",
    "dev",
    "dummy",
    "encoded",
    "enter",
    "example",
    "fake",
    "foo",
    "from",
    "goes",
    "guest",
    "hash",
    "here",
    "hidden",
    "id",
    "in",
    "insert",
    "is",
    "it",
    "key",
    "letmein",
    "local",
    "login",
    "me",
    "mongo",
    "my",
    "mysql",
    "name",
    "new",
    "null",
    "of",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "placeholder",
    "postgres",
    "private",
    "pw",
    "pwd",
    "put",
    "qwerty",
    "redacted",
    "redis",
    "remote",
    "replace",
    "root",
    "sample",
    "secret",
    "secure",
    "server",
    "service",
    "some",
    "strong",
    "super",
    "test",
    "the",
    "this",
    "to",
    "token",
    "user",
    "value",
    "with",
    "your",
];

/// Whether a value only stands for a password.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let Some(&first) = value.first() else { return true };
    if MARKS.contains(&first) || OPENINGS.iter().any(|opening| memchr::memmem::find(value, opening).is_some()) {
        return true;
    }
    if value.len() > MAX_LENGTH {
        return false;
    }
    // One character, or dots and the like.
    if value.iter().all(|byte| *byte == first) || value.iter().all(|byte| b"xX*.-_#~=".contains(byte)) {
        return true;
    }
    let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).collect();
    let counts = digits.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair == b"90");
    let letters: Vec<u8> = value.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
    let apart = value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!@ ".contains(byte));
    apart && (counts || digits.len() <= MAX_DIGITS) && are_words(&letters)
}

/// Whether letters are words of the list, one after the other.
fn are_words(letters: &[u8]) -> bool {
    // Which beginnings are.
    let mut are = vec![false; letters.len() + 1];
    are[0] = true;
    for end in 1..=letters.len() {
        are[end] = are[end - 1] && letters[end - 1] == b'x'
            || WORDS.iter().any(|word| {
                end.checked_sub(word.len()).is_some_and(|start| are[start] && letters[start..end] == *word.as_bytes())
            });
    }
    are[letters.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_password_is_told_from_one() {
        for value in [
            "",
            "${NPM_TOKEN}",
            "$NPM_TOKEN",
            "$(cat f)",
            "{{ token }}",
            "abc${X}",
            "<password>",
            "%s",
            "*****",
            "xxxxxxxx",
            "xxx-xxx",
            "........",
            "password",
            "Password1",
            "changeme",
            "CHANGE_ME",
            "my-secret-password",
            "mysecretpassword",
            "your_token_here",
            "postgres",
            "12345678",
            "1234567890",
            "secret123",
            "test-test",
            "[redacted]",
            "aaaaaaaaaa",
        ] {
            assert!(is_placeholder(value.as_bytes()), "{value}");
        }
        for value in
            ["tr0ub4dor", "correct horse", "k9#mPq2x", "h7Gd82kQ", "pass-9f27c1", "p%40ssw0rd", "9876543210", "zebra"]
        {
            assert!(!is_placeholder(value.as_bytes()), "{value}");
        }
    }
}
