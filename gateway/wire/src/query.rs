//! The parser of a Query request's form data: parsed once, sorted, and walked as a tree without building one.
//!
//! A key such as `BlockDeviceMapping.1.Ebs.VolumeSize` is a path. Sorting the keys with the dot as
//! the lowest character puts every subtree into one contiguous run, so a [`Node`] is only a slice of
//! parameters and the length of the path they share. Nothing is ever allocated by a list's index,
//! and the depth is bounded by the key's length and, in practice, by the shapes that are decoded.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::error::{WireError, WireErrorKind};

/// Most parameters that one request may have. The largest honest one names 1,000 resources, which is the
/// documented maximum, and adds filters, 50 tags in two parameters each, or the parameters of its signature.
pub const MAX_PARAMETERS: usize = 2_000;
/// Longest key, decoded, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// Highest index of a list's member. Indices only order the members, so gaps cost nothing; an index
/// that no request of [`MAX_PARAMETERS`] could need is a mistake or an attack, and is refused.
pub const MAX_LIST_INDEX: u64 = 99_999;

/// How lists are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EC2: `InstanceId.1`.
    Ec2,
    /// IAM and STS: `Tags.member.1`.
    Query,
}

#[derive(Clone, Debug)]
struct Param<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// The parameters of one request, sorted by path.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    params: Vec<Param<'a>>,
    protocol: Protocol,
}

impl<'a> Query<'a> {
    /// Parses `application/x-www-form-urlencoded` bytes: a body, or the query string of a GET.
    ///
    /// Strict: a broken escape, bytes that are not UTF-8, an empty key, a key that comes twice and
    /// more than [`MAX_PARAMETERS`] are refused. Empty pairs (`a=1&&b=2`, a final `&`) are skipped,
    /// and a key without `=` has the empty value, as signers read them too.
    pub fn parse(bytes: &'a [u8], protocol: Protocol) -> Result<Self, WireError> {
        let mut params = Vec::with_capacity(16);
        for pair in bytes.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            if params.len() == MAX_PARAMETERS {
                return Err(WireError::malformed(format!(
                    "The request has more than {MAX_PARAMETERS} parameters."
                )));
            }
            let (key, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            let key = decode(key)?;
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                return Err(WireError::malformed(format!(
                    "A parameter's name must have between 1 and {MAX_KEY_BYTES} bytes."
                )));
            }
            params.push(Param {
                key,
                value: decode(value)?,
            });
        }
        params.sort_by(|a, b| path_order(&a.key, &b.key));
        if let Some(twice) = params.windows(2).find(|w| w[0].key == w[1].key) {
            let key = &twice[0].key;
            return Err(WireError::new(
                WireErrorKind::InvalidQueryParameter,
                key,
                format!("The parameter {key} was given more than once."),
            ));
        }
        Ok(Self { params, protocol })
    }

    /// The value of exactly this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.params.binary_search_by(|p| path_order(&p.key, key)).ok()?;
        Some(&self.params[at].value)
    }

    /// The `Action`; absent or empty is `MissingAction`.
    pub fn action(&self) -> Result<&str, WireError> {
        self.get("Action").filter(|a| !a.is_empty()).ok_or_else(|| {
            WireError::new(
                WireErrorKind::MissingAction,
                "Action",
                "The request is missing an action or a required parameter.",
            )
        })
    }

    /// All parameters, sorted by path: for signing (SigV2) and for hashing a request's meaning.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|p| (p.key.as_ref(), p.value.as_ref()))
    }

    /// How many parameters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The whole request as a node.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node {
            params: &self.params,
            depth: 0,
            protocol: self.protocol,
        }
    }
}

/// One point of the tree of parameters: a path and everything under it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'q> {
    params: &'q [Param<'q>],
    /// Length in bytes of the shared path; 0 only for the root, as no key is empty.
    depth: usize,
    protocol: Protocol,
}

