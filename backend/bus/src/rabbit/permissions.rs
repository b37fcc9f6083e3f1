//! Broker permissions of a worker's user: take from its own queue, report, and answer. Nothing else: it can't
//! read another's queue, and can't command. `cumulet admin broker` prints them.

use cumulet_domain::id::HostId;

use super::topology::Names;

/// Regular expressions of names, as `rabbitmqctl set_permissions` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What it may declare and delete.
    pub configure: String,
    /// Where it may publish to.
    pub write: String,
    /// What it may consume.
    pub read: String,
}

/// The user of a host's worker. A report is believed only if it comes from the user of the host that it is
/// about, which the broker vouches for.
pub fn host_user(prefix: &str, host: &HostId) -> String {
    Names::new(prefix).host(host)
}

/// What the user of a host's worker may do.
pub fn permissions(prefix: &str, host: &HostId) -> Permissions {
    let names = Names::new(prefix);
    let own = literal(&names.host(host));
    let [reports, answers, dead] = [names.reports(), names.answers(), names.dead()].map(|n| literal(&n));
    Permissions {
        configure: format!("^{own}$"),
        // A user that declares a queue with a dead letter exchange must be allowed to write there.
        write: format!("^({reports}|{answers}|{dead})$"),
        read: format!("^{own}$"),
    }
}

/// What the users of the control plane (conductors, schedulers, gateways) may do.
pub fn control_permissions(prefix: &str) -> Permissions {
    let own = format!("^{}\\..*", literal(prefix));
    Permissions {
        configure: own.clone(),
        // Commands go straight to the queue that is meant.
        write: format!("{own}|^amq\\.default$"),
        read: own,
    }
}

/// The commands by which an operator makes the user of a host's worker. The password is asked for.
pub fn host_user_commands(vhost: &str, prefix: &str, host: &HostId) -> Vec<String> {
    commands(vhost, &host_user(prefix, host), &permissions(prefix, host))
}

/// The commands by which an operator makes a user of the control plane. The password is asked for.
pub fn control_user_commands(vhost: &str, prefix: &str, user: &str) -> Vec<String> {
    commands(vhost, user, &control_permissions(prefix))
}

fn commands(vhost: &str, user: &str, may: &Permissions) -> Vec<String> {
    let (vhost, user) = (quoted(vhost), quoted(user));
    let [configure, write, read] = [&may.configure, &may.write, &may.read].map(|text| quoted(text));
    vec![
        format!("rabbitmqctl add_user {user}"),
        format!("rabbitmqctl set_permissions -p {vhost} {user} {configure} {write} {read}"),
    ]
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A name as a regular expression that matches it alone.
fn literal(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if !c.is_alphanumeric() && c != '-' && c != '_' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_may_use_its_own_queue_and_say_things() {
        let host = HostId("a.b".into());
        let may = permissions("cloud", &host);
        assert_eq!(may.configure, r"^cloud\.host\.a\.b$");
        assert_eq!(may.read, may.configure);
        assert_eq!(may.write, r"^(cloud\.reports|cloud\.answers|cloud\.dead)$");
        assert_eq!(
            host_user_commands("v h", "cloud", &host)[1],
            r"rabbitmqctl set_permissions -p 'v h' 'cloud.host.a.b' '^cloud\.host\.a\.b$' '^(cloud\.reports|cloud\.answers|cloud\.dead)$' '^cloud\.host\.a\.b$'"
        );
    }

    #[test]
    fn what_a_shell_would_read_is_quoted() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
