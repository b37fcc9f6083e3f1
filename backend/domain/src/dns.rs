//! The DNS names that EC2 gives to addresses.

use std::net::Ipv4Addr;

/// A private address's name: `ip-10-0-0-5.ec2.internal` in us-east-1, with the region elsewhere.
pub fn private_name(address: Ipv4Addr, region: &str) -> String {
    match region {
        "us-east-1" => format!("ip-{}.ec2.internal", dashed(address)),
        region => format!("ip-{}.{region}.compute.internal", dashed(address)),
    }
}

/// A public address's name.
pub fn public_name(address: Ipv4Addr, region: &str) -> String {
    match region {
        "us-east-1" => format!("ec2-{}.compute-1.amazonaws.com", dashed(address)),
        region => format!("ec2-{}.{region}.compute.amazonaws.com", dashed(address)),
    }
}

fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn us_east_1_is_different() {
        let address = Ipv4Addr::new(10, 0, 0, 5);
        for (region, private, public) in [
            (
                "us-east-1",
                "ip-10-0-0-5.ec2.internal",
                "ec2-10-0-0-5.compute-1.amazonaws.com",
            ),
            (
                "eu-west-1",
                "ip-10-0-0-5.eu-west-1.compute.internal",
                "ec2-10-0-0-5.eu-west-1.compute.amazonaws.com",
            ),
        ] {
            assert_eq!(private_name(address, region), private);
            assert_eq!(public_name(address, region), public);
        }
    }
}
