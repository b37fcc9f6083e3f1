//! RunInstances: the request becomes a `LaunchSpec`; all else is the backend's.

use async_trait::async_trait;
use cumulet_backend::api::instances::{self, LaunchSpec, LaunchTags};
use cumulet_domain::{id::ImageId, instance::ShutdownBehavior, tag::Tag};
use cumulet_wire::ec2::{
    instances::{InstanceNetworkInterfaceSpecification, Reservation, RunInstances, RunInstancesRequest},
    shared::TagSpecification,
};

use super::{image_alias::image_id, modify_instance_metadata_options::Asked};
use crate::{
    ec2::{
        action::Action,
        block_devices::mappings,
        ctx::{Ctx, id, ids, tags, unique_keys},
        render, user_data,
    },
    fault::Fault,
};

/// The type of those who name none, by the API reference; boto 2 and euca2ools send it of themselves.
const DEFAULT_TYPE: &str = "m1.small";

#[async_trait]
impl Action for RunInstances {
    async fn run(ctx: &Ctx, input: RunInstancesRequest) -> Result<Reservation, Fault> {
        let image = image_id(ctx, input.image_id.as_deref()).await?;
        let mut spec = spec(image, input)?;
        spec.client_token = ctx.token.clone();
        let made = instances::launch(&ctx.cloud, &ctx.who, spec).await?;
        Ok(render::instance::reservation(&ctx.cloud, &made))
    }
}

fn spec(image: ImageId, input: RunInstancesRequest) -> Result<LaunchSpec, Fault> {
    let instance_type = input.instance_type.as_deref().unwrap_or(DEFAULT_TYPE);
    let mut spec = LaunchSpec::new(image, instance_type);
    (spec.min, spec.max) = (
        count("MinCount", input.min_count)?,
        count("MaxCount", input.max_count)?,
    );
    spec.key_name = input.key_name;
    if let Some(placement) = input.placement {
        spec.availability_zone = placement.availability_zone;
        spec.placement_group = placement.group_name.filter(|name| !name.is_empty());
        spec.partition_number = placement
            .partition_number
            .map(|number| u32::try_from(number).unwrap_or(0));
    }
    spec.subnet = input.subnet_id.as_deref().map(id).transpose()?;
    spec.groups = ids(&input.security_group_ids)?;
    spec.group_names = input.security_groups;
    spec.private_ip = input.private_ip_address.as_deref().map(address).transpose()?;
    network(&mut spec, input.network_interfaces)?;
    if let Some(text) = &input.user_data {
        spec.user_data = user_data::from_base64(&text.0)?;
    }
    spec.mappings = mappings(input.block_device_mappings)?;
    spec.tags = launch_tags(input.tag_specifications)?;
    spec.shutdown_behavior = match input.instance_initiated_shutdown_behavior.as_deref() {
        None | Some("stop") => ShutdownBehavior::Stop,
        Some("terminate") => ShutdownBehavior::Terminate,
        Some(other) => {
            let reason = "expecting stop or terminate";
            return Err(Fault::invalid("InstanceInitiatedShutdownBehavior", other, reason));
        }
    };
    spec.disable_api_termination = input.disable_api_termination == Some(true);
    spec.disable_api_stop = input.disable_api_stop == Some(true);
    if let Some(options) = &input.metadata_options {
        spec.metadata = Asked {
            tokens: options.http_tokens.as_deref(),
            hop_limit: options.http_put_response_hop_limit,
            endpoint: options.http_endpoint.as_deref(),
            tags: options.instance_metadata_tags.as_deref(),
        }
        .change("MetadataOptions.")?;
    }
    Ok(spec)
}

fn count(name: &str, given: Option<i32>) -> Result<u32, Fault> {
    let given = given.ok_or_else(|| Fault::missing(name))?;
    u32::try_from(given)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| Fault::invalid(name, &given.to_string(), "expecting at least 1"))
}

fn address(text: &str) -> Result<std::net::Ipv4Addr, Fault> {
    text.parse()
        .map_err(|_| Fault::invalid("PrivateIpAddress", text, "expecting an IPv4 address"))
}

/// The one interface, as `-s` and `--associate-public-ip-address` of the command lines describe it. Subnet
/// and groups are then said there and nowhere else.
fn network(spec: &mut LaunchSpec, given: Vec<InstanceNetworkInterfaceSpecification>) -> Result<(), Fault> {
    let mut given = given.into_iter();
    let Some(nic) = given.next() else { return Ok(()) };
    if given.next().is_some() || nic.device_index.is_some_and(|index| index != 0) {
        return Err(Fault::coded(
            "UnsupportedOperation",
            400,
            "An instance has one network interface, at index 0.",
        ));
    }
    if spec.subnet.is_some()
        || !spec.groups.is_empty()
        || !spec.group_names.is_empty()
        || spec.private_ip.is_some()
    {
        return Err(Fault::combination(
            "Network interfaces and an instance-level subnet ID, security groups or private address may not be \
             specified on the same request",
        ));
    }
    let listed = nic
        .private_ip_addresses
        .iter()
        .map(|listed| listed.private_ip_address.as_deref());
    let mut addresses: Vec<&str> = nic
        .private_ip_address
        .as_deref()
        .into_iter()
        .chain(listed.flatten())
        .collect();
    addresses.dedup();
    if addresses.len() > 1 {
        return Err(Fault::coded(
            "UnsupportedOperation",
            400,
            "An interface has one private address.",
        ));
    }
    spec.private_ip = addresses.first().map(|text| address(text)).transpose()?;
    spec.subnet = nic.subnet_id.as_deref().map(id).transpose()?;
    spec.groups = ids(&nic.groups)?;
    spec.associate_public_ip = nic.associate_public_ip_address;
    spec.interface_description = nic.description.unwrap_or_default();
    Ok(())
}

