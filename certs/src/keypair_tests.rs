//! Key pairs against vectors of `ssh-keygen` and `openssl`, and against the programs where present.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;

use super::*;

const RSA_1024: &str = include_str!("../testdata/rsa1024.test.pem");
const ED25519_PUB: &str = include_str!("../testdata/ed25519.pub");
/// The seed inside the private half of `testdata/ed25519.pub`.
const ED25519_SEED: &str = "b6c93acab4dad4dbaad9f7aeb750eed7c53751f06af313befc41738fb1a30cde";

#[test]
fn rsa_created_fingerprint_and_pem() {
    let key = rsa::RsaPrivateKey::from_pkcs1_pem(RSA_1024).unwrap();
    let pair = KeyPair::from_rsa(&key).unwrap();
    assert_eq!(
        pair.fingerprint,
        "f5:34:91:f4:1a:90:de:ee:51:8c:cb:4b:e2:f5:53:71:4e:04:1c:6f"
    );
    assert_eq!(
        pair.public.fingerprint(),
        "c4:71:5a:77:9f:40:bd:21:94:10:92:75:5d:7c:ad:4e"
    );
    assert_eq!(pair.private_pem.expose(), RSA_1024);
    let line = include_str!("../testdata/rsa1024.pub").trim_end();
    assert_eq!(pair.public.openssh_line("test rsa 1024"), line);
}

#[test]
fn ed25519_from_seed() {
    let seed: [u8; 32] = hex::decode(ED25519_SEED).unwrap().try_into().unwrap();
    let pair = KeyPair::from_ed25519_seed(&seed).unwrap();
    assert_eq!(pair.public.openssh_line(""), ED25519_PUB.trim_end());
    assert_eq!(pair.fingerprint, "yyxjylqasT/r4dEssnYjwDISGV5WPmDFOSdeZK7cN0w=");
    assert_eq!(pair.fingerprint, pair.public.fingerprint());
    assert!(
        pair.private_pem
            .expose()
            .starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    );
    assert!(
        pair.private_pem
            .expose()
            .ends_with("-----END OPENSSH PRIVATE KEY-----\n")
    );
}

#[test]
fn generated_pairs_are_of_the_right_kind_and_deterministic_under_a_seed() {
    for (key_type, begin) in [
        (KeyType::Rsa, "-----BEGIN RSA PRIVATE KEY-----\n"),
        (KeyType::Ed25519, "-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    ] {
        let generate = |seed| KeyPair::generate(key_type, &mut StdRng::seed_from_u64(seed)).unwrap();
        let pair = generate(1);
        assert_eq!(pair.public.key_type(), key_type);
        assert!(pair.private_pem.expose().starts_with(begin));
        assert_eq!(generate(1).fingerprint, pair.fingerprint);
        assert_ne!(generate(2).fingerprint, pair.fingerprint);
        assert!(
            !format!("{pair:?}").contains("PRIVATE KEY"),
            "the private half is not printed"
        );
        if key_type == KeyType::Rsa {
            let key = rsa::RsaPrivateKey::from_pkcs1_pem(pair.private_pem.expose()).unwrap();
            assert_eq!(key.n().bits(), RSA_BITS);
            key.validate().unwrap();
        }
        agrees_with_ssh_keygen(&pair);
    }
}

/// `ssh-keygen -y` reads our private key and prints our public key. Does nothing where there is no
/// `ssh-keygen`; the fixed vectors above hold everywhere.
fn agrees_with_ssh_keygen(pair: &KeyPair) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    file.write_all(pair.private_pem.expose().as_bytes()).unwrap();
    let Ok(output) = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&path).output() else {
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim_end(),
        pair.public.openssh_line("")
    );
}

#[test]
fn comments_stay_on_one_line() {
    let public = KeyPair::from_ed25519_seed(&[1; 32]).unwrap().public;
    let bare = public.openssh_line("");
    assert_eq!(public.openssh_line("my key"), format!("{bare} my key"));
    assert_eq!(
        public.openssh_line("a\nssh-rsa AAAA\r\tb\0"),
        format!("{bare} assh-rsa AAAAb")
    );
}
