//! Group references of a call, and the old flat parameters as a permission.

use cumulet_backend::api::security_groups::GroupName;
use cumulet_wire::ec2::security_groups::{IpPermission, IpRange, UserIdGroupPair};

use crate::{ec2::ctx::id, fault::Fault};

/// The group, by id or by its name in the default VPC.
pub(super) fn group(group_id: Option<&str>, group_name: Option<String>) -> Result<GroupName, Fault> {
    match (group_id, group_name) {
        (Some(_), Some(_)) => Err(Fault::combination("GroupId and GroupName can't be used together")),
        (Some(text), None) => Ok(GroupName::Id(id(text)?)),
        (None, Some(name)) => Ok(GroupName::Name(name)),
        (None, None) => Err(Fault::missing("GroupId")),
    }
}

/// The parameters from before `IpPermissions`.
#[derive(Debug, Default)]
pub(super) struct Flat {
    pub(super) protocol: Option<String>,
    pub(super) from: Option<i32>,
    pub(super) to: Option<i32>,
    pub(super) cidr: Option<String>,
    pub(super) source_name: Option<String>,
    pub(super) source_owner: Option<String>,
}

/// All permissions of a call: the list and, as one more, the flat parameters. A source group by name alone
/// means every protocol, as it did on EC2-Classic.
pub(super) fn permissions(mut list: Vec<IpPermission>, flat: Flat) -> Result<Vec<IpPermission>, Fault> {
    let given = flat.protocol.is_some() || flat.cidr.is_some() || flat.source_name.is_some();
    if given {
        if !list.is_empty() {
            return Err(Fault::combination(
                "IpPermissions can't be combined with IpProtocol, CidrIp and their like",
            ));
        }
        let every = flat.source_name.is_some() && flat.protocol.is_none();
        list.push(IpPermission {
            ip_protocol: flat.protocol.or_else(|| every.then(|| "-1".into())),
            from_port: flat.from,
            to_port: flat.to,
            ip_ranges: flat
                .cidr
                .into_iter()
                .map(|cidr| IpRange {
                    cidr_ip: Some(cidr),
                    ..Default::default()
                })
                .collect(),
            user_id_group_pairs: flat
                .source_name
                .into_iter()
                .map(|name| UserIdGroupPair {
                    group_name: Some(name),
                    user_id: flat.source_owner.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
    }
    Ok(list)
}

/// How the four calls that add and remove rules begin: all permissions of a request. Their requests are types of
/// their own with the same members.
macro_rules! asked {
    ($input:ident) => {{
        use $crate::ec2::actions::security_groups::which;
        let flat = which::Flat {
            protocol: $input.ip_protocol,
            from: $input.from_port,
            to: $input.to_port,
            cidr: $input.cidr_ip,
            source_name: $input.source_security_group_name,
            source_owner: $input.source_security_group_owner_id,
        };
        which::permissions($input.ip_permissions, flat)?
    }};
}
pub(super) use asked;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_parameters_are_one_permission() {
        let flat = || Flat {
            protocol: Some("tcp".into()),
            from: Some(22),
            to: Some(22),
            cidr: Some("0.0.0.0/0".into()),
            ..Default::default()
        };
        let list = permissions(Vec::new(), flat()).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].ip_ranges[0].cidr_ip.as_deref(), Some("0.0.0.0/0"));
        assert!(permissions(list, flat()).is_err());
        assert!(permissions(Vec::new(), Flat::default()).unwrap().is_empty());
        let by_name = Flat {
            source_name: Some("web".into()),
            ..Default::default()
        };
        assert_eq!(
            permissions(Vec::new(), by_name).unwrap()[0]
                .ip_protocol
                .as_deref(),
            Some("-1")
        );
    }
}
