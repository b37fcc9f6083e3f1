//! Every accepted format, and what is refused with which error.

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::*;
use crate::keypair::KeyType;

const RSA_2048: &str = include_str!("../testdata/rsa2048.pub");
const RSA_2048_RFC4716: &str = include_str!("../testdata/rsa2048.rfc4716");
const RSA_2048_DER: &str = include_str!("../testdata/rsa2048.der.b64");
const RSA_2048_MD5: &str = "69:b9:e9:bb:d8:c4:5a:eb:94:a3:b9:ea:f4:e3:9e:c1";
const RSA_3072_MD5: &str = "26:5b:13:18:f2:98:56:a3:10:05:8f:9c:35:38:25:27";
const ED25519: &str = include_str!("../testdata/ed25519.pub");
const ED25519_RFC4716: &str = include_str!("../testdata/ed25519.rfc4716");
const ED25519_SHA256: &str = "yyxjylqasT/r4dEssnYjwDISGV5WPmDFOSdeZK7cN0w=";

#[test]
fn accepted_formats() {
    let rsa_1024 = include_str!("../testdata/rsa1024.pub");
    let rsa_4096 = include_str!("../testdata/rsa4096.pub");
    let bare: String = RSA_2048.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let crlf = RSA_2048_RFC4716.replace('\n', "\r\n");
    let one_line_der: String = RSA_2048_DER.split_whitespace().collect();
    let raw_der = STANDARD.decode(&one_line_der).unwrap();
    let rsa_3072 = include_str!("../testdata/rsa3072.pub");
    let unpadded = rsa_3072.replacen('=', "", 1);
    assert_ne!(unpadded, rsa_3072);
    let table: [(&[u8], KeyType, &str); 12] = [
        (
            rsa_1024.as_bytes(),
            KeyType::Rsa,
            "c4:71:5a:77:9f:40:bd:21:94:10:92:75:5d:7c:ad:4e",
        ),
        (RSA_2048.as_bytes(), KeyType::Rsa, RSA_2048_MD5),
        (rsa_3072.as_bytes(), KeyType::Rsa, RSA_3072_MD5),
        (
            rsa_4096.as_bytes(),
            KeyType::Rsa,
            "d1:db:37:05:d8:03:94:4f:44:3b:25:6a:f9:6c:51:14",
        ),
        (bare.as_bytes(), KeyType::Rsa, RSA_2048_MD5),
        (RSA_2048_RFC4716.as_bytes(), KeyType::Rsa, RSA_2048_MD5),
        (crlf.as_bytes(), KeyType::Rsa, RSA_2048_MD5),
        (RSA_2048_DER.as_bytes(), KeyType::Rsa, RSA_2048_MD5),
        (unpadded.as_bytes(), KeyType::Rsa, RSA_3072_MD5),
        (&raw_der, KeyType::Rsa, RSA_2048_MD5),
        (ED25519.as_bytes(), KeyType::Ed25519, ED25519_SHA256),
        (ED25519_RFC4716.as_bytes(), KeyType::Ed25519, ED25519_SHA256),
    ];
    for (material, key_type, fingerprint) in table {
        let key = import_public_key(material).unwrap();
        assert_eq!((key.key_type(), key.fingerprint()), (key_type, fingerprint));
    }
    assert_eq!(
        import_public_key(RSA_2048_DER.as_bytes())
            .unwrap()
            .openssh_line(""),
        bare
    );
    assert_eq!(
        import_public_key(RSA_2048_RFC4716.as_bytes())
            .unwrap()
            .openssh_line(""),
        bare
    );
}

#[test]
fn refused_material() {
    let algorithm = |name: &str| ImportError::Algorithm(name.to_owned());
    let ed_blob = ED25519.split(' ').nth(1).unwrap();
    let two_lines = format!("{}\n{RSA_2048}", RSA_2048.trim_end());
    let cut = &RSA_2048[..200];
    let mislabelled = format!("ssh-rsa {ed_blob}");
    let with_options = format!("command=\"sh\" {ED25519}");
    let trailing = {
        let mut blob = STANDARD.decode(ed_blob).unwrap();
        blob.push(0);
        format!("ssh-ed25519 {}", STANDARD.encode(blob))
    };
    let pem = include_str!("../testdata/rsa1024.test.pem");
    let unfinished = RSA_2048_RFC4716.replace("END", "FIN");
    let table: [(&str, ImportError); 16] = [
        (include_str!("../testdata/dsa.pub"), algorithm("ssh-dss")),
        (
            include_str!("../testdata/ecdsa.pub"),
            algorithm("ecdsa-sha2-nistp256"),
        ),
        (pem, ImportError::PrivateKey),
        ("", ImportError::Format),
        ("ssh-rsa", ImportError::Format),
        ("ssh-rsa ", ImportError::Format),
        ("ssh-rsa AAAA", ImportError::Format),
        ("ssh-rsa not base64!", ImportError::Format),
        ("bm90IGEga2V5", ImportError::Format),
        (&two_lines, ImportError::Format),
        (cut, ImportError::Format),
        (&mislabelled, ImportError::Format),
        (&with_options, ImportError::Format),
        (&trailing, ImportError::Format),
        (&unfinished, ImportError::Format),
        (&"A".repeat(MAX_MATERIAL + 1), ImportError::TooLong),
    ];
    for (material, error) in table {
        assert_eq!(import_public_key(material.as_bytes()), Err(error), "{material}");
    }
    assert_eq!(
        import_public_key(&[0x30, 0x82, 0xff, 0xff]),
        Err(ImportError::Format)
    );
    assert_eq!(import_public_key(&[0xff, 0xfe]), Err(ImportError::Format));
}

#[test]
fn other_lengths_of_rsa_are_named() {
    let part = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    };
    for bits in [512, 1016, 1536, 2040, 3064, 3080, 8192] {
        let modulus = [&[0], vec![0xff; bits / 8].as_slice()].concat();
        let blob = [part(b"ssh-rsa"), part(&[1, 0, 1]), part(&modulus)].concat();
        let line = format!("ssh-rsa {}", STANDARD.encode(blob));
        let refused = import_public_key(line.as_bytes());
        assert_eq!(refused, Err(ImportError::RsaBits(bits)), "{bits}");
    }
}

#[test]
fn rsa_numbers_are_checked() {
    // 2048 bits, but an exponent that no RSA key can have.
    let key = import_public_key(RSA_2048.as_bytes()).unwrap();
    let line = key.openssh_line("");
    let blob = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
    assert_eq!(&blob[11..18], &[0, 0, 0, 3, 1, 0, 1], "the exponent 65537");
    for exponent in [[0_u8, 0, 0], [0, 0, 1], [0xff, 0xff, 0xff]] {
        let mut blob = blob.clone();
        blob[15..18].copy_from_slice(&exponent);
        let line = format!("ssh-rsa {}", STANDARD.encode(blob));
        assert_eq!(
            import_public_key(line.as_bytes()),
            Err(ImportError::Format),
            "{exponent:?}"
        );
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(material in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = import_public_key(&material);
    }

    #[test]
    fn damaged_blobs_never_panic(index in 0_usize..270, value in any::<u8>(), cut in 0_usize..280) {
        let mut blob = STANDARD.decode(RSA_2048.split(' ').nth(1).unwrap()).unwrap();
        blob[index] = value;
        blob.truncate(cut);
        let _ = import_public_key(format!("ssh-rsa {}", STANDARD.encode(blob)).as_bytes());
    }
}
