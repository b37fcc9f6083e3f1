//! The host profile that libvirt reports, in Nova's names. Architecture, vendor and topology are the host's
//! processors'; model and features are those of the processor that guests get here.

use std::{collections::BTreeSet, io};

use cumulet_domain::host::HostProfile;
use virt::{connect::Connect, error::Error as LibvirtError, sys};

use super::{
    tree::{Element, parse},
    xml,
};

/// Asks libvirt. What an older one can't tell is left out.
pub(super) fn read(connection: &Connect, kvm: bool) -> Result<io::Result<HostProfile>, LibvirtError> {
    let said = Said {
        kvm,
        kind: connection.driver_type()?,
        version: connection.hyp_version()?,
        host: connection.capabilities()?,
        guest: guest(connection, kvm),
    };
    Ok(said.profile())
}

/// The processor of guests: as libvirt would make it for this host, or the emulated one.
fn guest(connection: &Connect, kvm: bool) -> Option<Guest> {
    let mut guest = if kvm {
        let asked =
            connection.domain_capabilities(None, Some(xml::ARCHITECTURE), Some(xml::MACHINE), Some("kvm"), 0);
        Guest::of_host(&told(asked)?).ok()?
    } else {
        Guest {
            model: xml::EMULATED.into(),
            ..Guest::default()
        }
    };
    // The names of what is in a model are not in what was told.
    let model = format!(
        "<cpu><arch>{}</arch><model>{}</model></cpu>",
        xml::ARCHITECTURE,
        quick_xml::escape::escape(&guest.model)
    );
    let expanded = connection.baseline_cpu(&[&model], sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES);
    if let Some(expanded) = told(expanded).and_then(|xml| parse(&xml).ok()) {
        guest.has.extend(features(&expanded).0);
    }
    Some(guest)
}

fn told(answer: Result<String, LibvirtError>) -> Option<String> {
    answer
        .inspect_err(|error| tracing::warn!(%error, "libvirt can't tell what processors guests get"))
        .ok()
}

/// The processor of guests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Guest {
    model: String,
    has: BTreeSet<String>,
    /// What of its model it has not.
    lacks: BTreeSet<String>,
}

impl Guest {
    /// The model `host-model` of what libvirt says that domains can be.
    fn of_host(capabilities: &str) -> io::Result<Guest> {
        let capabilities = parse(capabilities)?;
        let modes = capabilities
            .at(&["cpu"])
            .into_iter()
            .flat_map(|cpu| &cpu.children);
        let mut modes = modes.filter(|mode| mode.attribute("name") == Some("host-model"));
        let mode = modes
            .find(|mode| mode.attribute("supported") == Some("yes"))
            .ok_or_else(|| io::Error::other("guests can't have the host's processor"))?;
        let model = mode.at(&["model"]).map(|model| model.text.clone());
        let (has, lacks) = features(mode);
        Ok(Guest {
            model: model.unwrap_or_default(),
            has,
            lacks,
        })
    }
}

/// The features that an element names: those that are there, and those that are not.
fn features(element: &Element) -> (BTreeSet<String>, BTreeSet<String>) {
    let named = element.children.iter().filter(|child| child.name == "feature");
    let named = named.filter_map(|feature| Some((feature.attribute("name")?, feature.attribute("policy"))));
    let (lacks, has): (Vec<_>, Vec<_>) =
        named.partition(|(_, policy)| matches!(policy, Some("disable" | "forbid")));
    let names = |of: Vec<(&str, _)>| of.into_iter().map(|(name, _)| name.to_owned()).collect();
    (names(has), names(lacks))
}

/// What libvirt has said.
struct Said {
    kvm: bool,
    kind: String,
    version: u32,
    /// The host's capabilities.
    host: String,
    guest: Option<Guest>,
}

