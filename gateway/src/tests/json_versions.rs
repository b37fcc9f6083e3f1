//! awsJson 1.0, which none of the services that are served speaks: one whose model says it, as DynamoDB's does, behind
//! the framework and the door that SSM and Service Quotas are behind. Over the door, with requests as clients sign them.
//!
//! The two versions differ in the content type, and in that a server of 1.0 is to name an error by its whole shape id
//! (`namespace#Name`) where one of 1.1 sends the name alone. Here both send the name alone, a written choice: the models
//! that services are made from are botocore's, which have no namespaces, and clients have to take either for both
//! (Smithy, "AWS JSON 1.0 protocol"). botocore reads `__type` up to a colon and after a hash, whichever the version.

use std::sync::LazyLock;

use async_trait::async_trait;
use cumulet_wire::{Codec, JsonShape, Operation, OperationInfo, ServiceModel, operation::Access};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    echo::{Answered, Signing, ask},
    *,
};
use crate::{
    Door,
    auth::AuthConfig,
    fault::Fault,
    mounted::Mounted,
    rpc::{
        Rpc,
        action::{Action, Entry, document},
        by_name,
        ctx::Ctx,
    },
    service_quotas::SERVICE_QUOTAS,
    words,
};

const V1_0: &str = "application/x-amz-json-1.0";
const V1_1: &str = "application/x-amz-json-1.1";

/// The service.
static GREETINGS: Rpc = Rpc {
    model: &MODEL,
    by_name: LazyLock::new(|| by_name(ENTRIES)),
    words: words::json,
    as_if_unknown: &[],
    examples: &[],
};

static ENTRIES: &[Entry] = &[document::<Greet>()];

static MODEL: ServiceModel = ServiceModel {
    name: "greetings",
    codec: Codec::Json {
        content_type: V1_0,
        target_prefix: "Greetings_20261121",
    },
    version: "2026-11-21",
    operations: &[OperationInfo {
        name: "Greet",
        family: "greetings",
        permission: "greetings:Greet",
        anyone: false,
        access: Access::Read,
        weight: 1,
        weight_per: None,
        weight_rows: &[],
        limits: &[],
        dry_run: false,
        client_token: None,
        required: &["Name"],
        paging: None,
        filters: None,
        refused: &[],
        ignored: &[],
    }],
    unserved: &["TakeLeave"],
};

/// Its one operation.
struct Greet;

impl Operation for Greet {
    const NAME: &'static str = "Greet";
    type Input = GreetInput;
    type Output = GreetOutput;
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GreetInput {
    #[serde(rename = "Name")]
    name: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct GreetOutput {
    #[serde(rename = "Greeting")]
    greeting: String,
}

impl JsonShape for GreetInput {
    fn missing(&self) -> Option<&'static str> {
        self.name.is_none().then_some("Name")
    }
}

impl JsonShape for GreetOutput {
    fn missing(&self) -> Option<&'static str> {
        None
    }
}

#[async_trait]
impl Action for Greet {
    async fn run(ctx: &Ctx, input: GreetInput) -> Result<GreetOutput, Fault> {
        let name = input.name.unwrap_or_default();
        if name == "nobody" {
            let message = "Nobody is not here.";
            return Err(Fault::coded("NobodyThereException", 400, message));
        }
        let greeting = format!("Hello, {name}, from {}", ctx.region());
        Ok(GreetOutput { greeting })
    }
}

/// A door to it, and to a service of 1.1.
fn door(world: &World) -> Door {
    let services = vec![Mounted::Rpc(&GREETINGS), Mounted::Rpc(&SERVICE_QUOTAS)];
    let limits = RequestLimits::UNLIMITED;
    Door::to(
        services,
        world.cloud.clone(),
        AuthConfig::default(),
        limits,
        1 << 20,
    )
}

/// A request as clients of such a service write it.
fn greet(target: &str, body: &str) -> Signing<'static> {
    Signing::json("greetings", V1_0, target, body)
}

