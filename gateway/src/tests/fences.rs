//! What accounts and strangers may use, over sockets.

use std::net::{SocketAddr, TcpListener};

use cumulet_backend::api::audit_log;
use futures::{StreamExt as _, future::select_all, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    http::{post, send},
    *,
};
use crate::{Gateway, Rate, RequestLimits, Running, Share};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

fn serve(world: &World, change: impl FnOnce(&mut Gateway)) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::new(vec![listener]);
    gateway.workers = 1;
    change(&mut gateway);
    (gateway.start(world.cloud.clone()).unwrap(), address)
}

#[actix_web::test]
async fn more_than_a_key_may_ask_is_refused_in_each_services_words() {
    let world = World::new().await;
    let few = Share {
        in_flight: 0,
        rate: Rate {
            per_second: 1,
            burst: 20,
        },
    };
    let (running, address) = serve(&world, |gateway| {
        gateway.requests = RequestLimits {
            key: few,
            ..RequestLimits::default()
        };
    });
    let ec2 = async |body: &str| send(address, &post(&world, address, "ec2", body)).await;
    let regions = "Action=DescribeRegions&Version=2016-11-15";
    for _ in 0..10 {
        assert!(ec2(regions).await.starts_with("HTTP/1.1 200"));
    }
    // A rehearsal costs what the call does.
    let dry = "Action=RunInstances&ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=1&DryRun=true";
    let start = std::time::Instant::now();
    let refused = ec2(dry).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    // Not at once, so that asking again and again brings nothing about.
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(one(&refused, "Code"), "RequestLimitExceeded");
    assert_eq!(one(&refused, "Message"), "Request limit exceeded.");
    for _ in 0..10 {
        assert!(ec2(regions).await.starts_with("HTTP/1.1 200"));
    }
    for (service, body) in [
        ("sts", "Action=GetCallerIdentity&Version=2011-06-15"),
        ("iam", "Action=GetUser&Version=2010-05-08"),
    ] {
        let refused = send(address, &post(&world, address, service, body)).await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        assert_eq!(
            (&*one(&refused, "Code"), &*one(&refused, "Message")),
            ("Throttling", "Rate exceeded")
        );
    }
    world.advance(1);
    assert!(ec2(regions).await.starts_with("HTTP/1.1 200"));
    running.stop().await.unwrap();
}

/// What a call takes of the database's one writer beyond its weight is charged when it is known.
#[tokio::test]
async fn a_change_costs_what_it_takes() {
    let mut world = World::new().await;
    let ids = world.run(20, "").await;
    let few = Share {
        in_flight: 0,
        rate: Rate {
            per_second: 1,
            burst: 30,
        },
    };
    world.fences = Fences::new(RequestLimits {
        key: few,
        ..RequestLimits::UNLIMITED
    });
    let create = |resources: usize, tags: usize| {
        let resources: String = (1..=resources)
            .map(|n| format!("&ResourceId.{n}={}", ids[n - 1]))
            .collect();
        let tags: String = (1..=tags)
            .map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value=v"))
            .collect();
        format!("Action=CreateTags{resources}{tags}")
    };
    // A thousand rows weigh little more than one, and take some milliseconds.
    world.ask(&create(20, 50)).await;
    assert_eq!(
        world.refused("Action=DescribeRegions").await,
        "RequestLimitExceeded"
    );
    world.advance(60);
    world.ask("Action=DescribeRegions").await;
}

