//! Every operation that AWS has and this cloud hasn't says so, in every service and in its own form; and a name that
//! nobody has. Over the door, with requests as clients sign them.

use cumulet_wire::Codec;

use super::{
    echo::{Signing, ask},
    *,
};
use crate::{Door, auth::AuthConfig, iam::IAM, rpc::Rpc, service_quotas::SERVICE_QUOTAS, ssm::SSM, sts::STS};

fn door(world: &World) -> Door {
    Door::with_limits(
        world.cloud.clone(),
        AuthConfig::default(),
        RequestLimits::UNLIMITED,
        1 << 20,
    )
}

/// A request for an operation without parameters, as the service's clients write it.
fn call(service: &Rpc, operation: &str) -> Signing<'static> {
    match service.model.codec {
        Codec::Json {
            content_type,
            target_prefix,
        } => Signing::json(
            service.model.name,
            content_type,
            &format!("{target_prefix}.{operation}"),
            "{}",
        ),
        Codec::Ec2 | Codec::Query { .. } => Signing::form(
            service.model.name,
            &format!("Action={operation}&Version={}", service.model.version),
        ),
    }
}

#[tokio::test]
async fn what_aws_has_is_unsupported_and_what_it_has_not_is_invalid() {
    let world = World::new().await;
    let door = door(&world);
    for service in [&EC2, &IAM, &STS, &SERVICE_QUOTAS, &SSM] {
        let json = matches!(service.model.codec, Codec::Json { .. });
        let (unsupported, unknown) = if json {
            ("UnsupportedOperationException", "UnknownOperationException")
        } else {
            ("UnsupportedOperation", "InvalidAction")
        };
        assert!(service.model.unserved.len() > 5, "{service:?}");
        for operation in service.model.unserved {
            let expected = if service.as_if_unknown.contains(operation) {
                unknown
            } else {
                unsupported
            };
            let (status, code) = ask(&world, &door, &call(service, operation)).await.code();
            assert_eq!((status, &*code), (400, expected), "{service:?} {operation}");
        }
        for operation in ["MakeCoffee", "getuser", "RunInstance", "GetUsers", ""] {
            let expected = match (operation, json) {
                ("", false) => "MissingAction",
                _ => unknown,
            };
            let (status, code) = ask(&world, &door, &call(service, operation)).await.code();
            assert_eq!((status, &*code), (400, expected), "{service:?} {operation}");
        }
    }
    for (service, operation) in [
        (&IAM, "CreateUser"),
        (&IAM, "ListUsers"),
        (&STS, "AssumeRole"),
        (&SERVICE_QUOTAS, "RequestServiceQuotaIncrease"),
        (&SSM, "PutParameter"),
    ] {
        assert!(service.model.unserved.contains(&operation), "{operation}");
    }
}

/// A refusal is in the form that the client of its service reads, whatever it is refused for.
#[tokio::test]
async fn each_service_refuses_in_its_own_form() {
    let world = World::new().await;
    let door = door(&world);
    for service in [&EC2, &IAM, &STS, &SERVICE_QUOTAS, &SSM] {
        let fine = call(service, service.model.operations[0].name);
        for (signing, statuses) in [
            (fine.clone().with_secret("wrong"), [401, 403, 400]),
            (fine.clone().with_key("AKIAIOSFODNN7EXAMPLE"), [401, 403, 400]),
            (fine.clone().with_body(&"x".repeat(2 << 20)), [413; 3]),
        ] {
            let answer = ask(&world, &door, &signing).await;
            let place = match service.model.codec {
                Codec::Ec2 => 0,
                Codec::Query { .. } => 1,
                Codec::Json { .. } => 2,
            };
            let (status, code) = answer.code();
            assert_eq!(status, statuses[place], "{service:?}: {}", answer.text);
            assert!(!code.is_empty(), "{service:?}: {}", answer.text);
        }
    }
    // A service that is not here, in the protocol of its clients.
    for version in ["1.0", "1.1"] {
        let kind = format!("application/x-amz-json-{version}");
        let answer = ask(
            &world,
            &door,
            &Signing::json("kms", &kind, "TrentService.ListKeys", "{}"),
        )
        .await;
        assert_eq!(
            answer.code(),
            (400, "InvalidSignatureException".into()),
            "{}",
            answer.text
        );
        assert_eq!(answer.content_type, kind);
    }
    let answer = ask(&world, &door, &Signing::form("sqs", "Action=ListQueues")).await;
    assert!(answer.text.contains("<Response><Errors>"), "{}", answer.text);
}

