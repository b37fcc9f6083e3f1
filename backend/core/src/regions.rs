//! Regions and availability zones, from the configuration.

use crate::RequestContext;

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionView {
    /// For instance `us-east-1`.
    pub name: String,
    /// Where its API is, as a host and a port.
    pub endpoint: String,
}

/// An availability zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneView {
    /// For instance `us-east-1a`.
    pub name: String,
    /// For instance `use1-az1`.
    pub id: String,
    /// Its region.
    pub region: String,
}

/// The regions: one.
pub fn regions(cx: &RequestContext) -> Vec<RegionView> {
    vec![RegionView {
        name: cx.config.region.clone(),
        endpoint: cx.config.endpoint.clone(),
    }]
}

/// The availability zones, in the order of the configuration.
pub fn availability_zones(cx: &RequestContext) -> Vec<ZoneView> {
    let zone = |name: &String| ZoneView {
        name: name.clone(),
        id: zone_id(name),
        region: cx.config.region.clone(),
    };
    cx.config.availability_zones.iter().map(zone).collect()
}

/// A zone's id, as Amazon makes them: `use1-az1` for `us-east-1a`. A name of another form is its own id.
pub fn zone_id(zone: &str) -> String {
    let made = || {
        let letter = zone.chars().next_back().filter(char::is_ascii_lowercase)?;
        let parts: Vec<&str> = zone[..zone.len() - 1].split('-').collect();
        let [area, direction, number] = parts.as_slice() else {
            return None;
        };
        let short = match *direction {
            "northeast" => "ne",
            "southeast" => "se",
            "northwest" => "nw",
            "southwest" => "sw",
            other => other.get(..1)?,
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let index = u32::from(letter) - u32::from('a') + 1;
        digits.then(|| format!("{area}{short}{number}-az{index}"))
    };
    made().unwrap_or_else(|| zone.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_ids() {
        for (name, id) in [
            ("us-east-1a", "use1-az1"),
            ("eu-west-3c", "euw3-az3"),
            ("ap-northeast-2b", "apne2-az2"),
            ("home", "home"),
            ("é", "é"),
            ("", ""),
            ("a-b-ca", "a-b-ca"),
        ] {
            assert_eq!(zone_id(name), id);
        }
    }
}
