//! Prepared statement texts, on paths where writing them anew would be a good part of the cost: sea-query
//! writes the text once, and from then on only the values are given.

use std::sync::OnceLock;

use sea_orm::{DbBackend, Statement, StatementBuilder, Value, sea_query::Values};

/// The text of one statement.
#[derive(Debug, Default)]
pub struct Fixed(OnceLock<(DbBackend, String)>);

impl Fixed {
    /// A text that has not been written yet.
    pub const fn new() -> Self {
        Fixed(OnceLock::new())
    }

    /// The statement with these values, which are those of `written` in the order in which it names them.
    /// (A debug build writes it each time and compares.)
    pub fn with<S: StatementBuilder>(
        &self,
        backend: DbBackend,
        values: Vec<Value>,
        written: impl Fn() -> S,
    ) -> Statement {
        let (known, sql) = self.0.get_or_init(|| (backend, backend.build(&written()).sql));
        if *known != backend {
            return backend.build(&written());
        }
        let statement = Statement {
            sql: sql.clone(),
            values: Some(Values(values)),
            db_backend: backend,
        };
        debug_assert_eq!(statement, backend.build(&written()));
        statement
    }
}
