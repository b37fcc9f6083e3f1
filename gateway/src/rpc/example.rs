//! Examples of operations, from which come the checks that every operation has to pass (`tests/examples`).
//!
//! An example is a request that is accepted in the scene of those tests: an account with one of everything. What it
//! names of that stands in braces, as `{instance}`; each such id is also tried as another account's, as nobody's, and
//! as no id at all.

/// A request that is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example {
    /// The operation.
    pub(crate) operation: &'static str,
    /// Its parameters as a form, or as JSON where the service speaks that.
    pub(crate) parameters: &'static str,
    /// Whether it is answered by a host, of which there is none in the scene.
    pub(crate) by_host: bool,
}

/// An example.
pub(crate) const fn example(operation: &'static str, parameters: &'static str) -> Example {
    Example {
        operation,
        parameters,
        by_host: false,
    }
}

/// One whose answer comes from a host.
pub(crate) const fn by_host(operation: &'static str, parameters: &'static str) -> Example {
    Example {
        by_host: true,
        ..example(operation, parameters)
    }
}
