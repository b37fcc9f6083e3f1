//! Names of public parameters, by which an operator's images are found: what one looks like, and how a request asks for
//! one. They are Systems Manager's names, of which those below `/aws/service/` are the cloud's own.

use crate::{Error, Result};

/// What all of them begin with.
pub const PUBLIC: &str = "/aws/service/";

/// Bytes of a name at the most. AWS takes 1,011; this is what a key of every database may have.
pub const MAX_NAME: usize = 255;

/// Levels of a name at the most, the last one among them, as on AWS.
pub const MAX_LEVELS: usize = 15;

/// The rule for a name that an operator gives.
///
/// # Errors
/// `InvalidParameter`.
pub fn check_name(name: &str) -> Result<()> {
    let refused = |reason: String| Err(Error::invalid("NAME", name, reason));
    if !name.starts_with(PUBLIC) {
        return refused(format!("public parameters begin with {PUBLIC}"));
    }
    if name.len() > MAX_NAME {
        return refused(format!("a name has at most {MAX_NAME} characters"));
    }
    if !is_path(name) {
        return refused("expecting levels of letters, digits and .-_ with one / between them".into());
    }
    if name.split('/').skip(1).count() > MAX_LEVELS {
        return refused(format!("a name has at most {MAX_LEVELS} levels"));
    }
    Ok(())
}

/// Whether a text is `/` and levels of letters, digits and `.-_` with one `/` between them.
pub fn is_path(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let level = |level: &str| !level.is_empty() && level.bytes().all(fine);
    text.strip_prefix('/')
        .is_some_and(|levels| levels.split('/').all(level))
}

/// Which state of a parameter is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector<'a> {
    /// `name:3`.
    Version(u64),
    /// `name:label`. Public parameters have none.
    Label(&'a str),
}

/// How a request asks for a parameter: by name or ARN, with or without a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Reference<'a> {
    pub name: &'a str,
    pub selector: Option<Selector<'a>>,
}

impl<'a> Reference<'a> {
    /// Reads one. What is another region's or another account's ARN is taken for a name, which nothing has.
    pub fn parse(text: &'a str, region: &str) -> Self {
        let local = text
            .strip_prefix("arn:aws:ssm:")
            .and_then(|rest| rest.strip_prefix(region))
            .and_then(|rest| rest.strip_prefix("::parameter"))
            .filter(|name| name.starts_with('/'));
        let whole = Reference {
            name: text,
            selector: None,
        };
        match local {
            None if text.starts_with("arn:") => whole,
            local => match local.unwrap_or(text).split_once(':') {
                None => Reference {
                    name: local.unwrap_or(text),
                    ..whole
                },
                Some((name, selector)) => Reference {
                    name,
                    selector: Some(match selector.parse() {
                        Ok(version) => Selector::Version(version),
                        Err(_) => Selector::Label(selector),
                    }),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_public_ones_in_the_form_of_aws() {
        let long = |length: usize| format!("{PUBLIC}{}", "x".repeat(length - PUBLIC.len()));
        let deep = |levels: usize| format!("/aws/service{}", "/x".repeat(levels - 2));
        for (name, fine) in [
            ("/aws/service/debian/12", true),
            ("/aws/service/a.b-c_D/9", true),
            (&long(MAX_NAME), true),
            (&long(MAX_NAME + 1), false),
            (&deep(MAX_LEVELS), true),
            (&deep(MAX_LEVELS + 1), false),
            ("/aws/service/", false),
            ("/aws/service", false),
            ("/aws/servicex/a", false),
            ("aws/service/a", false),
            ("/golden", false),
            ("/aws/service/a/", false),
            ("/aws/service//a", false),
            ("/aws/service/a b", false),
            ("/aws/service/a:1", false),
            ("/aws/service/ä", false),
            ("", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name:?}");
        }
    }

    #[test]
    fn a_reference_has_a_name_and_perhaps_a_selector() {
        let name = "/aws/service/debian/12";
        for (text, found, selector) in [
            (name, name, None),
            ("/aws/service/debian/12:3", name, Some(Selector::Version(3))),
            (
                "/aws/service/debian/12:stable",
                name,
                Some(Selector::Label("stable")),
            ),
            ("/aws/service/debian/12:", name, Some(Selector::Label(""))),
            ("/aws/service/debian/12:-1", name, Some(Selector::Label("-1"))),
            ("arn:aws:ssm:here::parameter/aws/service/debian/12", name, None),
            (
                "arn:aws:ssm:here::parameter/aws/service/debian/12:3",
                name,
                Some(Selector::Version(3)),
            ),
            (
                "arn:aws:ssm:there::parameter/aws/service/debian/12",
                "arn:aws:ssm:there::parameter/aws/service/debian/12",
                None,
            ),
            (
                "arn:aws:ssm:here:1:parameter/x",
                "arn:aws:ssm:here:1:parameter/x",
                None,
            ),
            ("", "", None),
        ] {
            let expected = Reference {
                name: found,
                selector,
            };
            assert_eq!(Reference::parse(text, "here"), expected, "{text:?}");
        }
    }
}
