//! Canonical forms and what is refused (S12).

use proptest::prelude::*;

use super::*;

fn query(text: &str) -> Result<String, AuthError> {
    let mut out = Vec::new();
    canonical_query(&mut out, pairs(text.as_bytes()), "X-Amz-Signature")?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn canonical_queries() {
    for (raw, canonical) in [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a", "a="),
        ("a=b=c", "a=b%3Dc"),
        ("a=x+y", "a=x%20y"),
        ("a=x%20y", "a=x%20y"),
        ("a=x%2By", "a=x%2By"),
        ("a=%2f%2F", "a=%2F%2F"),
        ("a=%7E~%2D", "a=~~-"),
        ("a=%252F", "a=%252F"),
        ("a=1;b=2", "a=1%3Bb%3D2"),
        ("a=*'()!", "a=%2A%27%28%29%21"),
        ("a=%C3%A9", "a=%C3%A9"),
        ("é=漢", "%C3%A9=%E6%BC%A2"),
        ("&&a=1&", "a=1"),
        ("B=1&a=1&A=1", "A=1&B=1&a=1"),
        ("Filter.10=1&Filter.1=2", "Filter.1=2&Filter.10=1"),
        ("X-Amz-Signature=x&a=1", "a=1"),
        ("%58-Amz-Signature=x&a=1", "a=1"),
        ("x-amz-signature=x&a=1", "a=1&x-amz-signature=x"),
    ] {
        assert_eq!(query(raw).unwrap(), canonical, "{raw}");
    }
}

#[test]
fn unreadable_queries_are_refused() {
    for raw in [
        "a=%",
        "a=%4",
        "a=%zz",
        "%=1",
        "a=%+1",
        "a=%-1",
        "a=%C0%AF",
        "a=%E0%80%AF",
        "a=%FF",
        "a=%00",
        "%00=1",
        "a=\0",
    ] {
        assert!(matches!(query(raw), Err(AuthError::MalformedQuery(_))), "{raw}");
    }
}

#[test]
fn canonical_paths() {
    for (raw, canonical) in [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//a//b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("/./", "/"),
        ("/a%20b", "/a%2520b"),
        ("/a%2Fb", "/a%252Fb"),
        ("/@x=~", "/%40x%3D~"),
    ] {
        let mut out = Vec::new();
        canonical_path(&mut out, raw);
        assert_eq!(String::from_utf8(out).unwrap(), canonical, "{raw}");
    }
}

proptest! {
    #[test]
    fn encoding_round_trips(text in "[^\0]{0,40}") {
        let mut encoded = Vec::new();
        encode_into(&mut encoded, text.as_bytes());
        prop_assert!(encoded.iter().all(u8::is_ascii));
        prop_assert_eq!(decode(&encoded).unwrap(), text);
    }

    /// The canonical form of a canonical form is itself.
    #[test]
    fn canonical_is_a_fixed_point(text in "[ -~é]{0,60}") {
        if let Ok(once) = query(&text) {
            prop_assert_eq!(query(&once).unwrap(), once);
        }
    }

    #[test]
    fn any_bytes_are_safe(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut out = Vec::new();
        let _ = canonical_query(&mut out, pairs(&text), "");
        let _ = folded(&text).count();
    }
}