fn launch_tags(given: Vec<TagSpecification>) -> Result<LaunchTags, Fault> {
    let mut all = LaunchTags::default();
    for (n, specification) in given.into_iter().enumerate() {
        let kind = specification.resource_type.unwrap_or_default();
        let place: &mut Vec<Tag> = match kind.as_str() {
            "instance" => &mut all.instance,
            "volume" => &mut all.volume,
            "network-interface" => &mut all.network_interface,
            other => {
                let name = format!("TagSpecification.{}.ResourceType", n + 1);
                return Err(Fault::invalid(
                    &name,
                    other,
                    "expecting instance, volume or network-interface",
                ));
            }
        };
        place.extend(tags(specification.tags));
    }
    for tags in [&all.instance, &all.volume, &all.network_interface] {
        unique_keys(tags)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use cumulet_wire::{Protocol, Query, decode};

    use super::*;

    fn input(rest: &str) -> RunInstancesRequest {
        let body = format!("ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=2&{rest}");
        decode(&Query::parse(body.as_bytes(), Protocol::Ec2).unwrap()).unwrap()
    }

    fn made(rest: &str) -> Result<LaunchSpec, String> {
        spec(ImageId::new(1), input(rest)).map_err(|fault| fault.answer().code.into_owned())
    }

    #[test]
    fn an_interface_is_the_old_parameters_said_elsewhere() {
        let plain = made("SubnetId=subnet-0123456789abcdef0&SecurityGroupId.1=sg-0123456789abcdef0").unwrap();
        let nic = made(
            "NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.SubnetId=subnet-0123456789abcdef0&\
             NetworkInterface.1.SecurityGroupId.1=sg-0123456789abcdef0",
        )
        .unwrap();
        assert_eq!(plain, nic);
        let public =
            made("NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.AssociatePublicIpAddress=true")
                .unwrap();
        assert_eq!(public.associate_public_ip, Some(true));
        let listed = "NetworkInterface.1.PrivateIpAddresses.1.PrivateIpAddress=10.0.0.5&\
                      NetworkInterface.1.PrivateIpAddresses.1.Primary=true";
        assert_eq!(made(listed).unwrap().private_ip, Some([10, 0, 0, 5].into()));
    }

    #[test]
    fn what_is_refused_before_anything_is_looked_up() {
        for (rest, code) in [
            ("SubnetId=nonsense", "InvalidSubnetID.Malformed"),
            ("SecurityGroupId.1=nonsense", "InvalidGroupId.Malformed"),
            ("PrivateIpAddress=nonsense", "InvalidParameterValue"),
            (
                "InstanceInitiatedShutdownBehavior=explode",
                "InvalidParameterValue",
            ),
            (
                "TagSpecification.1.ResourceType=vpc&TagSpecification.1.Tag.1.Key=a",
                "InvalidParameterValue",
            ),
            ("MetadataOptions.HttpTokens=maybe", "InvalidParameterValue"),
            ("NetworkInterface.1.DeviceIndex=1", "UnsupportedOperation"),
            (
                "NetworkInterface.1.DeviceIndex=0&NetworkInterface.2.DeviceIndex=0",
                "UnsupportedOperation",
            ),
            (
                "NetworkInterface.1.DeviceIndex=0&SubnetId=subnet-0123456789abcdef0",
                "InvalidParameterCombination",
            ),
        ] {
            assert_eq!(made(rest).err().as_deref(), Some(code), "{rest}");
        }
        let mut zero = input("");
        zero.min_count = Some(0);
        assert!(spec(ImageId::new(1), zero).is_err());
    }

    #[test]
    fn tags_go_to_what_they_are_for() {
        let spec = made(
            "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=&\
             TagSpecification.2.ResourceType=volume&TagSpecification.2.Tag.1.Key=b&TagSpecification.2.Tag.1.Value=0123",
        )
        .unwrap();
        let tag = |key: &str, value: &str| Tag {
            key: key.into(),
            value: value.into(),
        };
        assert_eq!(spec.tags.instance, [tag("a", "")]);
        assert_eq!(spec.tags.volume, [tag("b", "0123")]);
    }
}
