//! Block device mappings, and volumes' types and numbers: what a request says of each device becomes a `Mapping`, and of
//! a volume `DiskAsked`; what that means is the backend's.

use cumulet_domain::{
    Error, Result,
    names::Unknown,
    volume::{DiskAsked, EncryptionAsked, Mapped, Mapping, Provisioned, VolumeType},
};
use cumulet_wire::ec2::shared::{BlockDeviceMapping, EbsBlockDevice};

use crate::{ec2::ctx::id, fault::Fault};

/// The mappings, in the request's order.
pub(crate) fn mappings(given: Vec<BlockDeviceMapping>) -> Result<Vec<Mapping>, Fault> {
    let numbered = given.into_iter().zip(1..);
    numbered.map(|(mapping, n)| one(mapping, n)).collect()
}

fn one(mapping: BlockDeviceMapping, n: usize) -> Result<Mapping, Fault> {
    let missing = || Fault::missing(&format!("BlockDeviceMapping.{n}.DeviceName"));
    let device = mapping.device_name.ok_or_else(missing)?;
    let content = match (mapping.no_device, mapping.virtual_name, mapping.ebs) {
        // Its presence means yes, whatever its value.
        (Some(_), None, None) => Mapped::Nothing,
        (None, Some(name), None) => Mapped::InstanceStore(name),
        (None, None, ebs) => Mapped::Volume(volume(ebs.unwrap_or_default(), n)?),
        _ => {
            return Err(Fault::combination(format!(
                "The parameters BlockDeviceMapping.{n}.Ebs, NoDevice and VirtualName may not be given together"
            )));
        }
    };
    Ok(Mapping { device, content })
}

/// What the mapping at this place, from 1, says of its volume.
pub(crate) fn volume(ebs: EbsBlockDevice, n: usize) -> Result<DiskAsked, Fault> {
    let name = |member: &str| format!("BlockDeviceMapping.{n}.Ebs.{member}");
    let number = |member: &str, value: Option<i32>, least: u32| number(&name(member), value, least);
    Ok(DiskAsked {
        snapshot: ebs.snapshot_id.as_deref().map(id).transpose()?,
        size_gib: number("VolumeSize", ebs.volume_size, 1)?,
        kind: ebs
            .volume_type
            .map(|text| kind(&name("VolumeType"), &text))
            .transpose()?,
        provisioned: Provisioned {
            iops: number("Iops", ebs.iops, 0)?,
            throughput: number("Throughput", ebs.throughput, 0)?,
        },
        delete_on_termination: ebs.delete_on_termination,
        encryption: EncryptionAsked {
            encrypted: ebs.encrypted,
            key: ebs.kms_key_id,
        },
    })
}

/// A size, or what is provisioned: `least` or more.
pub(crate) fn number(name: &str, value: Option<i32>, least: u32) -> Result<Option<u32>> {
    let number = |value: i32| {
        let number = u32::try_from(value).ok().filter(|number| *number >= least);
        let reason = || match least {
            0 => "a number that is not negative".into(),
            least => format!("expecting at least {least}"),
        };
        number.ok_or_else(|| Error::invalid(name, &value.to_string(), reason()))
    };
    value.map(number).transpose()
}

/// The type of this name.
pub(crate) fn kind(name: &str, text: &str) -> Result<VolumeType> {
    text.parse().map_err(|_: Unknown| {
        let names: Vec<_> = VolumeType::ALL.iter().map(|kind| kind.name()).collect();
        Error::invalid(name, text, format!("expecting one of {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use cumulet_domain::id::SnapshotId;
    use cumulet_wire::{Protocol, Query, decode, ec2::instances::RunInstancesRequest};

    use super::*;

    fn of(rest: &str) -> Result<Vec<Mapping>, String> {
        let body = format!("ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=1&{rest}");
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let input: RunInstancesRequest = decode(&query).unwrap();
        mappings(input.block_device_mappings).map_err(|fault| fault.answer().code.into_owned())
    }

    #[test]
    fn each_mapping_is_what_its_members_say() {
        let snapshot: SnapshotId = "snap-0123456789abcdef0".parse().unwrap();
        let whole = DiskAsked {
            snapshot: Some(snapshot),
            size_gib: Some(20),
            kind: Some(VolumeType::Gp3),
            provisioned: Provisioned {
                iops: Some(4000),
                throughput: Some(250),
            },
            delete_on_termination: Some(false),
            encryption: EncryptionAsked {
                encrypted: Some(true),
                key: Some("alias/aws/ebs".into()),
            },
        };
        for (members, content) in [
            ("NoDevice=", Mapped::Nothing),
            ("NoDevice=true", Mapped::Nothing),
            (
                "VirtualName=ephemeral0",
                Mapped::InstanceStore("ephemeral0".into()),
            ),
            (
                "Ebs.SnapshotId=snap-0123456789abcdef0&Ebs.VolumeSize=20&Ebs.VolumeType=gp3&Ebs.Iops=4000&\
                 Ebs.Throughput=250&Ebs.DeleteOnTermination=false&Ebs.Encrypted=true&Ebs.KmsKeyId=alias/aws/ebs",
                Mapped::Volume(whole),
            ),
            ("", Mapped::Volume(DiskAsked::default())),
        ] {
            let members = members.split('&').filter(|member| !member.is_empty());
            let members = members.map(|member| format!("&BlockDeviceMapping.1.{}", member.trim()));
            let body = format!(
                "BlockDeviceMapping.1.DeviceName=/dev/sdf{}",
                members.collect::<String>()
            );
            let device = "/dev/sdf".into();
            assert_eq!(of(&body), Ok(vec![Mapping { device, content }]), "{body}");
        }
    }

    #[test]
    fn what_is_refused_before_the_image_is_known() {
        for (members, code) in [
            ("1.Ebs.VolumeSize=20", "MissingParameter"),
            ("1.DeviceName=/dev/sdf&2.Ebs.VolumeSize=1", "MissingParameter"),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.VolumeSize=-1",
                "InvalidParameterValue",
            ),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.VolumeSize=0",
                "InvalidParameterValue",
            ),
            ("1.DeviceName=/dev/sdf&1.Ebs.Iops=-1", "InvalidParameterValue"),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.Throughput=-1",
                "InvalidParameterValue",
            ),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.VolumeType=fast",
                "InvalidParameterValue",
            ),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.SnapshotId=nonsense",
                "InvalidSnapshotID.Malformed",
            ),
            (
                "1.DeviceName=/dev/sdf&1.Ebs.VolumeSize=1&1.NoDevice=",
                "InvalidParameterCombination",
            ),
            (
                "1.DeviceName=/dev/sdf&1.VirtualName=ephemeral0&1.NoDevice=",
                "InvalidParameterCombination",
            ),
        ] {
            let members = members
                .split('&')
                .map(|member| format!("BlockDeviceMapping.{member}"));
            let body = members.collect::<Vec<_>>().join("&");
            assert_eq!(of(&body).err().as_deref(), Some(code), "{body}");
        }
    }
}
