//! ImportKeyPair's material, in every form that it may have: no panic, and a key that is accepted is
//! printed as a line that is accepted again and is the same key.

#![no_main]

use cumulet_certs::import_public_key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|material: &[u8]| {
    let Ok(key) = import_public_key(material) else {
        return;
    };
    let line = key.openssh_line("comment");
    assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
    let again = import_public_key(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(
        (again.openssh_line("comment"), again.fingerprint()),
        (line, key.fingerprint())
    );
});
