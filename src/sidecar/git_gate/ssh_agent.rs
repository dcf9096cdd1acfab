//! The protocol of ssh agents (draft-ietf-sshm-ssh-agent), as far as one key needs it, and the request that ssh has signed
//! (RFC 4252, section 7; OpenSSH's PROTOCOL, "publickey-hostbound-v00@openssh.com"). Pure.
//!
//! Attacks that this stops: a signature for something else than a login of the declared user, such as a commit, a certificate,
//! or a login at another host that accepts the key.

use data_encoding::BASE64;

/// Maximum size of a message, in bytes: OpenSSH's own limit.
pub const MAX_MESSAGE: u32 = 256 << 10;
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN: u8 = 13;
const SIGNED: u8 = 14;
/// The flags of a request that choose SHA-2 for RSA; others are of no key that is in use.
const FLAGS: u32 = 6;
/// The number of a login's request (RFC 4252, section 6).
const USERAUTH: u8 = 50;

/// What a client of an agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Which keys there are.
    Identities,
    /// A signature by the one key that there is.
    Sign {
        /// What is signed.
        data: Vec<u8>,
        /// How.
        flags: u32,
    },
    /// Anything else, which is refused.
    Other,
}

/// The key of a line `KIND BASE64 [COMMENT]`, as it stands in a file `.pub`.
pub fn public_key(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let mut words = line.split_ascii_whitespace();
    let (kind, key) = (words.next()?, BASE64.decode(words.next()?.as_bytes()).ok()?);
    (string(&mut key.as_slice())? == kind.as_bytes()).then_some(key)
}

/// Reads a question, without its length; a signature by another key is refused.
pub(super) fn question(message: &[u8], key: &[u8]) -> Question {
    let sign = |mut rest: &[u8]| {
        let (named, data) = (string(&mut rest)?, string(&mut rest)?.to_vec());
        let flags = u32::from_be_bytes(rest.try_into().ok()?);
        (named == key).then_some(Question::Sign { data, flags: flags & FLAGS })
    };
    match message.split_first() {
        Some((&REQUEST_IDENTITIES, [])) => Question::Identities,
        Some((&SIGN, rest)) => sign(rest).unwrap_or(Question::Other),
        _ => Question::Other,
    }
}

/// The list of one key.
pub(super) fn identities(key: &[u8]) -> Vec<u8> {
    framed(&[&[IDENTITIES], &1_u32.to_be_bytes(), &prefixed(key), &prefixed(b"")])
}

/// A signature, or none.
pub(super) fn signed(signature: Option<&[u8]>) -> Vec<u8> {
    signature.map_or_else(|| framed(&[&[FAILURE]]), |signature| framed(&[&[SIGNED], &prefixed(signature)]))
}

/// Asks an agent which keys it has.
pub fn ask_identities() -> Vec<u8> {
    framed(&[&[REQUEST_IDENTITIES]])
}

/// Whether an agent's answer, without its length, lists a key.
pub fn lists(answer: &[u8], key: &[u8]) -> bool {
    let Some((&IDENTITIES, mut rest)) = answer.split_first() else { return false };
    let Some((_, keys)) = rest.split_at_checked(4) else { return false };
    rest = keys;
    while let (Some(found), Some(_)) = (string(&mut rest), string(&mut rest)) {
        if found == key {
            return true;
        }
    }
    false
}

/// Asks an agent for a signature.
pub fn ask_signature(key: &[u8], data: &[u8], flags: u32) -> Vec<u8> {
    framed(&[&[SIGN], &prefixed(key), &prefixed(data), &(flags & FLAGS).to_be_bytes()])
}

/// The signature in an agent's answer, without its length.
pub fn signature(answer: &[u8]) -> Option<Vec<u8>> {
    let (&SIGNED, mut rest) = answer.split_first()? else { return None };
    string(&mut rest).map(<[u8]>::to_vec)
}

/// Whether what is to be signed is a login of this user with this key; if it names the host's key, at one of these.
pub fn is_login(mut data: &[u8], user: &str, key: &[u8], hosts: &[Vec<u8>]) -> bool {
    let data = &mut data;
    let mut read = || {
        string(data)?;
        let (&kind, rest) = data.split_first()?;
        *data = rest;
        let (named, service, method) = (string(data)?, string(data)?, string(data)?);
        let (&signed, rest) = data.split_first()?;
        *data = rest;
        let (_algorithm, own) = (string(data)?, string(data)?);
        let is_bound = method == b"publickey-hostbound-v00@openssh.com";
        if is_bound {
            let host = string(data)?;
            if !hosts.iter().any(|known| known == host) {
                return None;
            }
        }
        let is_login = kind == USERAUTH && signed == 1 && named == user.as_bytes() && service == b"ssh-connection";
        (is_login && (is_bound || method == b"publickey") && own == key && data.is_empty()).then_some(())
    };
    read().is_some()
}

