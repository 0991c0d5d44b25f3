//! Seats from facts that are read from objects as the API server writes them.

#![expect(
    clippy::needless_pass_by_value,
    reason = "objects are written where they are used"
)]

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::*;

const ID: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
const OTHER_ID: &str = "1111111111111111111111111111111111111111";

/// What there is, and what is seen of it.
struct Scene {
    pods: Vec<Arc<PodFact>>,
    claims: Vec<Arc<ClaimFact>>,
    set: Option<SetFact>,
    hosts: BTreeMap<String, Arc<HostFact>>,
    missed: BTreeMap<String, Timestamp>,
    volumes: BTreeMap<String, VolumeFact>,
    gates: BTreeMap<String, (String, GateReport)>,
    aof: bool,
}

impl Scene {
    fn empty() -> Self {
        Self {
            pods: Vec::new(),
            claims: Vec::new(),
            set: None,
            hosts: BTreeMap::new(),
            missed: BTreeMap::new(),
            volumes: BTreeMap::new(),
            gates: BTreeMap::new(),
            aof: true,
        }
    }

    fn of(pod: Value) -> Self {
        Self {
            pods: vec![pod_of(pod)],
            ..Self::empty()
        }
    }

    fn seats(&self, wanted: u32) -> Vec<Seat> {
        seats(&Sight {
            names: &Names::new("redis", "cache"),
            wanted,
            aof: self.aof,
            pods: &self.pods,
            claims: &self.claims,
            set: self.set.as_ref(),
            hosts: &self.hosts,
            missed: &self.missed,
            volumes: &self.volumes,
            gates: &self.gates,
            now: Timestamp(5),
        })
    }

    fn first(&self) -> Seat {
        self.seats(1).remove(0)
    }
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis"})
}

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object of Kubernetes")
}

fn pod_of(pod: Value) -> Arc<PodFact> {
    Arc::new(PodFact::of(&read::<Pod>(pod)).expect("a pod of ours"))
}

fn claim_of(claim: Value) -> Arc<ClaimFact> {
    let claim = read::<PersistentVolumeClaim>(claim);
    Arc::new(ClaimFact::of(&claim).expect("a claim of ours"))
}

/// A pod on node-1 with an address, whose container is in this state.
fn pod(name: &str, state: Value, last_state: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "cache", "uid": "u1", "labels": labels()},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {
            "phase": "Running", "podIP": "10.1.2.3",
            "containerStatuses": [{
                "name": "redis", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "containerID": "containerd://now", "state": state, "lastState": last_state,
            }],
        },
    })
}

fn running() -> Value {
    json!({"running": {"startedAt": "2024-01-01T00:00:00Z"}})
}

fn ended(id: &str) -> Value {
    json!({"terminated": {"containerID": id, "exitCode": 137, "reason": "OOMKilled"}})
}

fn leaving(mut pod: Value) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    pod
}

fn claim(annotations: &Value) -> Value {
    json!({
        "metadata": {"name": "data-redis-0", "namespace": "cache", "uid": "c1",
                     "labels": labels(), "annotations": annotations},
        "spec": {"volumeName": "v", "resources": {"requests": {"storage": "5Gi"}}},
    })
}

fn set(formed: Option<Formed>, nodes: &[(&str, &str)]) -> SetFact {
    let id = |text: &str| text.parse().expect("an id");
    SetFact {
        cluster: crate::facts::ObjectKey::new("cache", "redis"),
        uid: "s1".to_owned(),
        leaving: false,
        state: 0,
        formed,
        nodes: nodes
            .iter()
            .map(|(pod, node)| ((*pod).to_owned(), id(node)))
            .collect(),
        unreadable: None,
        revision: None,
    }
}