impl Said {
    fn profile(&self) -> io::Result<HostProfile> {
        let host = parse(&self.host)?;
        let no_processor = || io::Error::other("libvirt tells nothing of the host's processors");
        let cpu = host.at(&["host", "cpu"]).ok_or_else(no_processor)?;
        let text = |name: &str| cpu.at(&[name]).map(|child| child.text.clone());
        let topology = |name: &str| cpu.at(&["topology"])?.attribute(name).map(str::to_owned);
        let guest = self.guest.as_ref();
        let features = guest.map(|guest| {
            let features: Vec<&str> = guest.has.difference(&guest.lacks).map(String::as_str).collect();
            features.join(" ")
        });
        let told = [
            ("hypervisor_type", Some(self.kind.clone())),
            ("hypervisor_version", Some(self.version.to_string())),
            ("kvm", Some(self.kvm.to_string())),
            ("cpu_info:arch", text("arch")),
            ("cpu_info:vendor", text("vendor")),
            ("cpu_info:model", guest.map(|guest| guest.model.clone())),
            ("cpu_info:features", features),
            ("cpu_info:topology:sockets", topology("sockets")),
            ("cpu_info:topology:cores", topology("cores")),
            ("cpu_info:topology:threads", topology("threads")),
        ];
        let told = told
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(HostProfile {
            architecture: text("arch").map(|arch| as_aws_spells(&arch).to_owned()),
            capabilities: told.filter(|(_, value)| !value.is_empty()).collect(),
        })
    }
}

fn as_aws_spells(architecture: &str) -> &str {
    match architecture {
        "aarch64" => "arm64",
        "i686" => "i386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "<capabilities><host><uuid>2b</uuid><cpu><arch>x86_64</arch><model>kvm64</model>\
        <vendor>AMD</vendor><topology sockets='1' dies='1' cores='2' threads='4'/><feature name='vme'/></cpu>\
        </host><guest><arch name='i686'/></guest></capabilities>";

    const DOMAIN: &str = "<domainCapabilities><arch>x86_64</arch><cpu>\
        <mode name='host-passthrough' supported='yes'/>\
        <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model><vendor>AMD</vendor>\
        <feature policy='require' name='x2apic'/><feature policy='disable' name='svm'/></mode>\
        <mode name='custom' supported='yes'><model usable='yes'>486</model></mode></cpu></domainCapabilities>";

    fn said(host: &str, guest: Option<Guest>) -> Said {
        Said {
            kvm: true,
            kind: "QEMU".into(),
            version: 7_002_022,
            host: host.into(),
            guest,
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_host_is_told_in_novas_names() {
        let mut guest = Guest::of_host(DOMAIN).unwrap();
        assert_eq!(guest.model, "EPYC");
        assert_eq!((&guest.has, &guest.lacks), (&set(&["x2apic"]), &set(&["svm"])));
        guest.has.extend(set(&["aes", "svm"]));
        let profile = said(HOST, Some(guest)).profile().unwrap();
        assert_eq!(profile.architecture.as_deref(), Some("x86_64"));
        let told: Vec<_> = profile
            .capabilities
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("cpu_info:arch", "x86_64"),
                ("cpu_info:features", "aes x2apic"),
                ("cpu_info:model", "EPYC"),
                ("cpu_info:topology:cores", "2"),
                ("cpu_info:topology:sockets", "1"),
                ("cpu_info:topology:threads", "4"),
                ("cpu_info:vendor", "AMD"),
                ("hypervisor_type", "QEMU"),
                ("hypervisor_version", "7002022"),
                ("kvm", "true"),
            ]
        );
    }

    #[test]
    fn what_is_not_told_is_left_out_and_an_arm_host_is_awss() {
        let host = "<capabilities><host><cpu><arch>aarch64</arch></cpu></host></capabilities>";
        let profile = said(host, None).profile().unwrap();
        assert_eq!(profile.architecture.as_deref(), Some("arm64"));
        assert_eq!(profile.capabilities["cpu_info:arch"], "aarch64");
        assert_eq!(profile.capabilities.len(), 4);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "<",
            "<capabilities/>",
            "text",
            "<capabilities><host></capabilities>",
        ] {
            assert!(said(text, None).profile().is_err(), "{text}");
            assert!(Guest::of_host(text).is_err(), "{text}");
        }
        let no = DOMAIN.replace("host-model' supported='yes", "host-model' supported='no");
        assert!(Guest::of_host(&no).is_err());
    }
}