/// A change of very many rows is one transaction, and keeps others waiting for itself alone: not for all of its
/// kind that have come.
#[tokio::test]
async fn a_change_waits_for_one_large_one_at_the_most() {
    let world = World::new().await;
    let ids = world.run(60, "").await;
    let resources: String = (1..=60)
        .map(|n| format!("&ResourceId.{n}={}", ids[n - 1]))
        .collect();
    let large = |value: usize| {
        let tags: String = (1..=49)
            .map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value={value}"))
            .collect();
        format!("Action=CreateTags{resources}{tags}")
    };
    let mut bodies: Vec<String> = (0..6).map(large).collect();
    let small = format!(
        "Action=CreateTags&ResourceId.1={}&Tag.1.Key=small&Tag.1.Value=v",
        ids[0]
    );
    bodies.push(small);
    // They come in this order, the small one last, while the writer is held up.
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let first = world.cloud.store.write(move |_| {
        Box::pin(async move {
            held.lock().unwrap().recv().unwrap();
            Ok(())
        })
    });
    let all = async {
        let numbered = bodies.iter().enumerate().map(|(n, body)| {
            let asked = world.ask(body);
            async move {
                asked.await;
                n
            }
        });
        let all: FuturesUnordered<_> = numbered.collect();
        all.collect::<Vec<usize>>().await
    };
    let then = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
    };
    let (first, order, ()) = tokio::join!(first, all, then);
    first.unwrap();
    let place = order.iter().position(|n| *n == 6).unwrap();
    assert!(place <= 1, "{order:?}");
}

/// A6: the head is judged first; nothing of a body that it can't answer for is waited for.
#[actix_web::test]
async fn strangers_large_bodies_are_not_read() {
    let world = World::new().await;
    let (running, address) = serve(&world, |_| {});
    let form = format!(
        "Host: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000\r\n"
    );
    let signed = String::from_utf8(post(&world, address, "ec2", &"x".repeat(1_000_000))).unwrap();
    let head = |text: &str| text.split_once("\r\n\r\n").unwrap().0.to_owned() + "\r\n\r\n";
    let unknown = head(&signed).replace(&world.access_key_id, "AKIAIOSFODNN7EXAMPLE");
    let old = head(&signed)
        .replace("20261121T", "20251121T")
        .replace("20261121/", "20251121/");
    let elsewhere = head(&signed).replace("/ec2/", "/s3/");
    for (what, head, says) in [
        (
            "nobody",
            format!("POST / HTTP/1.1\r\n{form}\r\n"),
            "MissingAuthenticationToken",
        ),
        ("an unknown key", unknown, "AuthFailure"),
        ("a date that is over", old, "RequestExpired"),
        ("another service", elsewhere, "AuthFailure"),
    ] {
        let mut crowd = Vec::new();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            crowd.push(stream);
        }
        for mut stream in crowd {
            let mut answer = [0; 4096];
            let read = timeout(LONG, stream.read(&mut answer)).await;
            let count = read
                .unwrap_or_else(|_| panic!("{what}: the body is waited for"))
                .unwrap();
            let answer = String::from_utf8_lossy(&answer[..count]);
            assert!(
                answer.starts_with("HTTP/1.1 4") && answer.contains(says),
                "{what}: {answer}"
            );
        }
    }
    running.stop().await.unwrap();
}

/// Who knows the id of an access key and not its secret uses up nothing that its owner needs.
#[actix_web::test]
async fn strangers_who_name_a_key_take_no_memory_of_its_owner() {
    let world = World::new().await;
    let (running, address) = serve(&world, |gateway| gateway.body_memory = 2_000_000);
    let large = format!("Action=DescribeRegions&X={}", "x".repeat(400_000));
    let large = post(&world, address, "ec2", &large);
    // The head is the owner's own, with a signature that is none, which only the whole body can show.
    let forged = String::from_utf8(large.clone()).unwrap();
    let (before, after) = forged.split_once("Signature=").unwrap();
    let forged = format!("{before}Signature={}{}", "0".repeat(64), &after[64..]);
    let mut crowd = Vec::new();
    for _ in 0..8 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // Those that are refused may be closed by now.
        let _ = stream.write_all(&forged.as_bytes()[..forged.len() - 1]).await;
        crowd.push(stream);
    }
    // They have all that they can get when one of them is refused more.
    let answers = crowd.iter_mut().map(|stream| {
        Box::pin(async move {
            let mut answer = [0; 4096];
            let count = stream.read(&mut answer).await.unwrap_or(0);
            String::from_utf8_lossy(&answer[..count]).into_owned()
        })
    });
    let (first, ..) = timeout(LONG, select_all(answers)).await.unwrap();
    assert!(
        first.is_empty() || first.contains("<Code>Unavailable</Code>"),
        "{first}"
    );
    let answer = timeout(LONG, send(address, &large)).await.unwrap();
    assert_eq!(one(&answer, "Code"), "UnknownParameter");
    drop(crowd);
    running.stop().await.unwrap();
}