/// The same pod, made from this revision.
fn made_from(mut pod: Value, revision: &str) -> Value {
    pod["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
    pod
}

fn is_unreachable(seat: &Seat, how: &str) -> bool {
    matches!(&seat.address, Seen::Unknown(Why::Unreachable(said)) if said.contains(how))
}

#[test]
fn a_missing_pod_proves_nothing() {
    let seats = Scene::empty().seats(3);
    let names: Vec<&str> = seats.iter().map(|s| s.name.0.as_str()).collect();
    assert_eq!(names, ["redis-0", "redis-1", "redis-2"]);
    for (rank, seat) in (0_u32..).zip(&seats) {
        assert_eq!(seat.process, Process::Unknown);
        assert!(is_unreachable(seat, "no such pod"));
        assert_eq!(seat.disk, Seen::Unknown(Why::NotAsked));
        assert_eq!((seat.place.leave_rank, seat.starter), (rank, Starter::Host));
        assert_eq!((seat.recorded_id, seat.leaving), (None, false));
    }
}

#[test]
fn a_running_container_has_an_address_and_an_unknown_process() {
    let seat = Scene::of(pod("redis-0", running(), json!({}))).first();
    let address = seat.address.known().expect("an address");
    assert_eq!(address.to_string(), "10.1.2.3:6379");
    assert_eq!(address.bus_port, 16379);
    assert_eq!(seat.process, Process::Unknown);
}

#[test]
fn a_container_that_may_have_a_successor_is_not_called_dead() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for (state, last) in [
        (ended("containerd://old"), json!({})),
        (waiting, ended("containerd://old")),
        (running(), ended("containerd://old")),
    ] {
        let seat = Scene::of(pod("redis-0", state, last)).first();
        assert_eq!(seat.process, Process::Unknown);
        assert!(seat.address.known().is_some(), "its sandbox can refuse");
    }
}

#[test]
fn the_kubelet_proves_the_death_of_a_container_that_none_will_follow() {
    let proved = |pod: Value| match Scene::of(pod).first().process {
        Process::Dead(Death { proof, since }) => {
            assert_eq!(since, Timestamp(5));
            Some(proof)
        }
        Process::Running | Process::Unknown => None,
    };
    let container = "containerd://old".to_owned();
    let death = Some(DeathProof::TerminatedByKubelet { container });
    let going = leaving(pod("redis-0", ended("containerd://old"), json!({})));
    assert_eq!(proved(going), death);
    let mut over = pod("redis-0", ended("containerd://old"), json!({}));
    over["status"]["phase"] = json!("Failed");
    assert_eq!(proved(over.clone()), death);
    assert!(is_unreachable(&Scene::of(over).first(), "has ended"));
    // It leaves, but still runs, or never ran.
    assert_eq!(proved(leaving(pod("redis-0", running(), json!({})))), None);
    let never = json!({"waiting": {"reason": "ContainerCreating"}});
    assert_eq!(proved(leaving(pod("redis-0", never, json!({})))), None);
}

#[test]
fn a_pod_that_is_being_deleted_leaves() {
    assert!(
        Scene::of(leaving(pod("redis-0", running(), json!({}))))
            .first()
            .leaving
    );
    assert!(
        !Scene::of(pod("redis-0", running(), json!({})))
            .first()
            .leaving
    );
}

#[test]
fn a_pod_without_an_address_tells_why() {
    let mut pending = pod(
        "redis-0",
        json!({"waiting": {"reason": "ImagePullBackOff"}}),
        json!({}),
    );
    pending["status"]["podIP"] = Value::Null;
    assert!(is_unreachable(
        &Scene::of(pending.clone()).first(),
        "ImagePullBackOff"
    ));
    pending["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available",
    }]);
    assert!(is_unreachable(
        &Scene::of(pending).first(),
        "0/3 nodes are available"
    ));
}

#[test]
fn a_pod_beyond_those_wanted_keeps_its_seat_and_others_get_none() {
    let mut scene = Scene::of(pod("redis-7", running(), json!({})));
    scene
        .pods
        .push(pod_of(pod("redis-extra", running(), json!({}))));
    let seats = scene.seats(2);
    let names: Vec<&str> = seats.iter().map(|s| s.name.0.as_str()).collect();
    assert_eq!(names, ["redis-0", "redis-1", "redis-7"]);
}

/// The claim of this pod, with the record of the cluster `cluster` and of a node.
fn used_claim(pod: &str, cluster: &str, node: &str) -> Arc<ClaimFact> {
    let mut claim = claim(&json!({
        "shardwright.dev/cluster-id": cluster, "shardwright.dev/formed-at-ms": "7",
        "shardwright.dev/node-id": node,
    }));
    claim["metadata"]["name"] = json!(format!("data-{pod}"));
    claim_of(claim)
}

