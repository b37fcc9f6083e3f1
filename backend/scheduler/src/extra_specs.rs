//! The operators of extra specifications, as Nova has them (`nova/scheduler/filters/extra_specs_ops.py`): the
//! first word of a requirement is the operator, and without one the texts must be equal.

/// Whether a value is what a requirement asks for: `>= 4`, `s== abc`, `<in> sse`, `<all-in> aes mmx`,
/// `<or> a <or> b`.
pub fn matches(value: &str, requirement: &str) -> bool {
    let mut words = requirement.split_whitespace();
    let first = words.next().unwrap_or("");
    if first == "<or>" {
        return any_of(value, words);
    }
    let text: fn(&str, &str) -> bool = match first {
        "=" | ">=" => |a, b| numbers(a, b, |a, b| a >= b),
        "<=" => |a, b| numbers(a, b, |a, b| a <= b),
        "==" => |a, b| numbers(a, b, |a, b| a == b),
        "!=" => |a, b| numbers(a, b, |a, b| a != b),
        "s==" => |a, b| a == b,
        "s!=" => |a, b| a != b,
        "s<" => |a, b| a < b,
        "s<=" => |a, b| a <= b,
        "s>" => |a, b| a > b,
        "s>=" => |a, b| a >= b,
        "<in>" => |a, b| a.contains(b),
        "<all-in>" => {
            let mut words = words.peekable();
            return words.peek().is_some() && words.all(|word| value.contains(word));
        }
        _ => return value == requirement,
    };
    words.next().is_some_and(|word| text(value, word))
}

/// `v1 <or> v2 <or> v3`: every other word is a value.
fn any_of<'a>(value: &str, mut words: impl Iterator<Item = &'a str>) -> bool {
    while let Some(word) = words.next() {
        if word == value {
            return true;
        }
        words.next(); // the next `<or>`
    }
    false
}

/// What is not a number compares with nothing.
fn numbers(a: &str, b: &str, compare: fn(f64, f64) -> bool) -> bool {
    match (a.trim().parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => compare(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nova's own tests (`test_extra_specs_ops.py`), and what they leave out.
    #[test]
    fn operators_are_novas() {
        for (value, requirement, expected) in [
            ("1", "1", true),
            ("", "1", false),
            ("3", "1", false),
            ("222", "2", false),
            ("4", "> 2", false), // no operator of Nova's
            ("123", "= 123", true),
            ("124", "= 123", true),
            ("34", "= 234", false),
            ("34", "=", false),
            ("123", "s== 123", true),
            ("1234", "s== 123", false),
            ("1234", "s!= 123", true),
            ("123", "s!= 123", false),
            ("1000", "s>= 234", false),
            ("234", "s>= 1000", true),
            ("2", "s<= 12", false),
            ("12", "s<= 2", true),
            ("12", "s> 2", false),
            ("2", "s< 12", false),
            ("12311321", "<in> 11", true),
            ("12310321", "<in> 11", false),
            ("12310321", "<in> 11 <in>", false),
            ("12", "<or> 11 <or> 12", true),
            ("13", "<or> 11 <or> 12", false),
            ("13", "<or> 11 <or> 12 <or>", false),
            ("2", "<= 10", true),
            ("3", "<= 2", false),
            ("3", ">= 1", true),
            ("2", ">= 3", false),
            ("2", "== 2.0", true),
            ("2", "!= 3", true),
            ("x", "!= 3", false),
            ("aes mmx aux", "<all-in> aes mmx", true),
            ("aes mmx aux", "<all-in> aes sse", false),
            ("aes mmx aux", "<all-in>", false),
        ] {
            assert_eq!(matches(value, requirement), expected, "{value:?} {requirement:?}");
        }
    }
}
