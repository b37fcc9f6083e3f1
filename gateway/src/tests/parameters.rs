//! Public parameters: what Parameter Store shows of the operator's aliases, and launches by them.

use cumulet_backend::api::aliases;
use serde_json::{Value, json};

use super::{
    echo::{Signing, ask},
    *,
};
use crate::{Door, auth::AuthConfig};

const NAME: &str = "/aws/service/tiny/latest";

/// A world in which the image has a name, in its second version.
async fn named() -> World {
    let world = World::new().await;
    let parts = world.cloud.parts();
    let id = world.image.parse().unwrap();
    aliases::set(&parts, NAME, id).await.unwrap();
    aliases::set(&parts, NAME, id).await.unwrap();
    world
}

/// What a call answers, with its status.
async fn call(world: &World, operation: &str, body: Value) -> (u16, Value) {
    let limits = RequestLimits::UNLIMITED;
    let door = Door::with_limits(world.cloud.clone(), AuthConfig::default(), limits, 1 << 20);
    let target = format!("AmazonSSM.{operation}");
    let signing = Signing::json("ssm", "application/x-amz-json-1.1", &target, &body.to_string());
    let answer = ask(world, &door, &signing).await;
    (answer.status, answer.json())
}

async fn refusal(world: &World, operation: &str, body: Value) -> (String, String) {
    let (status, answer) = call(world, operation, body.clone()).await;
    assert_eq!(status, 400, "{body}: {answer}");
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    (text("__type"), text("message"))
}

#[tokio::test]
async fn a_parameter_is_shown_as_aws_shows_it() {
    let world = named().await;
    let shown = json!({
        "Name": NAME,
        "Type": "String",
        "Value": world.image,
        "Version": 2,
        "LastModifiedDate": NOW.0 as f64 / 1000.0,
        "ARN": format!("arn:aws:ssm:us-east-1::parameter{NAME}"),
        "DataType": "aws:ec2:image",
    });
    let mut selected = shown.clone();
    selected["Selector"] = ":2".into();
    for (name, expected) in [
        (NAME.to_owned(), &shown),
        (format!("{NAME}:2"), &selected),
        (format!("arn:aws:ssm:us-east-1::parameter{NAME}"), &shown),
        (format!("arn:aws:ssm:us-east-1::parameter{NAME}:2"), &selected),
    ] {
        let answer = call(
            &world,
            "GetParameter",
            json!({"Name": name, "WithDecryption": true}),
        )
        .await;
        assert_eq!(answer, (200, json!({"Parameter": expected})), "{name}");
    }
    let by_path = call(
        &world,
        "GetParametersByPath",
        json!({"Path": "/aws/service/tiny/", "ParameterFilters": []}),
    );
    assert_eq!(by_path.await, (200, json!({"Parameters": [shown]})));
    let several =
        json!({"Names": ["/z", format!("{NAME}:2"), NAME, "/aws/service/none", format!("{NAME}:1"), NAME]});
    let answer = call(&world, "GetParameters", several).await;
    let invalid = ["/aws/service/none", "/aws/service/tiny/latest:1", "/z"];
    assert_eq!(
        answer,
        (
            200,
            json!({"Parameters": [shown, selected], "InvalidParameters": invalid})
        )
    );
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_models_words() {
    let world = named().await;
    for name in [
        "/aws/service/tiny",
        "/aws/service/tiny/Latest",
        "latest",
        "arn:aws:ssm:eu-west-1::parameter/aws/service/tiny/latest",
        "arn:aws:ssm:us-east-1:123456789012:parameter/aws/service/tiny/latest",
        "/none:2",
    ] {
        let told = refusal(&world, "GetParameter", json!({"Name": name})).await;
        assert_eq!(
            told,
            ("ParameterNotFound".into(), format!("Parameter {name} not found."))
        );
    }
    for (selector, what) in [
        ("1", "version"),
        ("3", "version"),
        ("stable", "label"),
        ("", "label"),
    ] {
        let name = format!("{NAME}:{selector}");
        let (code, told) = refusal(&world, "GetParameter", json!({"Name": name})).await;
        assert_eq!(code, "ParameterVersionNotFound", "{name}: {told}");
        let expected =
            format!("could not find {what} {selector} of {NAME}. Verify the {what} and try again.");
        assert!(told.ends_with(&expected), "{told}");
    }
    // An image that was deregistered has no alias any more.
    let deregister = format!("Action=DeregisterImage&ImageId={}", world.image);
    world.ask(&deregister).await;
    let told = refusal(&world, "GetParameter", json!({"Name": NAME})).await;
    assert_eq!(told.0, "ParameterNotFound");
}

#[tokio::test]
async fn bad_input_is_refused_by_its_name() {
    let world = named().await;
    let eleven: Vec<String> = (0..11).map(|n| format!("/n{n}")).collect();
    for (operation, body, code, told) in [
        ("GetParameter", json!({}), "ValidationException", "'name'"),
        (
            "GetParameter",
            json!({"Name": ""}),
            "ValidationException",
            "Value '' at 'name'",
        ),
        (
            "GetParameter",
            json!({"Name": "x".repeat(2049)}),
            "ValidationException",
            "to 2048",
        ),
        (
            "GetParameter",
            json!({"Name": 7}),
            "SerializationException",
            "integer `7`",
        ),
        (
            "GetParameters",
            json!({}),
            "ValidationException",
            "Value null at 'names'",
        ),
        (
            "GetParameters",
            json!({"Names": []}),
            "ValidationException",
            "Value '[]' at 'names'",
        ),
        (
            "GetParameters",
            json!({"Names": eleven}),
            "ValidationException",
            "to 10",
        ),
        (
            "GetParameters",
            json!({"Names": [""]}),
            "ValidationException",
            "'names'",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "aws"}),
            "ValidationException",
            "forward slash",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "//"}),
            "ValidationException",
            "forward slash",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "/a%"}),
            "ValidationException",
            "forward slash",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "/", "MaxResults": 11}),
            "ValidationException",
            "MaxResults",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "/", "NextToken": "x"}),
            "InvalidNextToken",
            "",
        ),
        (
            "GetParametersByPath",
            json!({"Path": "/", "ParameterFilters": [{"Key": "Type", "Values": ["String"]}]}),
            "UnsupportedOperationException",
            "ParameterFilters",
        ),
        (
            "PutParameter",
            json!({}),
            "UnsupportedOperationException",
            "PutParameter",
        ),
        ("GetParamter", json!({}), "UnknownOperationException", ""),
    ] {
        let (found, message) = refusal(&world, operation, body.clone()).await;
        assert!(
            found == code && message.contains(told),
            "{operation} {body}: {found}: {message}"
        );
    }
}