#[test]
fn retained_claims_beyond_those_wanted_keep_their_seats_until_they_are_given_up() {
    let mut scene = Scene::empty();
    scene.claims = vec![
        used_claim("redis-0", "s0", ID),
        used_claim("redis-3", "s0", OTHER_ID),
    ];
    let names = |scene: &Scene| -> Vec<String> {
        let seats = scene.seats(2).into_iter();
        seats.map(|seat| seat.name.0).collect()
    };
    let all = ["redis-0", "redis-1", "redis-3"];
    assert_eq!(names(&scene), all);
    let last = scene.seats(2).remove(2);
    assert_eq!(last.recorded_id, OTHER_ID.parse().ok());
    assert!(is_unreachable(&last, "no such pod"));
    // A set that was made anew knows nothing yet, and then what the claims say.
    scene.set = Some(set(None, &[]));
    assert_eq!(names(&scene), all);
    let formed = formed(None, &scene.claims);
    scene.set = Some(set(formed.clone(), &[("redis-3", OTHER_ID)]));
    assert_eq!(names(&scene), all);
    // The pod was taken away; that its claim is still there is no reason to miss it.
    scene.set = Some(set(formed, &[("redis-0", ID)]));
    assert_eq!(names(&scene), ["redis-0", "redis-1"]);
}

#[test]
fn as_many_pods_start_as_there_are_claims_with_data() {
    let names = Names::new("redis", "cache");
    let mut claims = vec![
        used_claim("redis-0", "s0", ID),
        used_claim("redis-7", "s0", OTHER_ID),
    ];
    assert_eq!(pods_with_data(&names, &claims), 8);
    let nodes = recorded_by_claims(&names, &claims);
    assert_eq!(
        nodes.keys().collect::<Vec<_>>(),
        ["redis-0", "redis-7"],
        "{nodes:?}"
    );
    // Claims without a record, of another cluster, of other pods, and such as are being deleted hold nothing of it.
    let mut unused = claim(&json!({}));
    unused["metadata"]["name"] = json!("data-redis-8");
    let mut leaving = used_claim("redis-11", "s0", ID);
    Arc::make_mut(&mut leaving).leaving = true;
    claims.extend([
        claim_of(unused),
        used_claim("redis-9", "an-older-one", ID),
        used_claim("other-10", "s0", ID),
        leaving,
    ]);
    assert_eq!(pods_with_data(&names, &claims), 8);
    assert_eq!(pods_with_data(&names, &[]), 0);
    // A set that was made with fewer pods, as by an operator that did not look.
    let formed = formed(None, &claims);
    let idle = |nodes: &[(&str, &str)], pods: &[Arc<PodFact>]| {
        idle_claims(&names, &claims, pods, &set(formed.clone(), nodes), 6)
    };
    let told = idle(&[("redis-0", ID)], &[]).expect("a claim has no pod");
    assert!(
        told.contains("data-redis-7;")
            && told.contains("kubectl scale statefulset -n cache redis --replicas=8"),
        "{told}"
    );
    assert_eq!(idle(&[("redis-7", OTHER_ID)], &[]), None);
    let there = [pod_of(pod("redis-7", running(), json!({})))];
    assert_eq!(idle(&[], &there), None);
    let fresh = set(None, &[]);
    assert_eq!(idle_claims(&names, &claims, &[], &fresh, 6), None);
    let told = misnamed_claims(&names, &claims);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("data-other-10"), "{told:?}");
    assert!(told[0].contains("called as data-redis-0"), "{told:?}");
}

#[test]
fn a_held_server_is_started_by_a_step_and_comes_back_stale() {
    let mut scene = Scene::of(pod("redis-0", running(), json!({})));
    let held = |uid: &str| {
        let claim = Claim::Unreadable;
        let report = GateReport::Held { claim };
        [("redis-0".to_owned(), (uid.to_owned(), report))].into()
    };
    scene.gates = held("u1");
    let seat = scene.first();
    assert_eq!(seat.starter, Starter::Step);
    let claim = Claim::Unreadable;
    assert_eq!(seat.disk, Seen::Known(Disk::Stale { claim }));
    // What the gate of an earlier pod of that name said says nothing of this one.
    scene.gates = held("u0");
    assert_eq!(scene.first().starter, Starter::Host);
    assert_eq!(scene.first().disk, Seen::Unknown(Why::NotAsked));
}

