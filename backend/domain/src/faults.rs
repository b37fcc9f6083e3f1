//! Fault injection into a real process by environment variables: a death at a crash point, lost messages,
//! conflicts of transactions. They are met only where `CUMULET_FAULTS_ALLOWED=1` says that they may be; a
//! variable that asks for faults without it is refused, so that a left-over one neither kills a cloud nor
//! passes unnoticed.

use std::{path::PathBuf, sync::OnceLock};

use crate::crash;

/// Says with `1` that the variables which ask for faults may be heard.
const ALLOWED: &str = "CUMULET_FAULTS_ALLOWED";

/// What the environment has asked of this process. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `CUMULET_CRASH_AT`: the crash point at which the process dies.
    pub crash_at: Option<String>,
    /// `CUMULET_CRASH_TRACE`: a file that gets a line for each crash point that is passed.
    pub crash_trace: Option<PathBuf>,
    /// `CUMULET_FAULTS`: what goes wrong with messages and transactions, such as `lose=3,conflicts=10`.
    pub faults: Faults,
    /// `CUMULET_FAULTS_WHILE`: a file; messages meet their faults only while it is there.
    pub only_while: Option<PathBuf>,
}

static ASKED: OnceLock<Asked> = OnceLock::new();

impl Asked {
    /// Reads the variables.
    ///
    /// # Errors
    /// In words, for one that is set where faults are not allowed, or that can't be read.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Asked, String> {
        let allowed = variable(ALLOWED).is_some_and(|value| value == "1");
        let given = |name: &str| match variable(name) {
            Some(_) if !allowed => Err(format!(
                "{name} asks for faults, as only a test should: unset it, or allow them with {ALLOWED}=1"
            )),
            value => Ok(value),
        };
        let faults = given("CUMULET_FAULTS")?.unwrap_or_default();
        Ok(Asked {
            crash_at: given("CUMULET_CRASH_AT")?,
            crash_trace: given("CUMULET_CRASH_TRACE")?.map(PathBuf::from),
            faults: Faults::parse(&faults).map_err(|error| format!("CUMULET_FAULTS: {error}"))?,
            only_while: given("CUMULET_FAULTS_WHILE")?.map(PathBuf::from),
        })
    }
}

/// Hears what the environment asks of this process, once, before anything else is done.
///
/// # Errors
/// Those of [`Asked::read`].
pub fn arm() -> Result<(), String> {
    let asked = Asked::read(|name| std::env::var(name).ok())?;
    if asked.crash_at.is_some() || asked.crash_trace.is_some() {
        crash::arm();
    }
    ASKED.get_or_init(|| asked);
    Ok(())
}

/// What was asked of this process; nothing before [`arm`].
pub fn asked() -> &'static Asked {
    static NOTHING: Asked = Asked {
        crash_at: None,
        crash_trace: None,
        faults: Faults {
            lose: 0,
            repeat: 0,
            reorder: 0,
            conflicts: 0,
        },
        only_while: None,
    };
    ASKED.get().unwrap_or(&NOTHING)
}

/// What goes wrong in this process, by plan. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every k-th message of those that this process sends is lost; 0 loses none.
    pub lose: u32,
    /// How often each message is sent; 0 and 1 are once.
    pub repeat: u32,
    /// How many milliseconds a message may be late by chance, and so overtake or be overtaken.
    pub reorder: u32,
    /// Of a hundred transactions on a database server, how many the server gives up for another's sake.
    pub conflicts: u32,
}

impl Faults {
    /// Whether messages meet any.
    pub fn of_messages(&self) -> bool {
        self.lose > 0 || self.repeat > 1 || self.reorder > 0
    }

    /// Reads `name=number` pairs with commas between them.
    ///
    /// # Errors
    /// In words, for one that is not known or no number.
    pub fn parse(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, number) = pair
                .split_once('=')
                .ok_or(format!("{pair:?} is not name=number"))?;
            let field = match name {
                "lose" => &mut faults.lose,
                "repeat" => &mut faults.repeat,
                "reorder" => &mut faults.reorder,
                "conflicts" => &mut faults.conflicts,
                _ => return Err(format!("{name:?} is none of lose, repeat, reorder, conflicts")),
            };
            *field = number.parse().map_err(|_| format!("{number:?} is no number"))?;
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_others_refused() {
        assert_eq!(Faults::parse(""), Ok(Faults::default()));
        let faults = Faults::parse("lose=3, repeat=10,reorder=200,conflicts=10").unwrap();
        assert_eq!(
            (faults.lose, faults.repeat, faults.reorder, faults.conflicts),
            (3, 10, 200, 10)
        );
        assert!(faults.of_messages() && !Faults::parse("conflicts=10").unwrap().of_messages());
        for bad in ["lose", "lose=", "lose=x", "lost=3"] {
            assert!(Faults::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn faults_are_refused_where_nobody_allowed_them() {
        let asks = [
            ("CUMULET_CRASH_AT", "launch.1.asked"),
            ("CUMULET_CRASH_TRACE", "/tmp/trace"),
            ("CUMULET_FAULTS", "lose=3"),
            ("CUMULET_FAULTS_WHILE", "/tmp/while"),
        ];
        for (name, value) in asks {
            for allowed in [None, Some("0"), Some("yes"), Some("1")] {
                let read = Asked::read(|asked| match asked {
                    ALLOWED => allowed.map(str::to_owned),
                    asked => (asked == name).then(|| value.to_owned()),
                });
                match read {
                    Ok(asked) => assert!(allowed == Some("1") && asked != Asked::default(), "{name}"),
                    Err(error) => assert!(allowed != Some("1") && error.starts_with(name), "{error}"),
                }
            }
        }
        assert_eq!(Asked::read(|_| None), Ok(Asked::default()));
    }
}
