//! The text rules: what a file's text must and must not have.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

use super::Finding;
use super::tree::{Source, Tree};

/// Macros that say that something is not done.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Where somebody works is nobody else's business, and exists nowhere else. Written in halves, so that
/// this file passes its own rule.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("/tmp", "/w/"),
    // Two checkouts share what is built, so that a path that is compiled in may be the other's. A test finds the
    // variable in its environment.
    concat!("env!(\"CARGO_MANI", "FEST_DIR\")"),
];

/// Likewise, but the guests that tests run have homes of their own.
const HOMES: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/")];
const GUESTS: &str = "tests/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        findings.extend(opening(source));
        findings.extend(unfinished(source));
    }
    for file in &tree.texts {
        findings.extend(places(&file.path, &file.text));
    }
    findings
}

/// Every file opens by saying what it is for.
fn opening(source: &Source) -> Option<Finding> {
    let what = "must open with a //! line that says what it is for";
    (!source.text.starts_with("//! ")).then(|| Finding::at(&source.path, what))
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let mut finder = Unfinished(Vec::new());
    finder.visit_file(&source.syntax);
    let finding = |(line, name)| Finding::at(format!("{}:{line}", source.path), format!("{name}! is left"));
    finder.0.into_iter().map(finding).collect()
}

struct Unfinished(Vec<(usize, &'static str)>);

impl Unfinished {
    fn scan(&mut self, tokens: TokenStream) {
        let mut before = None;
        for token in tokens {
            match (&token, before.take()) {
                (TokenTree::Punct(mark), Some((line, name))) if mark.as_char() == '!' => {
                    self.0.push((line, name))
                }
                (TokenTree::Ident(ident), _) => {
                    let name = UNFINISHED.iter().find(|name| ident == *name);
                    before = name.map(|name| (ident.span().start().line, *name));
                }
                _ => {}
            }
            if let TokenTree::Group(group) = token {
                self.scan(group.stream());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Unfinished {
    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        if let Some(last) = found.path.segments.last()
            && let Some(name) = UNFINISHED.iter().find(|name| last.ident == **name)
        {
            self.0.push((last.ident.span().start().line, *name));
        }
        self.scan(found.tokens.clone());
    }
}

fn places(path: &str, text: &str) -> Vec<Finding> {
    let homes = if path.starts_with(GUESTS) { &[][..] } else { HOMES };
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = PLACES
            .iter()
            .chain(homes)
            .find(|place| line.match_indices(**place).any(|(at, _)| starts_a_path(line, at)));
        if let Some(place) = place {
            let what = format!("names {place}, which exists on one machine only");
            findings.push(Finding::at(format!("{path}:{number}"), what));
        }
    }
    findings
}

/// Whether a path begins here: in `a/home/b` and `$dir/home/b` none does.
fn starts_a_path(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|text| text.chars().next_back());
    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '"' | '*' | ')'))
        || before == Some('"')
            && line
                .get(..at)
                .is_some_and(|text| text.matches('"').count() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        check(&Tree::of(&[("src/a.rs", text)]))
            .into_iter()
            .map(|f| f.0)
            .collect()
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(found("//! A.\n"), [""; 0]);
        assert_eq!(found("\n//! A.\n").len(), 1);
        assert_eq!(
            found("use std::fmt;\n"),
            ["src/a.rs: must open with a //! line that says what it is for"]
        );
    }

    #[test]
    fn unfinished_macros_are_found_inside_other_macros_too() {
        assert_eq!(
            found("//! A.\nfn a() { todo!() }\n"),
            ["src/a.rs:2: todo! is left"]
        );
        assert_eq!(
            found("//! A.\nfn a() {\n  assert!(dbg!(true));\n}\n"),
            ["src/a.rs:3: dbg! is left"]
        );
        assert_eq!(found("//! A. todo!\nfn todo() { let x = \"dbg!\"; }\n"), [""; 0]);
    }

    #[test]
    fn paths_of_a_machine() {
        let (work, home) = (PLACES[0], HOMES[1]);
        for text in [
            format!("//! See {work}x.\n"),
            format!("//! A.\nconst A: &str = \"{home}me/x\";\n"),
            format!("//! A.\nconst A: &str = {};\n", PLACES[3]),
        ] {
            assert_eq!(found(&text).len(), 1, "{text}");
        }
        for text in [
            format!("//! net{work}x\n"),
            format!("//! $DIR{home}x and {{dir}}{home}y\n"),
        ] {
            assert_eq!(found(&text), [""; 0], "{text}");
        }
        assert_eq!(places("tests/guests/tiny/boot", &format!("cd {home}x\n")), []);
        assert_eq!(
            places("tests/guests/tiny/boot", &format!("cd {work}x\n")).len(),
            1
        );
    }
}
