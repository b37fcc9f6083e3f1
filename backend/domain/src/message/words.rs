//! Words of hosts that tenants may read. A host's reasons end in the state of instances, so what looks like the inside
//! of a machine (paths, arguments, errors of the system) goes no further; `limits` asks, for whatever kind of text.

/// What a tenant reads in place of it.
pub(super) const UNTOLD: &str = "it could not be done there, and the host's log says why";

/// What gives the inside of a machine away.
const INTERNAL: [&str; 11] = [
    "/",
    "\\",
    "os error",
    "\"",
    "`",
    "::",
    "=",
    "{",
    "<",
    " --",
    "internal error",
];

/// The one path that is told: it is the same everywhere, and what is the matter with it helps whoever reads it.
const TOLD: &str = "/dev/kvm";

/// Whether a host's words may reach a tenant.
pub fn is_for_tenants(text: &str) -> bool {
    let text = text.replace(TOLD, "");
    !text.chars().any(char::is_control) && !INTERNAL.iter().any(|inside| text.contains(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inside_of_a_machine_is_not_for_tenants() {
        for text in [
            "the image is damaged",
            "image ami-0123 can't be fetched",
            "the network can't be set up: nft has failed",
            "qemu-img did not end in time",
            "libvirt takes more than 15 s for a call: /dev/kvm can't be opened by the group kvm",
            "libvirt takes 31 s for a call: its load is 70 on 2 processors; the disk is full",
            UNTOLD,
        ] {
            assert!(is_for_tenants(text), "{text}");
        }
        for text in [
            "Cannot access storage file '/var/lib/cumulet/disk.qcow2'",
            "internal error: process exited while connecting to monitor",
            "unable to execute QEMU command: Node name=x not found",
            "qemu-system-x86_64: unrecognized option --foo",
            "No space left on device (os error 28)",
            "cannot open /dev/kvm2/x",
            "host\nfile",
            "a \"quoted\" name",
            "std::io::Error",
            "<domain type",
        ] {
            assert!(!is_for_tenants(text), "{text}");
        }
    }
}
