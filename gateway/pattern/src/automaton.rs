//! The bit-parallel automaton of a pattern (Navarro and Raffinot, "Flexible Pattern Matching in Strings",
//! 4.2): a state for each place in the pattern, a bit for each state.

use super::{MAX_CHARS, Token};

/// Bits of a word.
const BITS: usize = 128;

/// Words that hold a bit for each state of the longest pattern.
const WORDS: usize = MAX_CHARS / BITS + 1;

/// Sets of states.
type States = [u128; WORDS];

/// Words of a table that has a row for each character; larger ones, which are mostly empty, are kept as a list.
const TABLE: usize = 64;

/// Where a character stands: some of the states from which it leads to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    c: char,
    word: u16,
    bits: u128,
}

/// See the module. From state `n` the token `n` leads to the state after it; the last state accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Automaton {
    /// The places of each character, sorted.
    places: Box<[Place]>,
    /// The same as rows of words, with the character of each row, sorted; empty where that is too large.
    rows: Box<[(char, Box<[u128]>)]>,
    /// From these, any character leads to the next state, and none does too.
    maybe: Box<[u128]>,
    /// In these one may stay, whatever comes.
    stay: Box<[u128]>,
    /// The number of the state that accepts.
    last: usize,
    /// Bytes of a text that the pattern's own characters take.
    least: usize,
}

impl Automaton {
    pub(super) fn new(tokens: &[Token]) -> Self {
        let (mut maybe, mut stay) = ([0; WORDS], [0; WORDS]);
        let (mut places, mut last, mut least) = (Vec::new(), 0, 0);
        let mut rest = tokens;
        while let Some(first) = rest.first() {
            if let Token::Char(c) = first {
                places.push(Place {
                    c: *c,
                    word: (last / BITS) as u16,
                    bits: 1 << (last % BITS),
                });
                (last, least, rest) = (last + 1, least + c.len_utf8(), &rest[1..]);
                continue;
            }
            // Wildcards in a row: with a `*` among them they are one, else there are so many `?`.
            let run = rest.iter().take_while(|token| !matches!(token, Token::Char(_)));
            let run = &rest[..run.count()];
            rest = &rest[run.len()..];
            if run.contains(&Token::Any) {
                stay[last / BITS] |= 1 << (last % BITS);
                continue;
            }
            for _ in run {
                maybe[last / BITS] |= 1 << (last % BITS);
                last += 1;
            }
        }
        places.sort_unstable();
        places.dedup_by(|next, kept| {
            let same = (next.c, next.word) == (kept.c, kept.word);
            if same {
                kept.bits |= next.bits;
            }
            same
        });
        let words = last / BITS + 1;
        Automaton {
            rows: rows(&places, &maybe[..words]),
            places: places.into(),
            maybe: maybe[..words].into(),
            stay: stay[..words].into(),
            last,
            least,
        }
    }

    /// Whether the whole of `text` leads to the last state.
    pub(super) fn matches(&self, text: &str, steps: &mut u64) -> bool {
        *steps += 1;
        if text.len() < self.least {
            return false;
        }
        let (word, bit) = (self.last / BITS, 1 << (self.last % BITS));
        // What is reached and can be stayed in to the end needs no more text.
        let for_good = self.stay[word] & bit;
        let mut at: States = [0; WORDS];
        at[0] = 1;
        // The words that have a state.
        let mut on = (0, self.skip(&mut at));
        for c in text.chars() {
            if at[word] & for_good != 0 {
                return true;
            }
            *steps += (on.1 - on.0) as u64 + 2;
            let next = match self.rows.iter().find(|(known, _)| *known == c) {
                Some((_, row)) => self.advance(&mut at, on, row),
                None => {
                    // Of a character that there is no row for, or that is not in the pattern.
                    let mut row = [0; WORDS];
                    row[..self.maybe.len()].copy_from_slice(&self.maybe);
                    if self.rows.is_empty() {
                        for place in self.places_of(c) {
                            row[usize::from(place.word)] |= place.bits;
                        }
                    }
                    self.advance(&mut at, on, &row)
                }
            };
            match next {
                Some(next) => on = next,
                None => return false,
            }
        }
        at[word] & bit != 0
    }

    /// From the states that are on to the next ones: by a character, which leads on from the states of `row`,
    /// by staying, and then by what needs no character: in a row of `?` that is every state from the first
    /// one that is on, and the carry of an addition runs through them. Answers the words that have a state;
    /// `None` where there is no way left.
    #[inline]
    fn advance(
        &self,
        at: &mut States,
        (mut low, mut high): (usize, usize),
        row: &[u128],
    ) -> Option<(usize, usize)> {
        let words = self.stay.len();
        let (at, row) = (&mut at[..words], &row[..words]);
        let (maybe, stay) = (&self.maybe[..words], &self.stay[..words]);
        let (mut shifted, mut added) = (0, false);
        for word in low..words {
            if word > high {
                if shifted == 0 && !added {
                    break;
                }
                high = word;
            }
            let leave = at[word] & row[word];
            let next = leave << 1 | shifted | (at[word] & stay[word]);
            shifted = leave >> (BITS - 1);
            let (sum, first) = maybe[word].overflowing_add(next & maybe[word]);
            let (sum, second) = sum.overflowing_add(u128::from(added));
            added = first | second;
            at[word] = next | (sum ^ maybe[word]);
        }
        while at[low] == 0 {
            if low == high {
                return None;
            }
            low += 1;
        }
        while at[high] == 0 {
            high -= 1;
        }
        Some((low, high))
    }

    /// What is reached before any character; the highest word with a state.
    fn skip(&self, at: &mut States) -> usize {
        let (mut added, mut highest) = (false, 0);
        for (word, (at, maybe)) in at.iter_mut().zip(&self.maybe).enumerate() {
            let (sum, first) = maybe.overflowing_add(*at & maybe);
            let (sum, second) = sum.overflowing_add(u128::from(added));
            added = first | second;
            *at |= sum ^ maybe;
            if *at != 0 {
                highest = word;
            }
        }
        highest
    }

    fn places_of(&self, c: char) -> &[Place] {
        let start = self.places.partition_point(|place| place.c < c);
        let count = self.places[start..]
            .iter()
            .take_while(|place| place.c == c)
            .count();
        &self.places[start..start + count]
    }
}

/// For each character the states from which it leads on, unless they are too many.
fn rows(places: &[Place], maybe: &[u128]) -> Box<[(char, Box<[u128]>)]> {
    let mut rows: Vec<(char, Box<[u128]>)> = Vec::new();
    for place in places {
        if rows.last().is_none_or(|(c, _)| *c != place.c) {
            if (rows.len() + 1) * maybe.len() > TABLE {
                return Box::default();
            }
            rows.push((place.c, maybe.into()));
        }
        if let Some((_, row)) = rows.last_mut() {
            row[usize::from(place.word)] |= place.bits;
        }
    }
    rows.into()
}
