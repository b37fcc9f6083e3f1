//! Database errors, as the domain knows them.

use cumulet_domain::Error;
use sea_orm::{DbErr, RuntimeErr};

/// What a statement's error begins with when a unique key is taken.
pub(crate) const TAKEN: &str = "a unique key is taken: ";

/// A database error as the domain knows it.
#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
pub fn failed(error: DbErr) -> Error {
    match &error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Error::Unavailable(error.to_string()),
        _ => Error::internal(&error),
    }
}

/// An error of the migrations.
#[allow(clippy::needless_pass_by_value)] // the shape that `map_err` wants
pub(crate) fn newer(error: DbErr) -> Error {
    match &error {
        DbErr::Custom(text) if text.contains("has been applied but its file is missing") => {
            Error::Unavailable(format!(
                "the database's schema is newer than this program: {text}"
            ))
        }
        _ => failed(error),
    }
}

/// Whether a statement failed because a unique key is taken.
pub fn is_taken(error: &DbErr) -> bool {
    matches!(error, DbErr::Exec(RuntimeErr::Internal(text)) | DbErr::Query(RuntimeErr::Internal(text))
        if text.starts_with(TAKEN))
}
