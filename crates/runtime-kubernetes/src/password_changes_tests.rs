//! Changed passwords, by the objects that pods mount.

use super::*;
use crate::objects::{BudgetApi, Given, build, passwords_to_make, passwords_to_read};

const USERS: &str = "
apiVersion: shardwright.dev/v1alpha1
kind: RedisCluster
metadata: { name: redis, namespace: cache }
spec:
  users:
    - { name: app, rules: \"~* +@all\", passwordSecret: { name: mine, key: app } }
    - { name: open, rules: \"nopass ~* +get\" }
    - { name: shardwright, passwordSecret: { name: mine, key: own } }
    - { name: replication, passwordSecret: { name: mine, key: copy } }
";

fn cluster(more: &str) -> Cluster {
    Cluster::from_text(&format!("{USERS}{more}"))
        .expect("an accepted manifest")
        .cluster
}

/// A password for each user, of this many changes.
fn passwords(cluster: &Cluster, of: &[(&str, u32)]) -> BTreeMap<String, Secret> {
    let made = passwords_to_make(cluster).into_iter();
    let read = passwords_to_read(cluster).into_iter().map(|(user, _)| user);
    let changes = |user: &str| {
        of.iter()
            .find(|(name, _)| *name == user)
            .map_or(0, |(_, n)| *n)
    };
    made.chain(read)
        .map(|user| {
            (
                user.to_owned(),
                Secret::new(format!("{user}-{}", changes(user))),
            )
        })
        .collect()
}

fn objects(cluster: &Cluster, passwords: &BTreeMap<String, Secret>) -> Objects {
    let given = Given {
        owner: None,
        made: &BTreeMap::new(),
        read: passwords,
        budget: BudgetApi::V1,
        operator_namespace: None,
        pods_min: 0,
    };
    build(cluster, &given).expect("objects")
}

fn acl_of(objects: &Objects) -> String {
    let text = std::cell::RefCell::new(String::new());
    let mut acl = objects.acl.clone();
    acl.edit(|file| {
        text.borrow_mut().push_str(file);
        file.to_owned()
    });
    text.into_inner()
}

fn auth_of(objects: &Objects) -> BTreeMap<String, String> {
    let data = objects.auth.data.iter().flatten();
    data.map(|(name, bytes)| {
        let text = String::from_utf8_lossy(&bytes.0).into_owned();
        (name.clone(), text)
    })
    .collect()
}

/// What pods mount whose objects are these.
fn in_use(objects: &Objects) -> InUse {
    InUse {
        acl: Some(acl_of(objects)),
        logins: auth_of(objects),
    }
}

#[test]
fn servers_keep_the_passwords_that_they_have_however_often_they_are_changed() {
    for storage in ["", "  acl: { storage: ConfigMap }\n"] {
        let cluster = cluster(storage);
        let first = objects(&cluster, &passwords(&cluster, &[]));
        for times in [1, 2] {
            let of = [
                ("app", times),
                ("shardwright", times),
                ("replication", times),
            ];
            let wanted = passwords(&cluster, &of);
            let mut new = objects(&cluster, &wanted);
            assert!(new != first, "a changed password is another object");
            let changed = in_use(&first)
                .keep(&mut new, &wanted)
                .expect("all is there");
            assert_eq!(
                changed.into_iter().collect::<Vec<_>>(),
                ["app", "replication", "shardwright"]
            );
            assert!(new == first, "pods that start get what the others have");
        }
        let own = in_use(&first).own_password();
        assert_eq!(own, Some(Secret::new("shardwright-0")));
        // Put back, it is no change.
        let wanted = passwords(&cluster, &[]);
        let mut back = objects(&cluster, &wanted);
        assert_eq!(in_use(&first).keep(&mut back, &wanted), Ok(BTreeSet::new()));
        assert!(back == first);
    }
}

#[test]
fn only_the_changed_password_stays_out() {
    let cluster = cluster("");
    let first = objects(&cluster, &passwords(&cluster, &[]));
    let wanted = passwords(&cluster, &[("app", 1)]);
    let more = USERS.replace("~* +@all", "~* +@all -@dangerous");
    let edited = Cluster::from_text(&more)
        .expect("an accepted manifest")
        .cluster;
    let mut new = objects(&edited, &wanted);
    let changed = in_use(&first)
        .keep(&mut new, &wanted)
        .expect("all is there");
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), ["app"]);
    let (old, new) = (acl_of(&first), acl_of(&new));
    assert_eq!(new, old.replace("~* +@all\n", "~* +@all -@dangerous\n"));
    assert!(old.contains(Secret::new("app-0").hash().as_str()));
}

#[test]
fn what_can_not_be_kept_is_an_error_and_a_new_cluster_takes_all() {
    let cluster = cluster("");
    let first = objects(&cluster, &passwords(&cluster, &[]));
    let wanted = passwords(&cluster, &[("replication", 1)]);
    let mut new = objects(&cluster, &wanted);
    let gone = InUse {
        logins: BTreeMap::new(),
        ..in_use(&first)
    };
    assert_eq!(gone.keep(&mut new, &wanted), Err("replication".to_owned()));
    let nothing = InUse {
        acl: None,
        logins: BTreeMap::new(),
    };
    let as_wanted = objects(&cluster, &wanted);
    let mut new = as_wanted.clone();
    assert_eq!(nothing.keep(&mut new, &wanted), Ok(BTreeSet::new()));
    assert!(new == as_wanted);
}

/// The Secret with the made passwords was removed: those that are made in its place are no server's.
#[test]
fn no_secret_is_made_with_passwords_that_no_server_has() {
    let cluster = cluster("");
    let made = |password: &str| BTreeMap::from([("default".to_owned(), Secret::new(password))]);
    let read = passwords(&cluster, &[]);
    let built = |made: &BTreeMap<String, Secret>| {
        let given = Given {
            owner: None,
            made,
            read: &BTreeMap::from_iter(read.clone().into_iter().filter(|(u, _)| u != "default")),
            budget: BudgetApi::V1,
            operator_namespace: None,
            pods_min: 0,
        };
        build(&cluster, &given).expect("objects")
    };
    let first = built(&made("one"));
    let mut new = built(&made("two"));
    let wanted = read.clone().into_iter().chain(made("two")).collect();
    let changed = in_use(&first).keep(&mut new, &wanted);
    assert_eq!(changed, Ok(BTreeSet::from(["default".to_owned()])));
    assert_eq!(acl_of(&new), acl_of(&first));
    let kept = new.passwords.and_then(|secret| secret.data);
    assert_eq!(kept, Some(BTreeMap::new()));
}

#[test]
fn what_is_told_takes_the_change_back_and_shows_no_password() {
    let names = Names::new("redis", "cache");
    let own = not_applied(&cluster(""), &names, SHARDWRIGHT_USER);
    let command = "kubectl patch secret -n cache mine -p \"{\\\"data\\\":{\\\"own\\\":\\\"$(kubectl get secret \
                   -n cache redis-auth -o jsonpath='{.data.shardwright}')\\\"}}\"";
    assert!(own.contains(command), "{own}");
    let copies = not_applied(&cluster(""), &names, REPLICATION_USER);
    let command = "go-template='{{index .data \"replication.conf\" | base64decode}}'";
    assert!(copies.contains(command), "{copies}");
    let made = not_applied(&cluster(""), &names, "default");
    assert!(made.contains("redis-passwords (key default)"), "{made}");
    let released = not_applied(&cluster("  retainVolumes: false\n"), &names, "app");
    assert!(
        released.contains("retainVolumes to true first"),
        "{released}"
    );
}
