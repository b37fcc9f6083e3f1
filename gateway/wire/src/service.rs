//! A service of AWS as its model describes it: its name, its protocol, its operations.
//!
//! One static a service is generated ([`crate::ec2::operations::SERVICE`], [`crate::iam::SERVICE`] and so on); whoever
//! serves it looks an operation up here, and writes answers as the codec says.

use crate::operation::{Known, OperationInfo};

/// How a service's requests and answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// EC2's own variant of `query`: forms with flat lists, XML without a wrapper.
    Ec2,
    /// `query`: forms with `member` in their lists, XML with a wrapper.
    Query {
        /// The namespace of the documents.
        namespace: &'static str,
    },
    /// awsJson 1.0 and 1.1: the operation in `X-Amz-Target`, JSON in both directions.
    Json {
        /// The content type, which tells the version.
        content_type: &'static str,
        /// What is before the dot in `X-Amz-Target`.
        target_prefix: &'static str,
    },
}

/// A service: what is known of it as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceModel {
    /// Its name in the scope of a signature.
    pub name: &'static str,
    /// How it is spoken with.
    pub codec: Codec,
    /// The version of its API.
    pub version: &'static str,
    /// The operations that are served, by name.
    pub operations: &'static [OperationInfo],
    /// Those of the model that are not, by name.
    pub unserved: &'static [&'static str],
}

impl ServiceModel {
    /// What is known of an operation.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Known {
        match self.operations.binary_search_by(|info| info.name.cmp(name)) {
            Ok(at) => Known::Served(&self.operations[at]),
            Err(_) if self.unserved.binary_search(&name).is_ok() => Known::Unserved,
            Err(_) => Known::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ec2, iam, service_quotas, ssm, sts};

    #[test]
    fn every_service_is_searched_by_halves() {
        for service in [
            &ec2::operations::SERVICE,
            &iam::SERVICE,
            &sts::SERVICE,
            &service_quotas::SERVICE,
            &ssm::SERVICE,
        ] {
            assert!(
                service.operations.is_sorted_by_key(|info| info.name),
                "{}",
                service.name
            );
            assert!(service.unserved.is_sorted(), "{}", service.name);
            for info in service.operations {
                assert_eq!(service.lookup(info.name), Known::Served(info));
                assert!(
                    info.permission.starts_with(&format!("{}:", service.name)),
                    "{}",
                    info.name
                );
            }
            assert_eq!(service.lookup("Nonsense"), Known::Unknown);
        }
        assert_eq!(iam::SERVICE.lookup("CreateUser"), Known::Unserved);
        assert_eq!(
            service_quotas::SERVICE.lookup("RequestServiceQuotaIncrease"),
            Known::Unserved
        );
        assert_eq!(ssm::SERVICE.lookup("PutParameter"), Known::Unserved);
    }
}
