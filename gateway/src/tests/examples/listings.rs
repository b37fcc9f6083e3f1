//! The checks of listings: filters and pages.

use super::{asking::with, *};

/// Every documented filter is taken; one that is not is refused by its name; and there may be so many values.
#[tokio::test]
async fn filters_are_the_documented_ones() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let mut tried = 0;
    for (service, example) in examples() {
        let info = info(service, example);
        let Some(filters) = info.filters else { continue };
        let ask = async |rest: &str| {
            let parameters = format!("{}&{rest}", scene.parameters(example));
            ask(world, &world.who, service, example.operation, &parameters).await
        };
        let name = name_of(service, example);
        for filter in filters.names {
            let filter = if *filter == "tag:<key>" {
                "tag:Name"
            } else {
                filter
            };
            // Without values it passes nothing.
            let xml = ask(&format!("Filter.1.Name={filter}")).await;
            let xml = xml.unwrap_or_else(|refusal| panic!("{name} {filter}: {refusal:?}"));
            assert!(
                !xml.contains("<item>") && xml.contains("/>"),
                "{name} {filter}: {xml}"
            );
            tried += 1;
        }
        for (bad, told) in [
            ("Filter.1.Value.1=x", "'null'"),
            ("Filter.1.Name=no-such-filter", "'no-such-filter'"),
            ("Filter.1.Name=tag:", "'tag:'"),
        ] {
            let refusal = ask(bad).await.expect_err(&name);
            assert_eq!(refusal.code, "InvalidParameterValue", "{name} {bad}: {refusal:?}");
            assert!(refusal.message.contains(told), "{name} {bad}: {refusal:?}");
        }
        let many: String = (0..201).map(|n| format!("&Filter.1.Value.{n}={n}")).collect();
        let refusal = ask(&format!(
            "Filter.1.Name={}{many}",
            filters.names[0].replace("<key>", "x")
        ))
        .await;
        assert_eq!(refusal.expect_err(&name).code, "FilterLimitExceeded", "{name}");
    }
    assert!(tried > 200, "{tried}");
}

/// Several of what can be listed, more than fit the smallest page.
async fn many() -> Scene {
    let scene = Scene::new().await;
    for n in 0..7 {
        let tags = format!("&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=n{n}");
        for id in scene.world.run(1, &tags).await {
            scene.world.settle(&id, "running").await;
        }
        let group = format!("Action=CreateSecurityGroup&GroupName=g{n}&GroupDescription=d");
        scene.world.ask(&group).await;
        let parts = scene.world.cloud.parts();
        add_image_named(&parts, scene.world.who.account, &format!("image-{n}")).await;
    }
    scene
}

/// The items of a list, one after the other, and the token of the page after them.
fn items(answer: &str, json: bool) -> (String, Option<String>) {
    if json {
        let page: serde_json::Value = serde_json::from_str(answer).unwrap();
        let items = page
            .as_object()
            .unwrap()
            .values()
            .find_map(|value| value.as_array());
        let items: String = items.unwrap().iter().map(ToString::to_string).collect();
        return (items, page["NextToken"].as_str().map(str::to_owned));
    }
    let token = all(answer, "nextToken").pop();
    let body = answer.split_once("</requestId>").unwrap().1;
    let token_element = token
        .as_ref()
        .map(|token| format!("<nextToken>{token}</nextToken>"));
    let body = body.replace(&token_element.unwrap_or_default(), "");
    let list = body.rsplit_once("</").map_or("", |(list, _)| list);
    let inner = match list.split_once('>') {
        Some((open, _)) if open.ends_with('/') => "",
        Some((_, rest)) => rest.rsplit_once("</").map_or("", |(items, _)| items),
        None => "",
    };
    (inner.to_owned(), token)
}

#[tokio::test]
async fn pages_meet_and_tokens_are_good_for_one_question() {
    let scene = many().await;
    let world = &scene.world;
    let mut several = 0;
    for service in SERVICES {
        let json = matches!(service.model.codec, cumulet_wire::Codec::Json { .. });
        for info in service.model.operations {
            let Some(paging) = info.paging else { continue };
            let base = match (json, info.required) {
                (true, ["ServiceCode"]) => r#"{"ServiceCode":"ec2"}"#,
                (true, ["Path"]) => r#"{"Path":"/aws/service/tiny"}"#,
                (true, _) => "{}",
                (false, _) => "",
            };
            let name = format!("{} {}", service.model.name, info.name);
            let page = async |size: i32, token: Option<&str>| {
                let mut parameters = base.to_owned();
                if json {
                    let mut members: serde_json::Value = serde_json::from_str(base).unwrap();
                    members["MaxResults"] = size.into();
                    parameters = members.to_string();
                } else {
                    parameters = with(service, &parameters, "MaxResults", &size.to_string());
                }
                if let Some(token) = token {
                    parameters = with(service, &parameters, "NextToken", token);
                }
                ask(world, &world.who, service, info.name, &parameters).await
            };
            let whole = ask(world, &world.who, service, info.name, base)
                .await
                .expect(&name);
            let (mut seen, mut token, mut pages) = (String::new(), None, 0);
            loop {
                let answer = page(paging.min, token.as_deref()).await;
                let answer = answer.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
                let (items, next) = items(&answer, json);
                seen += &items;
                pages += 1;
                token = next;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(seen, items(&whole, json).0, "{name}");
            several += usize::from(pages > 1);
            for size in [paging.min - 1, paging.max + 1] {
                let refusal = page(size, None).await.expect_err(&name);
                assert!(refusal.message.contains("MaxResults"), "{name}: {refusal:?}");
            }
            let refusal = page(paging.min, Some("nonsense")).await.expect_err(&name);
            let codes = ["InvalidNextToken", "InvalidPaginationTokenException"];
            assert!(codes.contains(&&*refusal.code), "{name}: {refusal:?}");
        }
    }
    assert!(several >= 8, "{several}");
}
