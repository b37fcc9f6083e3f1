//! The instance identity document, `instance-identity/document`: JSON with EC2's order of keys, spacing and
//! no final newline.

use cumulet_domain::{calendar::Civil, metadata::InstanceMetadata, time::Timestamp};
use serde_json::Value;

/// The document of an instance.
pub(crate) fn document(of: &InstanceMetadata) -> String {
    let text = |text: String| Value::String(text);
    let address = of.interfaces.first().map(|i| text(i.private_ip.to_string()));
    let members = [
        ("accountId", text(of.account.to_string())),
        ("architecture", text(of.architecture.clone())),
        ("availabilityZone", text(of.availability_zone.clone())),
        ("billingProducts", Value::Null),
        ("devpayProductCodes", Value::Null),
        ("marketplaceProductCodes", Value::Null),
        ("imageId", text(of.image.to_string())),
        ("instanceId", text(of.instance.to_string())),
        ("instanceType", text(of.instance_type.clone())),
        ("kernelId", Value::Null),
        ("pendingTime", text(seconds(of.pending_time))),
        ("privateIp", address.unwrap_or(Value::Null)),
        ("ramdiskId", Value::Null),
        ("region", text(of.region.clone())),
        ("version", text("2017-09-30".into())),
    ];
    let lines: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("  \"{key}\" : {value}"))
        .collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

/// Clients parse this time without a fraction.
fn seconds(time: Timestamp) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = time.civil();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use crate::fixture;

    #[test]
    fn is_written_as_ec2_writes_it() {
        let expected = r#"{
  "accountId" : "123456789012",
  "architecture" : "x86_64",
  "availabilityZone" : "local-1a",
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : null,
  "imageId" : "ami-00000000200000002",
  "instanceId" : "i-00000000100000001",
  "instanceType" : "t3.micro",
  "kernelId" : null,
  "pendingTime" : "2026-01-02T03:04:05Z",
  "privateIp" : "10.0.0.5",
  "ramdiskId" : null,
  "region" : "local-1",
  "version" : "2017-09-30"
}"#;
        let metadata = fixture::instance(0x1_0000_0001, [10, 0, 0, 5].into());
        assert_eq!(super::document(&metadata), expected);
    }
}
