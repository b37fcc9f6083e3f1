//! The host's own door for what comes from uplinks: guests reach nothing of the host, whatever address of it they know
//! and whenever it got that, and no broadcast of its networks. One rule in the host's input hook, by the device that a
//! packet comes from; only answers to what the host itself has asked pass. It stands before the first uplink is there
//! and until the last one has gone.

use tokio::sync::{RwLock, RwLockReadGuard};

use super::{
    NetworkError, Result,
    command::Commands,
    host,
    names::{UPLINKS, uplink_name, vpc_of},
    netns,
};

/// What shows that the rule is there.
const RULE: &str = "counter packets";

/// The table in the host's namespace.
#[derive(Debug)]
pub(super) struct Doorway {
    cloud: String,
    table: String,
    /// Whether it is known to stand. Held by those who make uplinks, so that nobody takes it away meanwhile.
    stands: RwLock<bool>,
}

impl Doorway {
    pub(super) fn new(cloud: &str) -> Doorway {
        Doorway {
            cloud: cloud.to_owned(),
            table: format!("cumulet_{cloud}_door"),
            stands: RwLock::new(false),
        }
    }

    /// It shall stand, for as long as the answer is held at least.
    pub(super) async fn stand(&self, commands: &Commands) -> Result<RwLockReadGuard<'_, bool>> {
        let held = self.stands.read().await;
        if *held {
            return Ok(held);
        }
        drop(held);
        let mut stands = self.stands.write().await;
        if !*stands {
            commands.nft(None, &self.rules()).await?;
            *stands = true;
        }
        Ok(stands.downgrade())
    }

    /// It goes if there is no uplink any more.
    pub(super) async fn leave(&self, commands: &Commands) -> Result<()> {
        let mut stands = self.stands.write().await;
        if self.has_uplinks().await? {
            return Ok(());
        }
        *stands = false;
        let gone = format!("add table inet {0}\ndelete table inet {0}\n", self.table);
        commands.nft(None, &gone).await
    }

    /// Makes it again where it was taken away; what was wrong.
    pub(super) async fn check(&self, commands: &Commands) -> Result<Option<String>> {
        let mut stands = self.stands.write().await;
        let wanted = self.has_uplinks().await?;
        if !wanted || self.is_there(commands).await? {
            return Ok(None);
        }
        *stands = false;
        commands.nft(None, &self.rules()).await?;
        *stands = true;
        Ok(Some("the host's door for uplinks: made again".to_owned()))
    }

    async fn is_there(&self, commands: &Commands) -> Result<bool> {
        let args = ["list", "chain", "inet", &self.table, "input"];
        match commands.run(None, "nft", &args, "").await {
            Ok(text) => Ok(text.contains("hook input") && text.contains(RULE) && text.contains("drop")),
            Err(NetworkError::Command { detail, .. }) if detail.contains("No such file") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether this cloud has an uplink on the host. Another's are before that one's own door: who waited for those to go
    /// would leave its door behind.
    async fn has_uplinks(&self) -> Result<bool> {
        let ours: Vec<String> = host::namespaces()?
            .iter()
            .filter_map(|name| vpc_of(&self.cloud, name))
            .map(uplink_name)
            .collect();
        let devices = netns::run(None, netns::devices).await?;
        Ok(ours.iter().any(|name| devices.contains_key(name)))
    }

    /// One transaction that may be repeated.
    fn rules(&self) -> String {
        let (table, from) = (&self.table, format!("iifname \"{UPLINKS}\""));
        format!(
            "add table inet {table}\n\
             add chain inet {table} input {{ type filter hook input priority -20; policy accept; }}\n\
             flush chain inet {table} input\n\
             add rule inet {table} input {from} ct direction reply ct state established accept\n\
             add rule inet {table} input {from} meta l4proto icmp ct state related accept\n\
             add rule inet {table} input {from} counter drop\n"
        )
    }
}
