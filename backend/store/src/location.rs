//! Database locations: a SQLite file, or the URL of a server.

use std::{fmt, path::PathBuf, str::FromStr};

use cumulet_domain::{Error, Result};
use sqlx::{mysql::MySqlConnectOptions, postgres::PgConnectOptions};

/// Where the database is. What it prints has no password in it.
#[derive(Clone)]
pub enum Location {
    /// A SQLite file; made if it is not there.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
    /// A MariaDB or MySQL server.
    MySql(Box<MySqlConnectOptions>),
}

impl Location {
    /// What the configuration says: the URL of a server, or nothing for the SQLite file at `default`.
    ///
    /// # Errors
    /// `Unavailable` for a URL of another kind, or one that can't be read.
    pub fn parse(text: &str, default: PathBuf) -> Result<Self> {
        if text.is_empty() {
            return Ok(Location::Sqlite(default));
        }
        let wrong = |why: String| Error::Unavailable(format!("the database's URL: {why}"));
        match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => {
                let options = PgConnectOptions::from_str(text).map_err(|error| wrong(error.to_string()))?;
                Ok(Location::Postgres(Box::new(options)))
            }
            Some("mysql" | "mariadb") => {
                let text = text.replacen("mariadb://", "mysql://", 1);
                let options =
                    MySqlConnectOptions::from_str(&text).map_err(|error| wrong(error.to_string()))?;
                if options.get_database().is_none() {
                    return Err(wrong("it names no database (mysql://user@host/NAME)".into()));
                }
                Ok(Location::MySql(Box::new(options)))
            }
            // Not the text itself: it may hold a password.
            _ => Err(wrong(
                "expecting postgres://… or mysql://…, or nothing for SQLite in the state directory".into(),
            )),
        }
    }

    /// Whether it is a file of this host, which no other host shares.
    pub fn is_local(&self) -> bool {
        matches!(self, Location::Sqlite(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Sqlite(path) => write!(f, "{}", path.display()),
            Location::Postgres(options) => {
                let name = options.get_database().unwrap_or(options.get_username());
                write!(
                    f,
                    "PostgreSQL {name} at {}:{}",
                    options.get_host(),
                    options.get_port()
                )
            }
            Location::MySql(options) => {
                let name = options.get_database().unwrap_or_default();
                write!(
                    f,
                    "MariaDB or MySQL {name} at {}:{}",
                    options.get_host(),
                    options.get_port()
                )
            }
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        Location::parse(text, "/state/cumulet.db".into())
    }

    #[test]
    fn urls_of_servers_and_nothing_for_a_file() {
        for (text, shown) in [
            ("", "/state/cumulet.db"),
            (
                "postgres://u:hidden@db.example:5433/cloud",
                "PostgreSQL cloud at db.example:5433",
            ),
            (
                "postgresql://u:hidden@db/cloud?sslmode=require",
                "PostgreSQL cloud at db:5432",
            ),
            ("mysql://u:hidden@db/cloud", "MariaDB or MySQL cloud at db:3306"),
            (
                "mariadb://u:hidden@db:3307/cloud",
                "MariaDB or MySQL cloud at db:3307",
            ),
        ] {
            let location = parse(text).unwrap();
            assert_eq!(location.to_string(), shown);
            assert!(!format!("{location:?}").contains("hidden"));
            assert_eq!(location.is_local(), text.is_empty());
        }
    }

    #[test]
    fn other_urls_are_refused_without_their_password() {
        for text in [
            "sqlserver://u:hidden@db/cloud",
            "/some/file",
            "postgres://u:hidden@db:port/cloud",
            "mysql://u:hidden@db",
            "sqlite://hidden",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains("URL") && !error.contains("hidden"),
                "{text}: {error}"
            );
        }
    }
}