/// Reads bytes with their length before them.
fn string<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_at_checked(4)?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn framed(parts: &[&[u8]]) -> Vec<u8> {
    prefixed(&parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key";
    const HOST: &[u8] = b"a host's key";

    fn login(user: &str, service: &str, method: &str, key: &[u8], host: Option<&[u8]>) -> Vec<u8> {
        let parts = [b"session".as_slice(), user.as_bytes(), service.as_bytes(), method.as_bytes()].map(prefixed);
        let [session, user, service, method] = parts;
        let host = host.map(prefixed).unwrap_or_default();
        [session, vec![USERAUTH], user, service, method, vec![1], prefixed(b"ssh-ed25519"), prefixed(key), host]
            .concat()
    }

    #[test]
    fn promise_08_only_a_login_of_the_user_with_the_key_at_the_host_is_signed() {
        let bound = "publickey-hostbound-v00@openssh.com";
        let whole = login("git", "ssh-connection", "publickey", KEY, None);
        for (data, expected) in [
            (whole.clone(), true),
            (login("git", "ssh-connection", bound, KEY, Some(HOST)), true),
            (login("git", "ssh-connection", bound, KEY, Some(b"another host's key")), false),
            (login("git", "ssh-connection", bound, KEY, None), false),
            (login("git", "ssh-connection", "publickey", KEY, Some(HOST)), false),
            (login("root", "ssh-connection", "publickey", KEY, None), false),
            (login("git", "ssh-userauth", "publickey", KEY, None), false),
            (login("git", "ssh-connection", "hostbased", KEY, None), false),
            (login("git", "ssh-connection", "publickey", b"another key", None), false),
            ([&whole[..], b"x"].concat(), false),
            (whole[..whole.len() - 1].to_vec(), false),
            // What `ssh-keygen -Y sign` has signed.
            ([b"SSHSIG".as_slice(), &prefixed(b"git"), &prefixed(b""), &prefixed(b"sha512")].concat(), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_login(&data, "git", KEY, &[HOST.to_vec()]), expected, "{data:?}");
        }
    }

    #[test]
    fn of_an_agents_questions_one_key_is_listed_and_signs() {
        let sign =
            |key: &[u8], flags: u32| [&[SIGN][..], &prefixed(key), &prefixed(b"data"), &flags.to_be_bytes()].concat();
        let data = b"data".to_vec();
        for (message, expected) in [
            (vec![REQUEST_IDENTITIES], Question::Identities),
            (sign(KEY, 0), Question::Sign { data: data.clone(), flags: 0 }),
            (sign(KEY, u32::MAX), Question::Sign { data, flags: FLAGS }),
            (sign(b"another key", 0), Question::Other),
            ([sign(KEY, 0), vec![0]].concat(), Question::Other),
            // Adds a key, removes all, locks, an extension.
            (vec![17], Question::Other),
            (vec![19], Question::Other),
            (vec![22], Question::Other),
            (vec![27], Question::Other),
            (Vec::new(), Question::Other),
        ] {
            assert_eq!(question(&message, KEY), expected, "{message:?}");
        }
        assert!(lists(&identities(KEY)[4..], KEY) && !lists(&identities(KEY)[4..], b"another"));
        assert_eq!(signature(&signed(Some(b"x"))[4..]), Some(b"x".to_vec()));
        assert_eq!(signature(&signed(None)[4..]), None);
        assert_eq!(
            question(&ask_signature(KEY, b"data", 2)[4..], KEY),
            Question::Sign { data: b"data".into(), flags: 2 }
        );
        assert_eq!(question(&ask_identities()[4..], KEY), Question::Identities);
    }

    #[test]
    fn a_public_key_is_one_line() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here";
        assert_eq!(public_key(&format!("# mine\n{line}\n")).unwrap().len(), 51);
        for wrong in ["", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-ed25519"] {
            assert_eq!(public_key(wrong), None, "{wrong}");
        }
        assert_eq!(public_key(&format!("{line}\n{line}\n")), None);
    }
}
