//! Faults that a test asks of a real process: `CUMULET_FAULTS`, such as `lose=3,conflicts=10`, in a program with
//! the feature `crash-points`. Without the feature there are none, and nothing reads the variable.

use std::path::PathBuf;

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

/// Those that this process was started with.
///
/// # Errors
/// When `CUMULET_FAULTS` can't be read, in words.
#[cfg(feature = "crash-points")]
pub fn planned() -> Result<Faults, String> {
    static PLANNED: std::sync::LazyLock<Result<Faults, String>> = std::sync::LazyLock::new(|| {
        let text = std::env::var("CUMULET_FAULTS").unwrap_or_default();
        Faults::parse(&text).map_err(|error| format!("CUMULET_FAULTS: {error}"))
    });
    PLANNED.clone()
}

/// None, since the feature is off.
///
/// # Errors
/// Never.
#[cfg(not(feature = "crash-points"))]
pub fn planned() -> Result<Faults, String> {
    Ok(Faults::default())
}

/// The file that `CUMULET_FAULTS_WHILE` names: messages meet their faults only while it is there.
#[cfg(feature = "crash-points")]
pub fn only_while() -> Option<PathBuf> {
    std::env::var_os("CUMULET_FAULTS_WHILE").map(PathBuf::from)
}

/// None, since the feature is off.
#[cfg(not(feature = "crash-points"))]
pub fn only_while() -> Option<PathBuf> {
    None
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
}