impl<'q> Node<'q> {
    /// The path as the client spelled it; empty for the root.
    #[must_use]
    pub fn path(&self) -> &'q str {
        self.params.first().map_or("", |p| &p.key[..self.depth])
    }

    /// The path of a member of this node, present or not.
    #[must_use]
    pub fn path_of(&self, member: &str) -> String {
        match self.path() {
            "" => member.to_owned(),
            path => format!("{path}.{member}"),
        }
    }

    /// Whether the request has nothing under this node except perhaps an empty value.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self.params {
            [] => true,
            [only] => self.depth > 0 && only.key.len() == self.depth && only.value.is_empty(),
            _ => false,
        }
    }

    /// The value, if the node is a leaf; a parameter below it is unknown.
    pub fn scalar(&self) -> Result<&'q str, WireError> {
        match self.params.iter().find(|p| p.key.len() > self.depth) {
            Some(below) => Err(WireError::unknown(&below.key)),
            None => Ok(self.params.first().map_or("", |p| &p.value)),
        }
    }

    /// The members below this node in path order; a non-empty value of its own is unknown.
    pub fn members(&self) -> Result<Members<'q>, WireError> {
        let mut rest = self.params;
        if self.depth > 0
            && let [own, below @ ..] = rest
            && own.key.len() == self.depth
        {
            if !own.value.is_empty() {
                return Err(WireError::unknown(&own.key));
            }
            rest = below;
        }
        let start = if self.depth == 0 { 0 } else { self.depth + 1 };
        Ok(Members {
            rest,
            start,
            protocol: self.protocol,
        })
    }

    /// The members of a list, in the numeric order of their indices.
    pub fn list(&self) -> Result<Vec<(u64, Node<'q>)>, WireError> {
        let mut items = Vec::new();
        for (name, node) in self.members()? {
            if self.protocol == Protocol::Query && name == "member" {
                for (index, item) in node.members()? {
                    items.push((list_index(index, &item)?, item));
                }
            } else if self.protocol == Protocol::Query {
                return Err(WireError::unknown(node.first_key()));
            } else {
                items.push((list_index(name, &node)?, node));
            }
        }
        items.sort_by_key(|(index, _)| *index);
        if let Some(twice) = items.windows(2).find(|w| w[0].0 == w[1].0) {
            let path = twice[1].1.path();
            return Err(WireError::new(
                WireErrorKind::InvalidQueryParameter,
                path,
                format!("The list index of {path} was given more than once."),
            ));
        }
        Ok(items)
    }

    /// The one member of a list that stands for a scalar (`InstanceId.1`), or the node itself.
    pub fn one(&self) -> Result<Self, WireError> {
        if self.params.first().is_none_or(|own| own.key.len() == self.depth) {
            return Ok(*self);
        }
        match self.list()?[..] {
            [(_, only)] => Ok(only),
            [_, (_, second), ..] => Err(WireError::new(
                WireErrorKind::InvalidParameterValue,
                second.first_key(),
                format!("The parameter {} takes one value.", self.path()),
            )),
            [] => Ok(*self),
        }
    }

    /// Refuses a member that the shape does not have, except the parameters that every request may
    /// carry at its top: the action, the version and the signature.
    pub fn refuse(&self, name: &str, member: &Node<'_>) -> Result<(), WireError> {
        if self.depth == 0 && is_common(name) {
            return member.scalar().map(|_| ());
        }
        Err(WireError::unknown(member.first_key()))
    }

    /// The first full key under this node: what to name when the node itself is not known.
    #[must_use]
    pub fn first_key(&self) -> &'q str {
        self.params.first().map_or("", |p| &p.key)
    }

    /// Every full key and value under this node, its own included.
    pub fn leaves(&self) -> impl Iterator<Item = (&'q str, &'q str)> + use<'q> {
        self.params.iter().map(|p| (p.key.as_ref(), p.value.as_ref()))
    }
}

/// Iterator over the direct members of a [`Node`].
#[derive(Clone, Debug)]
pub struct Members<'q> {
    rest: &'q [Param<'q>],
    start: usize,
    protocol: Protocol,
}

impl<'q> Iterator for Members<'q> {
    type Item = (&'q str, Node<'q>);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.rest.first()?;
        let below = &first.key[self.start..];
        let name = below.split_once('.').map_or(below, |(name, _)| name);
        let depth = self.start + name.len();
        let same = |p: &Param<'_>| {
            p.key.get(self.start..depth) == Some(name)
                && matches!(p.key.as_bytes().get(depth), None | Some(b'.'))
        };
        let run = self.rest.iter().take_while(|p| same(p)).count();
        let (params, rest) = self.rest.split_at(run);
        self.rest = rest;
        Some((
            name,
            Node {
                params,
                depth,
                protocol: self.protocol,
            },
        ))
    }
}

/// Parameters of the protocol itself, which belong to no operation.
fn is_common(name: &str) -> bool {
    const COMMON: [&str; 9] = [
        "Action",
        "Version",
        "AWSAccessKeyId",
        "Signature",
        "SignatureMethod",
        "SignatureVersion",
        "Timestamp",
        "Expires",
        "SecurityToken",
    ];
    COMMON.contains(&name) || name.get(..6).is_some_and(|p| p.eq_ignore_ascii_case("X-Amz-"))
}

fn list_index(text: &str, node: &Node<'_>) -> Result<u64, WireError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WireError::unknown(node.first_key()));
    }
    // Digits only, so the one way to fail is to be too large.
    match text.parse::<u64>() {
        Ok(index) if index <= MAX_LIST_INDEX => Ok(index),
        _ => {
            let expected = format!("a list index of at most {MAX_LIST_INDEX}");
            Err(WireError::invalid(node.first_key(), text, &expected))
        }
    }
}

/// Orders keys so that each subtree is one run: by bytes, the dot before everything else.
fn path_order(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'.' { 0 } else { u16::from(byte) + 1 };
    a.bytes().map(rank).cmp(b.bytes().map(rank))
}

/// Decodes one form component; borrows when nothing is escaped.
fn decode(raw: &[u8]) -> Result<Cow<'_, str>, WireError> {
    let not_utf8 = |_| WireError::malformed("The request is not valid UTF-8.");
    if !raw.iter().any(|b| matches!(b, b'%' | b'+')) {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(not_utf8);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(WireError::malformed("The request has a broken percent escape.")),
            },
            other => *other,
        });
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|e| not_utf8(e.utf8_error()))
}

fn hex_digit(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
