//! Every operation that AWS has and this cloud hasn't says so, in every service; and a name that nobody has.

use cumulet_wire::{Known, ec2, iam as iam_wire, sts as sts_wire};

use super::*;
use crate::{fault::Fault, iam, sts};

#[tokio::test]
async fn what_aws_has_is_unsupported_and_what_it_has_not_is_invalid() {
    let world = World::new().await;
    let code = |fault: Fault| fault.answer().code.into_owned();
    let ask = async |service: &str, action: &str| {
        let body = format!("Action={action}");
        let query = Query::parse(body.as_bytes(), Protocol::Query).unwrap();
        match service {
            "sts" => sts::serve(&world.who, &query, "r").map_err(code),
            "iam" => iam::serve(&world.cloud, &world.who, &query, "r")
                .await
                .map_err(code),
            _ => {
                let answer = world.try_as(&world.who, &body).await;
                answer.map_err(|refusal| refusal.code.into_owned())
            }
        }
    };
    for (service, unserved) in [
        ("sts", sts_wire::UNSERVED),
        ("iam", iam_wire::UNSERVED),
        ("ec2", ec2::operations::UNSERVED),
    ] {
        assert!(unserved.len() > 5, "{service}");
        for action in unserved
            .iter()
            .filter(|name| **name != "DescribeAddressesAttribute")
        {
            let answer = ask(service, action).await;
            assert_eq!(answer, Err("UnsupportedOperation".into()), "{service} {action}");
        }
        for action in ["MakeCoffee", "getuser", "RunInstance", "GetUsers"] {
            assert_eq!(
                ask(service, action).await,
                Err("InvalidAction".into()),
                "{service} {action}"
            );
        }
    }
    for (service, action) in [("iam", "CreateUser"), ("iam", "ListUsers"), ("sts", "AssumeRole")] {
        assert_eq!(ask(service, action).await, Err("UnsupportedOperation".into()));
    }
    assert!(matches!(sts_wire::lookup("GetCallerIdentity"), Known::Served(_)));
}
