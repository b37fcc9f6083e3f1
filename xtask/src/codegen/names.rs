//! Rust names for names in the model.

/// Words that the model writes in a way that would fall apart.
const WORDS: [(&str, &str); 6] = [
    ("VCpu", "Vcpu"),
    ("MiB", "Mib"),
    ("GiB", "Gib"),
    ("TiB", "Tib"),
    ("IPv4", "Ipv4"),
    ("IPv6", "Ipv6"),
];

/// The module of a service.
pub(super) fn module(service: &str) -> String {
    service.replace('-', "_")
}

/// A field's name: snake case, raw where it is a keyword.
pub(super) fn field(member: &str) -> String {
    let name = snake(member);
    match name.as_str() {
        "type" | "return" | "match" | "ref" | "use" | "move" | "loop" | "async" | "final" | "static" => {
            format!("r#{name}")
        }
        _ => name,
    }
}

fn snake(member: &str) -> String {
    let member = WORDS
        .iter()
        .fold(member.to_owned(), |text, (from, to)| text.replace(from, to));
    let chars: Vec<char> = member.chars().collect();
    let mut out = String::with_capacity(member.len() + 8);
    for (i, c) in chars.iter().enumerate() {
        let after_lower = i > 0 && !chars[i - 1].is_uppercase();
        let before_lower = i > 0 && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_lower || before_lower) && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields() {
        for (member, expected) in [
            ("InstanceId", "instance_id"),
            ("EbsOptimized", "ebs_optimized"),
            (
                "EnableResourceNameDnsAAAARecord",
                "enable_resource_name_dns_aaaa_record",
            ),
            ("DefaultVCpus", "default_vcpus"),
            ("SizeInMiB", "size_in_mib"),
            ("IPv6Native", "ipv6_native"),
            ("Ipv6CidrBlock", "ipv6_cidr_block"),
            ("Type", "r#type"),
            ("Return", "r#return"),
            ("HttpPutResponseHopLimit", "http_put_response_hop_limit"),
        ] {
            assert_eq!(super::field(member), expected);
        }
    }
}
