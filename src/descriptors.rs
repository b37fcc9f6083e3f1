//! The limits of this process: of open files and connections, and of core files.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More is no use here, and programs that are started inherit it, of which some close every number.
const ENOUGH: u64 = 65_536;

/// Raises the limit, often 1024 and meant for old programs, as far as this process may; what it is then.
pub(crate) fn raise() -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    let wanted = hard.min(ENOUGH);
    if soft >= wanted {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).context("raising the limit of open files")?;
    Ok(wanted)
}

/// This process and those that it starts leave no core file: their memory has keys of disks, and of more. It can't be
/// raised again.
pub(crate) fn no_core_files() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("the limit of core files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_it_says() {
        let raised = raise().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raised, soft);
        assert!(soft >= hard.min(ENOUGH), "{soft} of {hard}");
    }

    #[test]
    fn no_file_has_the_memory_of_the_process() {
        no_core_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }
}
