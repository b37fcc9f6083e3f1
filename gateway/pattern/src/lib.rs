//! Filter values as patterns: `*` is any text, `?` is one character or none, and a backslash takes the next
//! character as it is (EC2 user guide, "Filter your resources").
//!
//! Matching takes no memory, and never more steps than the pattern's length times the text's, divided by
//! 128: all ways through a pattern are followed at once, as the bits of a few words. What was done is
//! counted, so that a request has a budget. A crate of its own, so that it is fast in tests too: what a
//! pattern may cost is tested by the clock.

mod automaton;

use automaton::Automaton;

/// Characters of a pattern at the most.
pub const MAX_CHARS: usize = 512;

/// A pattern with more than [`MAX_CHARS`] characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// A compiled filter value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// No wildcards: the text itself.
    Literal(String),
    /// With wildcards.
    Wild(Wild),
}

/// A pattern that several texts match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wild(Automaton);

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(char),
    /// Any text, also none.
    Any,
    /// One character or none.
    Maybe,
}

impl Pattern {
    /// Compiles a value. A backslash at the end stands for itself.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(text: &str) -> Result<Self, TooLong> {
        let tokens = tokens(text)?;
        if tokens.iter().all(|token| matches!(token, Token::Char(_))) {
            let only_chars = tokens.iter().filter_map(|token| match token {
                Token::Char(c) => Some(*c),
                _ => None,
            });
            return Ok(Pattern::Literal(only_chars.collect()));
        }
        Ok(Pattern::Wild(Wild(Automaton::new(&tokens))))
    }

    /// The text that alone matches, if there is only one.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self {
            Pattern::Literal(text) => Some(text),
            Pattern::Wild(_) => None,
        }
    }

    /// Whether the whole of `text` matches. The steps that it took are added to `steps`.
    #[must_use]
    pub fn matches(&self, text: &str, steps: &mut u64) -> bool {
        match self {
            Pattern::Literal(literal) => {
                *steps += 1;
                literal == text
            }
            Pattern::Wild(wild) => wild.matches(text, steps),
        }
    }
}

impl Wild {
    /// Whether the whole of `text` matches. The steps that it took are added to `steps`: some nanoseconds
    /// each.
    #[must_use]
    pub fn matches(&self, text: &str, steps: &mut u64) -> bool {
        self.0.matches(text, steps)
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, TooLong> {
    let mut tokens = Vec::with_capacity(text.len().min(MAX_CHARS));
    let mut chars = text.chars();
    let mut count = 0;
    while let Some(c) = chars.next() {
        count += 1;
        if count > MAX_CHARS {
            return Err(TooLong);
        }
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::Maybe,
            '\\' => match chars.next() {
                Some(next) => {
                    count += 1;
                    Token::Char(next)
                }
                None => Token::Char('\\'),
            },
            other => Token::Char(other),
        });
    }
    if count > MAX_CHARS {
        return Err(TooLong);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests;