#[test]
fn a_log_is_there_where_it_is_kept_and_the_claim_was_used() {
    let mut scene = Scene::of(pod("redis-0", running(), json!({})));
    scene.claims = vec![claim_of(claim(&json!({})))];
    assert_eq!(scene.first().disk, Seen::Unknown(Why::NotAsked));
    scene.claims = vec![claim_of(claim(&json!({"shardwright.dev/node-id": ID})))];
    assert_eq!(scene.first().disk, Seen::Known(Disk::Log));
    scene.aof = false;
    assert_eq!(scene.first().disk, Seen::Unknown(Why::NotAsked));
}

#[test]
fn the_sets_record_counts_more_than_the_claims() {
    let mut scene = Scene::empty();
    scene.claims = vec![claim_of(claim(&json!({"shardwright.dev/node-id": ID})))];
    assert_eq!(scene.first().recorded_id, ID.parse().ok());
    scene.set = Some(set(None, &[("redis-0", OTHER_ID)]));
    assert_eq!(scene.first().recorded_id, OTHER_ID.parse().ok());
}

#[test]
fn formed_is_told_by_the_set_else_by_any_claim() {
    let on_claim = |id: &str, at: &str| {
        claim_of(claim(&json!({
            "shardwright.dev/cluster-id": id, "shardwright.dev/formed-at-ms": at,
        })))
    };
    let fact = |id: &str, at| Formed {
        cluster_id: id.to_owned(),
        at: Timestamp(at),
    };
    let claims = [
        on_claim("a", "7"),
        on_claim("b", "9"),
        claim_of(claim(&json!({}))),
    ];
    assert_eq!(formed(None, &claims[2..]), None);
    assert_eq!(formed(None, &claims), Some(fact("b", 9)));
    assert_eq!(formed(Some(&set(None, &[])), &claims), Some(fact("b", 9)));
    let on_set = set(Some(fact("c", 1)), &[]);
    assert_eq!(formed(Some(&on_set), &claims), Some(fact("c", 1)));
}