#[tokio::test]
async fn quotas_are_those_in_force() {
    let world = World::new().await;
    let door = door(&world);
    let quotas = async |operation: &str, body: &str| {
        let target = format!("ServiceQuotasV20190624.{operation}");
        ask(
            &world,
            &door,
            &Signing::json("servicequotas", "application/x-amz-json-1.1", &target, body),
        )
        .await
    };
    let answer = quotas(
        "GetServiceQuota",
        r#"{"ServiceCode":"ec2","QuotaCode":"L-1216C47A"}"#,
    )
    .await;
    assert_eq!(
        (answer.status, &*answer.content_type),
        (200, "application/x-amz-json-1.1"),
        "{}",
        answer.text
    );
    let quota = &answer.json()["Quota"];
    let limits = accounts::limits(&world.cloud, &world.who).await.unwrap();
    assert_eq!(quota["Value"].as_f64(), Some(limits.vcpus_max.0 as f64));
    assert_eq!(
        quota["QuotaArn"].as_str(),
        Some(&*format!(
            "arn:aws:servicequotas:us-east-1:{}:ec2/L-1216C47A",
            world.who.account
        ))
    );
    // Pages meet.
    for service in ["ec2", "vpc"] {
        let whole = quotas("ListServiceQuotas", &format!(r#"{{"ServiceCode":"{service}"}}"#))
            .await
            .json();
        let whole = whole["Quotas"].as_array().unwrap().clone();
        assert!(whole.len() >= 3, "{service}");
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = format!(r#"{{"ServiceCode":"{service}","MaxResults":2{token}}}"#);
            let page = quotas("ListServiceQuotas", &page).await.json();
            seen.extend(page["Quotas"].as_array().unwrap().clone());
            match page["NextToken"].as_str() {
                Some(next) => token = format!(r#","NextToken":"{next}""#),
                None => break,
            }
        }
        assert_eq!(seen, whole);
    }
    let services = quotas("ListServices", "{}").await.json();
    assert_eq!(services["Services"].as_array().map(Vec::len), Some(2));
    for (operation, body, code) in [
        (
            "GetServiceQuota",
            r#"{"ServiceCode":"ec2","QuotaCode":"L-0"}"#,
            "NoSuchResourceException",
        ),
        (
            "GetServiceQuota",
            r#"{"ServiceCode":"s3","QuotaCode":"L-0"}"#,
            "NoSuchResourceException",
        ),
        (
            "GetServiceQuota",
            r#"{"ServiceCode":"ec2"}"#,
            "ValidationException",
        ),
        (
            "GetServiceQuota",
            r#"{"ServiceCode":7,"QuotaCode":"L-0"}"#,
            "SerializationException",
        ),
        (
            "GetServiceQuota",
            r#"{"ServiceCode":"ec2","QuotaCode":"L-0","X":1}"#,
            "SerializationException",
        ),
        (
            "GetServiceQuota",
            r#"{"ServiceCode":"ec2","QuotaCode":"L-1216C47A","ContextId":"i-1"}"#,
            "UnsupportedOperationException",
        ),
        ("GetServiceQuota", r#"{"ServiceCode":"#, "SerializationException"),
        (
            "GetServiceQuota",
            r#"["ec2","L-1216C47A"]"#,
            "SerializationException",
        ),
        (
            "ListServiceQuotas",
            r#"{"ServiceCode":"ec2","MaxResults":101}"#,
            "IllegalArgumentException",
        ),
        (
            "ListServiceQuotas",
            r#"{"ServiceCode":"ec2","NextToken":"x"}"#,
            "InvalidPaginationTokenException",
        ),
        (
            "ListServiceQuotas",
            r#"{"ServiceCode":"ec2","QuotaAppliedAtLevel":"X"}"#,
            "IllegalArgumentException",
        ),
    ] {
        let answer = quotas(operation, body).await;
        assert_eq!(answer.code(), (400, code.into()), "{body}: {}", answer.text);
    }
}
