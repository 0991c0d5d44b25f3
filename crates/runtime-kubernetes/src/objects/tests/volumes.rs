//! What a change of the manifest's storage means for volumes that are there.

use super::*;

#[test]
fn volumes_grow_and_never_shrink_or_change() -> Outcome {
    let of = |lines: &str| built(&with(lines)).stateful_set;
    let small = of("storage: {size: 1Gi}");
    let large = of("storage: {size: 2Gi}");
    let other = of("storage: {size: 1Gi, storageClassName: fast}");
    let bytes = |gib: u64| gib << 30;
    assert_eq!(claim_change(&small, &small), ClaimChange::None);
    assert_eq!(
        claim_change(&small, &large),
        ClaimChange::Grow {
            from_bytes: bytes(1),
            to_bytes: bytes(2)
        }
    );
    assert_eq!(
        claim_change(&large, &small),
        ClaimChange::Shrink {
            from_bytes: bytes(2),
            to_bytes: bytes(1)
        }
    );
    assert!(matches!(
        claim_change(&small, &other),
        ClaimChange::Class { .. }
    ));
    // As the API server spells it, and with what it adds.
    let mut live = serde_json::to_value(&small)?;
    let claim = &mut live["spec"]["volumeClaimTemplates"][0];
    claim["spec"]["resources"]["requests"]["storage"] = json!("1024Mi");
    claim["status"] = json!({ "phase": "Pending" });
    let live: StatefulSet = serde_json::from_value(live)?;
    assert_eq!(claim_change(&live, &small), ClaimChange::None);
    let mut wanted = of("storage: {size: 512Mi}");
    keep_live_claims(&live, &mut wanted);
    assert_eq!(claim_change(&live, &wanted), ClaimChange::None);
    assert_eq!(
        claim_change(&StatefulSet::default(), &small),
        ClaimChange::Unknown
    );
    Ok(())
}
