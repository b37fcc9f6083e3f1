//! Retries of commands that were not answered: whatever has a deadline (the hypervisor, the host's programs) may be slow
//! for a while, and what came of a call that is late is not known. So the command is gone on with from its beginning,
//! which looks at what is there before it does anything, until the operation's own deadline.

use std::time::Duration;

use cumulet_domain::time::Timestamp;

/// Before a command is gone on with: a host that is slow is not hurried.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// Whether a command that has failed is gone on with here, without telling anybody. Only a definite answer, or the
/// deadline, ends it.
pub(crate) fn goes_on(unanswered: bool, now: Timestamp, deadline: Timestamp) -> bool {
    unanswered && now.after(PAUSE) < deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_answered_is_gone_on_with_and_only_in_time() {
        let deadline = Timestamp(300_000);
        for (unanswered, now, expected) in [
            (true, 0, true),
            (true, 297_999, true),
            (true, 298_000, false),
            (true, 400_000, false),
            (false, 0, false),
        ] {
            assert_eq!(goes_on(unanswered, Timestamp(now), deadline), expected, "{now}");
        }
    }
}
