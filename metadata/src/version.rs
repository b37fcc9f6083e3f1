//! The dated versions of the tree. Each entry of the tree has the date since when it exists, so an
//! old version shows what it showed then.

/// A version as a number such as `20210323`; the undated `1.0` is zero.
pub(crate) type Version = u32;

/// The version that shows everything.
pub(crate) const LATEST: Version = Version::MAX;

/// The dates that EC2's guide lists, and those that clients pin beyond it.
const DATED: [&str; 25] = [
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
];

/// The body of `/`: every version on a line of its own.
pub(crate) fn listing() -> String {
    let mut names = vec!["1.0"];
    names.extend(DATED);
    names.push("latest");
    names.join("\n")
}

/// The version with this name; `None` unless it is listed.
pub(crate) fn parse(name: &str) -> Option<Version> {
    match name {
        "latest" => Some(LATEST),
        "1.0" => Some(0),
        _ => DATED.binary_search(&name).ok().map(|_| digits(name)),
    }
}

fn digits(name: &str) -> Version {
    name.bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_version_parses_and_grows() {
        let listing = listing();
        assert!(listing.starts_with("1.0\n2007-01-19\n") && listing.ends_with("\nlatest"));
        let versions: Vec<_> = listing.lines().map(|name| parse(name).unwrap()).collect();
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        assert_eq!(parse("2021-03-23"), Some(20_210_323));
    }

    #[test]
    fn others_are_unknown() {
        for name in ["", "2021-03-24", "Latest", "latest ", "1.1", "2021"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