/// The code of an error, as botocore has it from the body.
fn code(answer: &Answered) -> String {
    let body = answer.json();
    let kind = body["__type"].as_str().unwrap();
    let kind = kind.split(':').next().unwrap();
    kind.rsplit('#').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_of_1_0_answers_in_1_0() {
    let world = World::new().await;
    let door = door(&world);
    let asked = greet("Greetings_20261121.Greet", r#"{"Name":"you"}"#);
    let answer = ask(&world, &door, &asked).await;
    assert_eq!(
        (answer.status, &*answer.content_type, answer.error_type.as_deref()),
        (200, V1_0, None),
        "{}",
        answer.text
    );
    assert_eq!(answer.json(), json!({"Greeting": "Hello, you, from us-east-1"}));
}

/// Whoever refuses it: the action, the codec, the framework, or the door.
#[tokio::test]
async fn and_refuses_in_1_0() {
    let world = World::new().await;
    let door = door(&world);
    let (greets, you) = ("Greetings_20261121.Greet", r#"{"Name":"you"}"#);
    for (asked, expected) in [
        (greet(greets, r#"{"Name":"nobody"}"#), "NobodyThereException"),
        (greet(greets, "{}"), "ValidationException"),
        // A body of nothing is one without members.
        (greet(greets, ""), "ValidationException"),
        (greet(greets, r#"{"Name":7}"#), "SerializationException"),
        (greet(greets, r#"{"Name":"you","X":1}"#), "SerializationException"),
        (greet(greets, r#"{"Name":"#), "SerializationException"),
        (
            greet("Greetings_20261121.TakeLeave", "{}"),
            "UnsupportedOperationException",
        ),
        (
            greet("Greetings_20261121.Sing", "{}"),
            "UnknownOperationException",
        ),
        (
            greet("Greetings_20201121.Greet", you),
            "UnknownOperationException",
        ),
        (greet("Greet", you), "UnknownOperationException"),
        // Without an X-Amz-Target.
        (Signing::form("greetings", you), "UnknownOperationException"),
        (
            greet(greets, you).with_secret("wrong"),
            "InvalidSignatureException",
        ),
        (
            greet(greets, you).with_key("AKIAIOSFODNN7EXAMPLE"),
            "UnrecognizedClientException",
        ),
    ] {
        let answer = ask(&world, &door, &asked).await;
        let seen = (answer.status, &*answer.content_type);
        assert_eq!(seen, (400, V1_0), "{}", answer.text);
        assert_eq!(code(&answer), expected, "{}", answer.text);
        // The same in the header, and a sentence besides.
        assert_eq!(answer.code(), (400, expected.to_owned()), "{}", answer.text);
    }
    let missing = ask(&world, &door, &greet(greets, "{}")).await;
    assert_eq!(
        missing.json(),
        json!({
            "__type": "ValidationException",
            "message": "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must \
                        not be null",
        })
    );
}

/// A written choice: a request's own version is not looked at, and the answer is in the service's. What is asked is
/// written alike in both; a client has the version from the same model as the server, so that it sends no other; and
/// what AWS answers to one that does is nowhere said. (A request for a service that is not here is answered in its own
/// version: `services.rs`.)
#[tokio::test]
async fn a_service_answers_in_its_own_version_whichever_it_is_asked_in() {
    let world = World::new().await;
    let door = door(&world);
    for sent in [V1_0, V1_1, "application/json"] {
        for (service, own, target, body, refused) in [
            (
                "greetings",
                V1_0,
                "Greetings_20261121.Greet",
                r#"{"Name":"you"}"#,
                r#"{"Name":"nobody"}"#,
            ),
            (
                "servicequotas",
                V1_1,
                "ServiceQuotasV20190624.ListServiceQuotas",
                r#"{"ServiceCode":"ec2"}"#,
                r#"{"ServiceCode":"s3"}"#,
            ),
        ] {
            for (body, status) in [(body, 200), (refused, 400)] {
                let answer = ask(&world, &door, &Signing::json(service, sent, target, body)).await;
                let seen = (answer.status, &*answer.content_type);
                assert_eq!(seen, (status, own), "{service} {sent}: {}", answer.text);
            }
        }
    }
}
