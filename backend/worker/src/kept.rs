//! The worker's own notes as they are in its files: what it would go on with if it ended now. A simulator compares them
//! with what the control plane says.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use cumulet_domain::{
    id::{InstanceId, VolumeId, VpcId},
    spec::InstanceSpec,
};

use crate::{
    Worker,
    layout::{PARTIAL, volume_of},
    record::Record,
};

/// What a host's files say.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The instances that have a directory.
    pub instances: BTreeMap<InstanceId, KeptInstance>,
    /// The volumes whose data is here.
    pub volumes: BTreeSet<VolumeId>,
    /// Volumes of which there is something that is not whole.
    pub partial: BTreeSet<VolumeId>,
    /// The VPCs whose policy is kept.
    pub vpcs: BTreeSet<VpcId>,
}

/// What is kept of an instance.
#[derive(Clone, Debug, Default)]
pub struct KeptInstance {
    /// The newest generation that was seen, and the newest that was carried out, if it has a record.
    pub generations: Option<(u64, u64)>,
    /// What it was last run from.
    pub spec: Option<InstanceSpec>,
}

impl Worker {
    /// Reads all that is kept.
    ///
    /// # Errors
    /// Those of the files. What can't be read of an instance is not there.
    pub fn kept(&self) -> io::Result<Kept> {
        let (layout, files) = (&self.layout, &self.layout.files);
        let mut kept = Kept::default();
        for name in files.names(&layout.instances())? {
            let Ok(id) = name.parse::<InstanceId>() else {
                continue;
            };
            let record = files.read(&layout.record(id)).ok();
            let record = record.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            let spec = files.read(&layout.spec(id)).ok();
            kept.instances.insert(
                id,
                KeptInstance {
                    generations: record.map(|record| (record.generation, record.applied)),
                    spec: spec.and_then(|text| serde_json::from_slice(&text).ok()),
                },
            );
        }
        for name in files.names(&layout.volumes())? {
            let path = Path::new(&name);
            let Some(volume) = volume_of(path) else { continue };
            match path.extension().is_some_and(|kind| kind == PARTIAL) {
                true => kept.partial.insert(volume),
                false => kept.volumes.insert(volume),
            };
        }
        let policies = files.names(&layout.vpcs())?;
        let named = policies.iter().filter_map(|name| name.strip_suffix(".json"));
        kept.vpcs = named.filter_map(|name| name.parse().ok()).collect();
        Ok(kept)
    }
}