/// A6: all bodies of the process have one budget, which is given back.
#[actix_web::test]
async fn bodies_have_one_budget() {
    let world = World::new().await;
    let (running, address) = serve(&world, |gateway| gateway.body_memory = 1_200_000);
    let body = |length: usize| format!("Action=DescribeRegions&X={}", "x".repeat(length));
    let large = post(&world, address, "ec2", &body(400_000));
    // All but the last byte of four: one client has half of it, which is room for one and a half.
    let mut begun = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&large[..large.len() - 1]).await.unwrap();
        begun.push(stream);
    }
    // Small ones are not counted.
    let small = send(address, &post(&world, address, "ec2", "Action=DescribeRegions")).await;
    assert!(small.starts_with("HTTP/1.1 200"), "{small}");
    let mut codes = Vec::new();
    for mut stream in begun {
        // One that was refused may be closed by now.
        let _ = stream.write_all(&large[large.len() - 1..]).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        codes.push(one(&String::from_utf8(answer).unwrap(), "Code"));
    }
    codes.sort();
    assert!(
        codes[0] == "Unavailable" && codes[3] == "UnknownParameter",
        "{codes:?}"
    );
    // What was held is given back.
    let again = send(address, &large).await;
    assert_eq!(one(&again, "Code"), "UnknownParameter");
    running.stop().await.unwrap();
}

/// A5: what nobody waits for any more is not begun.
#[actix_web::test]
async fn keys_are_not_made_for_clients_who_have_gone() {
    const MANY: i64 = 12;
    let world = World::new().await;
    let (running, address) = serve(&world, |gateway| gateway.requests = RequestLimits::UNLIMITED);
    for n in 0..MANY {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = post(
            &world,
            address,
            "ec2",
            &format!("Action=CreateKeyPair&KeyName=k{n}"),
        );
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    // Connections are taken in their order: when this one is answered, the others are being answered.
    let regions = send(address, &post(&world, address, "ec2", "Action=DescribeRegions")).await;
    assert!(regions.starts_with("HTTP/1.1 200"), "{regions}");
    // The server ends when what is under way has ended.
    running.stop().await.unwrap();
    let made = all(&world.ask("Action=DescribeKeyPairs").await, "keyName").len();
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 100)
        .await
        .unwrap();
    let count = |outcome: &str| -> i64 {
        let rows = log.iter().filter(|row| row.outcome == outcome);
        rows.map(|row| 1 + i64::from(row.repeats.unwrap_or_default().0))
            .sum()
    };
    assert_eq!(count("ok"), made as i64);
    assert_eq!(count("ok") + count("ClientDisconnected"), MANY, "{log:?}");
    assert!(count("ok") <= 4, "{made} were made");
}

/// B16: the documented maximum of ids fits, in a body and in a query.
#[actix_web::test]
async fn a_thousand_ids_fit() {
    let world = World::new().await;
    let (running, address) = serve(&world, |_| {});
    let ids: String = (1..=1000)
        .map(|n| format!("&InstanceId.{n}=i-{n:017x}"))
        .collect();
    for action in [
        "DescribeInstances",
        "TerminateInstances",
        "DescribeInstanceStatus",
    ] {
        let body = format!("Action={action}&Version=2016-11-15{ids}");
        let answer = send(address, &post(&world, address, "ec2", &body)).await;
        assert!(
            answer.contains("InvalidInstanceID.NotFound"),
            "{action}: {answer}"
        );
        let answer = send(address, &super::http::get(&world, address, &body)).await;
        assert!(
            answer.contains("InvalidInstanceID.NotFound"),
            "{action}: {answer}"
        );
    }
    let ids = ids.replace("InstanceId", "ResourceId");
    let tags: String = (1..=50)
        .map(|n| format!("&Tag.{n}.Key=k{n}&Tag.{n}.Value=v"))
        .collect();
    let answer = send(
        address,
        &post(&world, address, "ec2", &format!("Action=CreateTags{ids}{tags}")),
    )
    .await;
    assert!(answer.contains("InvalidInstanceID.NotFound"), "{answer}");
    running.stop().await.unwrap();
}
