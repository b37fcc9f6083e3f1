//! Metadata requests of a guest: a path and a token.
//!
//! Nothing panics, slashes don't matter, a key has no empty segment, and no token verifies but ours.

#![no_main]

// The modules are private to the metadata crate, and need nothing else of it.
#[path = "../../metadata/src/path.rs"]
#[allow(dead_code, unreachable_pub)]
mod path;
#[path = "../../metadata/src/version.rs"]
#[allow(dead_code, unreachable_pub)]
mod version;

use cumulet_certs::ImdsTokenKey;
use libfuzzer_sys::fuzz_target;
use path::Location;

fuzz_target!(|text: &str| {
    let slashed = format!("/{text}");
    let location = path::locate(&slashed);
    let doubled = format!("//{}/", slashed.replace('/', "//"));
    assert_eq!(location, path::locate(&doubled));
    if let Location::Tree(_, key) = &location {
        assert!(!key.starts_with('/') && !key.ends_with('/') && !key.contains("//"), "{key:?}");
    }
    path::locate(text);
    assert!(ImdsTokenKey::from_bytes([7; 32], 1).verify(text, 0).is_err());
});