#[test]
fn a_cordoned_kubernetes_node_is_to_take_nothing_new() {
    let mut scene = Scene::of(pod("redis-0", running(), json!({})));
    for cordoned in [true, false] {
        let node: Node = read(json!({
            "metadata": {"name": "node-1"},
            "spec": {"unschedulable": cordoned},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        let host = Arc::new(HostFact::of(&node).expect("a node"));
        scene.hosts.insert("node-1".to_owned(), host);
        assert_eq!(scene.first().place.cordoned, cordoned);
    }
}

#[test]
fn places_come_from_the_kubernetes_node_and_the_volume() {
    let mut scene = Scene::of(pod("redis-0", running(), json!({})));
    let node: Node = read(json!({
        "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let host = Arc::new(HostFact::of(&node).expect("a node"));
    scene.hosts.insert("node-1".to_owned(), host);
    let place = |zone: Option<&str>, host: Option<&str>, tied: bool| Place {
        zone: zone.map(str::to_owned),
        host: host.map(str::to_owned),
        away_since: None,
        cordoned: false,
        tied: host.filter(|_| tied).map(|host| Tied {
            host: host.to_owned(),
            away_since: None,
        }),
        leave_rank: 0,
    };
    assert_eq!(
        scene.first().place,
        place(Some("z1"), Some("node-1"), false)
    );
    // A volume that only one Kubernetes node can use ties its pod there, even while there is no pod.
    let volume = |key: &str, values: Value| {
        VolumeFact::of(&read::<PersistentVolume>(
            json!({"spec": {"nodeAffinity": {"required": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": key, "operator": "In", "values": values}]}]}}}}),
        ))
    };
    scene.pods.clear();
    scene.claims = vec![claim_of(claim(&json!({})))];
    assert_eq!(scene.first().place, place(None, None, false));
    for key in ["kubernetes.io/hostname", "topology.hostpath.csi/node"] {
        let tied = volume(key, json!(["node-1"]));
        scene.volumes = [("v".to_owned(), tied)].into();
        assert_eq!(scene.first().place, place(Some("z1"), Some("node-1"), true));
    }
    let zonal = volume("topology.kubernetes.io/zone", json!(["z3"]));
    scene.volumes = [("v".to_owned(), zonal)].into();
    assert_eq!(scene.first().place, place(Some("z3"), None, false));
    let free = volume("kubernetes.io/hostname", json!(["node-1", "node-2"]));
    assert_eq!(free, VolumeFact::default());
}

#[test]
fn a_kubernetes_node_is_away_since_it_said_so_or_was_missed() {
    let mut scene = Scene::of(pod("redis-0", running(), json!({})));
    scene.claims = vec![claim_of(claim(&json!({})))];
    let tied = VolumeFact {
        host: Some("node-1".to_owned()),
        zone: None,
    };
    scene.volumes = [("v".to_owned(), tied)].into();
    let away = |scene: &Scene| {
        let place = scene.first().place;
        let tied = place.tied.and_then(|tied| tied.away_since);
        assert_eq!(place.away_since, tied, "the pod is where its volume is");
        tied.map(|since| since.0)
    };
    let node = |condition: Value| {
        let node: Node = read(json!({
            "metadata": {"name": "node-1"}, "status": {"conditions": [condition]},
        }));
        BTreeMap::from([(
            "node-1".to_owned(),
            Arc::new(HostFact::of(&node).expect("a node")),
        )])
    };
    // Nothing is known of it: it may be well, until we have missed it.
    assert_eq!(away(&scene), None);
    scene.missed.insert("node-1".to_owned(), Timestamp(3));
    assert_eq!(away(&scene), Some(3));
    scene.hosts = node(json!({
        "type": "Ready", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:02Z",
    }));
    assert_eq!(away(&scene), Some(2_000));
    // It tells no time.
    scene.hosts = node(json!({"type": "Ready", "status": "False"}));
    assert_eq!(away(&scene), Some(3));
    scene.hosts = node(json!({"type": "Ready", "status": "True"}));
    assert_eq!(away(&scene), None);
}

#[test]
fn a_pod_that_does_not_start_and_would_be_made_otherwise_by_now_is_told_of() {
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    let outdated = |pod: Value, newest: Option<&str>| {
        let set = SetFact {
            revision: newest.map(str::to_owned),
            ..set(None, &[])
        };
        let scene = Scene {
            set: Some(set),
            ..Scene::of(made_from(pod, "old"))
        };
        scene.first().outdated
    };
    let bad = || pod("redis-0", waits("ImagePullBackOff"), json!({}));
    let told = outdated(bad(), Some("new")).expect("it does not start");
    assert_eq!(told.made_from, "old");
    assert_eq!(told.why, "ImagePullBackOff: image i can't be pulled");
    // It would be made just so, or it is not known how.
    assert_eq!(outdated(bad(), Some("old")), None);
    assert_eq!(outdated(bad(), None), None);
    assert_eq!(outdated(leaving(bad()), Some("new")), None);
    let loops = pod("redis-0", waits("CrashLoopBackOff"), ended("x"));
    let told = outdated(loops, Some("new")).expect("it ends again and again");
    assert!(told.why.starts_with("CrashLoopBackOff"), "{}", told.why);
    // Its container runs, or is started again in a moment.
    let runs = pod("redis-0", running(), json!({}));
    assert_eq!(outdated(runs, Some("new")), None);
    let ends = pod("redis-0", ended("x"), json!({}));
    assert_eq!(outdated(ends, Some("new")), None);
    let mut unplaced = bad();
    unplaced["status"] = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "message": "3 Insufficient memory"},
    ]});
    let told = outdated(unplaced, Some("new")).expect("it has no place");
    assert_eq!(told.why, "3 Insufficient memory");
    let mut ready = bad();
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(outdated(ready, Some("new")), None);
}

#[test]
fn the_newest_revision_is_known_once_the_controller_has_seen_the_newest_template() {
    let set = |generation: i64, observed: i64| {
        let set = json!({
            "metadata": {"name": "redis", "namespace": "cache", "uid": "s", "labels": labels(),
                         "generation": generation},
            "spec": {"selector": {}, "serviceName": "redis", "template": {}},
            "status": {"replicas": 6, "observedGeneration": observed, "updateRevision": "redis-2"},
        });
        SetFact::of(&read(set)).expect("a set of ours").revision
    };
    assert_eq!(set(3, 3).as_deref(), Some("redis-2"));
    assert_eq!(set(3, 2), None);
}
