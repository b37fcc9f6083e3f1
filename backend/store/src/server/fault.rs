//! The classification of a server's errors: what each means for the transaction in which it came.

use sea_orm::{DbErr, RuntimeErr};
use sqlx::{Error, mysql::MySqlDatabaseError, postgres::PgDatabaseError};

use crate::TAKEN;

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A deadlock, a lock that was waited for too long, a serialisation failure: the same transaction may
    /// well succeed when it is run again.
    Again,
    /// The connection, or the server, is gone.
    Lost,
    /// The statement itself.
    Statement,
}

/// An error of a server.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    taken: bool,
    late: bool,
    text: String,
}

impl Failure {
    /// The connection is gone, or as good as that.
    pub(super) fn lost(text: impl Into<String>) -> Self {
        Failure {
            fault: Fault::Lost,
            taken: false,
            late: false,
            text: text.into(),
        }
    }

    /// No answer in time, which costs the connection.
    pub(super) fn late() -> Self {
        Failure {
            late: true,
            ..Failure::lost("the server did not answer in time")
        }
    }

    /// Whether it is one of [`Failure::late`].
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// Whether a unique key is taken.
    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    /// A value or a column of a kind that no table has.
    pub(super) fn kind(text: impl Into<String>) -> Self {
        Failure {
            fault: Fault::Statement,
            taken: false,
            late: false,
            text: text.into(),
        }
    }

    /// As sea-orm knows it.
    pub(super) fn told(&self) -> DbErr {
        match self.fault {
            Fault::Lost => DbErr::Conn(RuntimeErr::Internal(self.text.clone())),
            _ if self.taken => DbErr::Exec(RuntimeErr::Internal(format!("{TAKEN}{}", self.text))),
            _ => DbErr::Exec(RuntimeErr::Internal(self.text.clone())),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (fault, taken) = match &error {
            Error::Database(database) => {
                if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
                    (postgres(error.code()), error.code() == "23505")
                } else if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
                    (mysql(error.number()), matches!(error.number(), 1062 | 1586))
                } else {
                    (Fault::Statement, false)
                }
            }
            Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed => (Fault::Lost, false),
            _ => (Fault::Statement, false),
        };
        let text = if taken { key(&error) } else { error.to_string() };
        Failure {
            fault,
            taken,
            late: false,
            text,
        }
    }
}

/// Which key is taken. MySQL's own text has the values in it.
fn key(error: &Error) -> String {
    let Error::Database(database) = error else {
        return String::new();
    };
    let text = database.message();
    text.rfind("for key").map_or(text, |at| &text[at..]).to_owned()
}

fn postgres(code: &str) -> Fault {
    match code {
        // Serialisation failure, deadlock, a lock that was not to be had in time.
        "40001" | "40P01" | "55P03" => Fault::Again,
        // Shutdowns, too many connections, a session that idled; read-only since another server leads.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" | "25P04" | "25006" => Fault::Lost,
        code if code.starts_with("08") => Fault::Lost,
        _ => Fault::Statement,
    }
}

fn mysql(number: u16) -> Fault {
    match number {
        // A deadlock, a lock that was waited for too long, a record that changed since it was read.
        1213 | 1205 | 1020 => Fault::Again,
        // Too many connections, shutdowns, killed; read-only since another server leads.
        1040
        | 1053
        | 1077
        | 1079
        | 1152..=1161
        | 1184
        | 1203
        | 1290
        | 1317
        | 1836
        | 1927
        | 2006
        | 2013
        | 3169 => Fault::Lost,
        _ => Fault::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_manuals_say() {
        assert_eq!(postgres("40P01"), Fault::Again);
        assert_eq!(postgres("40001"), Fault::Again);
        assert_eq!(postgres("57P01"), Fault::Lost);
        assert_eq!(postgres("08006"), Fault::Lost);
        assert_eq!(postgres("23505"), Fault::Statement);
        assert_eq!(mysql(1213), Fault::Again);
        assert_eq!(mysql(1205), Fault::Again);
        assert_eq!(mysql(1927), Fault::Lost);
        assert_eq!(mysql(1062), Fault::Statement);
    }

    #[test]
    fn what_is_lost_is_told_as_a_lost_connection() {
        let failure = Failure::from(Error::PoolTimedOut);
        assert!(matches!(failure.told(), DbErr::Conn(_)));
        assert!(matches!(Failure::kind("x").told(), DbErr::Exec(_)));
    }
}
