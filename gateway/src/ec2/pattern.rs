//! Filter values as patterns: `*` is any text, `?` is one character or none, and a backslash takes the
//! next character as it is (EC2 user guide, "Filter your resources").

/// A compiled filter value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// No wildcards: the text itself.
    Literal(String),
    /// With wildcards.
    Wild(Vec<Token>),
}

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Char(char),
    /// Any text, also none.
    Any,
    /// One character or none.
    Maybe,
}

impl Pattern {
    /// Compiles a value. A backslash at the end stands for itself.
    pub(crate) fn new(text: &str) -> Self {
        let mut tokens = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        let mut literal = true;
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::Maybe,
                '\\' => Token::Char(chars.next().unwrap_or('\\')),
                other => Token::Char(other),
            });
            literal &= matches!(tokens.last(), Some(Token::Char(_)));
        }
        if !literal {
            tokens.dedup_by(|a, b| *a == Token::Any && *b == Token::Any);
            return Pattern::Wild(tokens);
        }
        let only_chars = tokens.iter().filter_map(|token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        });
        Pattern::Literal(only_chars.collect())
    }

    /// The text that alone matches, if there is only one.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self {
            Pattern::Literal(text) => Some(text),
            Pattern::Wild(_) => None,
        }
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Literal(literal) => literal == text,
            Pattern::Wild(tokens) => wild(tokens, text),
        }
    }
}

/// Follows all ways through the pattern at once, so that no pattern costs more than its length times
/// the text's.
fn wild(tokens: &[Token], text: &str) -> bool {
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    skip(tokens, &mut at);
    for c in text.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| at[*i]) {
            match token {
                Token::Char(wanted) => next[i + 1] |= *wanted == c,
                Token::Any => next[i] = true,
                Token::Maybe => next[i + 1] = true,
            }
        }
        skip(tokens, &mut next);
        at = next;
    }
    at[tokens.len()]
}

/// Adds the places reached without a character.
fn skip(tokens: &[Token], at: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        if at[i] && matches!(token, Token::Any | Token::Maybe) {
            at[i + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_cases() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("*", "", true),
            ("*", "anything", true),
            ("**", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "ac", true),
            ("a*c", "acd", false),
            ("database????", "database", true),
            ("database????", "database1234", true),
            ("database????", "database12345", false),
            ("?", "", true),
            ("?", "é", true),
            ("?", "éé", false),
            (r"\*amazon\?\\", r"*amazon?\", true),
            (r"\*amazon\?\\", r"xamazon?\", false),
            (r"\a", "a", true),
            (r"end\", r"end\", true),
            ("[abc]", "a", false),
            ("[abc]", "[abc]", true),
            ("2021-09-29T*", "2021-09-29T10:00:00.000Z", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                expected,
                "{pattern:?} {text:?}"
            );
        }
    }

    #[test]
    fn only_texts_without_wildcards_are_literal() {
        assert_eq!(Pattern::new(r"a\*b").literal(), Some("a*b"));
        assert_eq!(Pattern::new("a*b").literal(), None);
    }

    /// The meaning, said in the plainest way.
    fn slow(tokens: &[Token], text: &[char]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((Token::Char(c), more)), rest) => rest.is_some_and(|(d, text)| c == d && slow(more, text)),
            (Some((Token::Any, more)), rest) => {
                slow(more, text) || rest.is_some_and(|(_, text)| slow(tokens, text))
            }
            (Some((Token::Maybe, more)), rest) => {
                slow(more, text) || rest.is_some_and(|(_, text)| slow(more, text))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_meaning(pattern in "[ab*?\\\\]{0,8}", text in "[ab*]{0,8}") {
            let compiled = Pattern::new(&pattern);
            let chars: Vec<char> = text.chars().collect();
            let expected = match &compiled {
                Pattern::Literal(literal) => *literal == text,
                Pattern::Wild(tokens) => slow(tokens, &chars),
            };
            prop_assert_eq!(compiled.matches(&text), expected);
        }
    }
}