#[tokio::test]
async fn a_launch_resolves_an_alias() {
    let world = named().await;
    let launch = "Action=RunInstances&MinCount=1&MaxCount=1&InstanceType=t3.nano&ImageId=";
    for alias in [
        NAME.to_owned(),
        format!("{NAME}:2"),
        format!("arn:aws:ssm:us-east-1::parameter{NAME}"),
    ] {
        let mapping = "&BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeSize=9";
        let answer = world.ask(&format!("{launch}resolve:ssm:{alias}{mapping}")).await;
        assert_eq!(one(&answer, "imageId"), world.image);
    }
    for alias in [
        "/aws/service/none",
        "/aws/service/tiny/latest:1",
        "/aws/service/tiny/latest:x",
        "",
    ] {
        let refused = world
            .try_as(&world.who, &format!("{launch}resolve:ssm:{alias}"))
            .await;
        let refused = refused.unwrap_err();
        let told = (&*refused.code, refused.status, &*refused.message);
        let message = format!("The following aliases are invalid: {alias}");
        assert_eq!(told, ("SsmInvalidParameter", 400, &*message));
    }
    for garbled in ["resolve:ssm", "resolve:s3:x", "resolve"] {
        assert_eq!(
            world.refused(&format!("{launch}{garbled}")).await,
            "InvalidAMIID.Malformed"
        );
    }
    let nothing = "Action=RunInstances&MinCount=1&MaxCount=1";
    assert_eq!(world.refused(nothing).await, "MissingParameter");
    // A stranger does not see the image, which is private.
    let theirs = world
        .try_as(&world.stranger(), &format!("{launch}resolve:ssm:{NAME}"))
        .await;
    assert_eq!(theirs.unwrap_err().code, "SsmInvalidParameter");
}

#[tokio::test]
async fn a_launch_that_is_asked_again_is_answered_with_what_it_made() {
    let world = named().await;
    let launch = format!(
        "Action=RunInstances&MinCount=1&MaxCount=1&InstanceType=t3.nano&ClientToken=t&ImageId=resolve:ssm:{NAME}"
    );
    let made = one(&world.ask(&launch).await, "instanceId");
    let parts = world.cloud.parts();
    let other = add_image_named(&parts, world.who.account, "other").await;
    aliases::set(&parts, NAME, other.parse().unwrap()).await.unwrap();
    assert_eq!(one(&world.ask(&launch).await, "instanceId"), made);
}
