//! Changes while packets pass, and the life of taps.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cumulet_domain::{
    id::SecurityGroupId,
    network::Direction::{Egress, Ingress},
};
use cumulet_worker::network::{HostNetwork as _, NetworkError};

use crate::{
    PUBLIC, dhcp,
    host::{address, anywhere, connect, group, output, tcp, udp, world},
};

/// Two policies replace each other under a stream of packets: what both let pass all arrives, what
/// neither lets pass never does, though every half of it is in one of them.
#[test]
fn policies_are_replaced_at_once() {
    world(async |world| {
        let everything = SecurityGroupId::new(1);
        let only_way = |direction, other| {
            group(
                1,
                &[
                    (direction, udp(1000), anywhere()),
                    (direction, udp(2000), anywhere()),
                    (other, udp(1000), anywhere()),
                ],
            )
        };
        let groups = [only_way(Egress, Ingress), only_way(Ingress, Egress)];
        let mut policy = world.vpc(1);
        policy.groups = vec![groups[0].clone()];
        let [a, b] = [4, 5].map(|n| world.interface(&mut policy, n, &[everything]));
        let (a, b) = (world.guest(&policy, a).await, world.guest(&policy, b).await);
        let (allowed, forbidden) = (b.udp(1000), b.udp(2000));
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&received);
        let receiver = thread::spawn(move || {
            while allowed.recv(&mut [0; 8]).is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let sender = {
            let (socket, stop) = (a.udp(0), Arc::clone(&stop));
            thread::spawn(move || {
                let mut sent = 0_u64;
                let begin = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    socket.send_to(&[1], (address(5), 1000)).unwrap();
                    sent += 1;
                    // New connections too: a source port each.
                    let other = (address(5), 2000);
                    let _ = socket.send_to(&[1], other);
                    while begin.elapsed() < Duration::from_micros(150) * u32::try_from(sent).unwrap() {
                        thread::yield_now();
                    }
                }
                sent
            })
        };
        let mut longest = Duration::ZERO;
        for round in 0..50 {
            policy.groups[0].rules.clone_from(&groups[(round + 1) % 2].rules);
            let begin = Instant::now();
            world.apply(&mut policy).await;
            longest = longest.max(begin.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        receiver.join().unwrap();
        println!("{sent} packets during 50 changes, the longest of {longest:?}");
        assert!(sent > 1000);
        assert_eq!(
            received.load(Ordering::Relaxed),
            sent,
            "packets were lost that both policies let pass"
        );
        assert!(
            forbidden.recv(&mut [0]).is_err(),
            "a packet passed that neither policy lets pass"
        );
        policy.interfaces.clear();
        world.apply(&mut policy).await;
    });
}

#[test]
fn a_life_of_a_tap() {
    world(async |world| {
        let mut policy = world.vpc(1);
        policy.groups = vec![group(1, &[])];
        let ids: Vec<_> = (4..14)
            .map(|n| world.interface(&mut policy, n, &[SecurityGroupId::new(1)]))
            .collect();
        let unprepared = world.network.attach_interface(&policy, ids[0]).await;
        assert!(
            matches!(unprepared, Err(NetworkError::NoDevice(_))),
            "{unprepared:?}"
        );
        for id in &ids {
            let begin = Instant::now();
            let name = world.network.prepare_interface(policy.vpc, *id).await.unwrap();
            let prepared = begin.elapsed();
            assert!(world.network.inventory().await.unwrap().prepared.contains(id));
            let begin = Instant::now();
            world.network.attach_interface(&policy, *id).await.unwrap();
            println!(
                "{name}: prepared in {prepared:?}, attached in {:?}",
                begin.elapsed()
            );
        }
        // Twice is once, and a new start of a guest makes a new tap.
        world.network.attach_interface(&policy, ids[0]).await.unwrap();
        world.network.prepare_interface(policy.vpc, ids[0]).await.unwrap();
        let found = world.network.inventory().await.unwrap();
        assert_eq!(
            (found.prepared.len(), found.vpcs[&policy.vpc].interfaces.len()),
            (1, 9)
        );
        world.network.attach_interface(&policy, ids[0]).await.unwrap();
        let stranger = cumulet_domain::id::NetworkInterfaceId::new(1);
        let result = world.network.attach_interface(&policy, stranger).await;
        assert!(matches!(result, Err(NetworkError::NotInPolicy { .. })));
        for id in ids {
            let begin = Instant::now();
            world.network.detach_interface(policy.vpc, id).await.unwrap();
            println!("detached in {:?}", begin.elapsed());
            world.network.detach_interface(policy.vpc, id).await.unwrap();
        }
    });
}

/// A launch makes the namespace while the guest's process is made, and the tap comes to what is in force.
#[test]
fn a_namespace_is_made_before_its_guest() {
    world(async |world| {
        let mut policy = world.vpc(1);
        policy.groups = vec![group(1, &[(Ingress, tcp(22), anywhere())])];
        let [first, second] = [4, 5].map(|n| world.interface(&mut policy, n, &[SecurityGroupId::new(1)]));
        policy.interfaces[0].public_ip = Some(PUBLIC);
        let (applied, tap) = tokio::join!(
            world.network.apply(&policy),
            world.network.prepare_interface(policy.vpc, second)
        );
        let namespace = applied.unwrap().namespace;
        assert!(namespace.is_some() && tap.is_ok());
        let path = world.namespaces("vpc").remove(0);
        let rules = || output(Command::new("ip").args(["netns", "exec", &path, "nft", "list", "ruleset"]));
        let in_force = rules();
        assert!(in_force.contains("pins_a"), "{in_force}");
        let guest = world.bare_guest(&policy, first).await;
        world.network.attach_interface(&policy, second).await.unwrap();
        assert_eq!(rules(), in_force, "the same rules were made again");
        assert!(dhcp(world, &guest).expect("a lease").contains("ip=172.31.16.4"));
        guest.ip("route add default via 172.31.16.1");
        let _ssh = guest.listen(22);
        assert!(connect(PUBLIC, 22).is_ok(), "the public address");
        // Another policy is another transaction, in which the first guest stays.
        world.interface(&mut policy, 6, &[SecurityGroupId::new(1)]);
        assert_eq!(world.apply(&mut policy).await.namespace, namespace);
        assert!(rules().contains("pins_b") && connect(PUBLIC, 22).is_ok());
        // What nothing was attached to goes as well.
        policy.interfaces.clear();
        assert_eq!(world.apply(&mut policy).await.namespace, None);
    });
}
