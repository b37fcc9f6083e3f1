//! A worker in the place of an older one: what that kept in its files is read, and what it keeps could be read by it.

use cumulet_domain::{id::OperationId, message::Power, spec::InstanceSpec};
use serde_json::{Value, json};

use super::{Host, destroy, instance, report, run};
use crate::testing::{VPC, spec};

/// The specification as a worker kept it that knew one disk, one VPC and its interfaces.
fn of_before(n: u8, generation: u64) -> Value {
    let spec = serde_json::to_value(spec(n, generation)).unwrap();
    let mut spec = spec.as_object().unwrap().clone();
    assert!(spec.remove("disks").is_some() && spec.remove("nics").is_some());
    for kept in ["image", "disk_gib", "vpc", "interfaces"] {
        assert!(spec.contains_key(kept), "{kept}");
    }
    Value::Object(spec)
}

#[tokio::test]
async fn a_launch_that_an_older_worker_had_begun_is_gone_on_with() {
    let mut host = Host::start().await;
    // Its VPC's policy is kept with a first instance.
    host.order(run(2, 1, &[1, 2])).await;
    host.kill().await;
    let files = host
        .dir
        .path()
        .join("hosts/one/instances")
        .join(instance(1).to_string());
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("spec.json"), of_before(1, 7).to_string()).unwrap();
    let operation = OperationId::new(70);
    let record = json!({
        "instance": instance(1), "generation": 7, "applied": 0, "wants_power": true, "power": "absent",
        "off_reason": null, "vpc": VPC, "interfaces": [spec(1, 7).nics[0].interface.id],
        "pending": {"operation": operation, "deadline": 1_200_000, "kind": "run"},
    });
    std::fs::write(files.join("record.json"), record.to_string()).unwrap();
    host.worker = host.another_worker();
    host.spawn();
    let done = host.outcome(operation).await;
    assert_eq!((done.report, done.failure), (report(1, 7, Power::On, None), None));
    assert_eq!(host.power(1).await, Power::On);
    let kept = std::fs::read(files.join("spec.json")).unwrap();
    assert_eq!(serde_json::from_slice::<InstanceSpec>(&kept).unwrap(), spec(1, 7));
    for n in [1, 2] {
        host.order(destroy(n, 9)).await;
    }
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}
