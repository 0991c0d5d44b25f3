//! Nodes that will not return are forgotten by everyone at once, after their slots and replicas have others.

use shardwright_topology::{Member, Source};

use crate::draft::Draft;
use crate::evidence::Gone;
use crate::{Action, Authority, Reason, safety};

/// Makes every node that lists a gone one forget it. All in one pass: FORGET must reach everyone within 60 s.
pub(crate) fn the_gone(p: &mut Draft<'_>) {
    // One that answers where it does not belong is left alone while it owns slots.
    let kept = |m: &&Member| p.strangers.contains(&m.id) && !m.slots.is_empty();
    let silent: Vec<_> =
        p.o.members()
            .values()
            .filter(|m| m.source == Source::Others && !p.foreign.contains(&m.id))
            .filter(|m| !kept(m))
            .map(|m| m.id)
            .collect();
    for node in silent {
        let given_up = || Gone::given_up(p.d, p.o, node);
        let Some(gone) = Gone::prove(p.d, p.o, node)
            .or_else(given_up)
            .filter(|_| safety::why_not_forget(p.d, p.o, node).is_none())
        else {
            continue;
        };
        let because = match p.d.authority {
            Authority::Managed => Reason::NodeGone,
            Authority::Guest => Reason::DataGivenUp,
        };
        forget_everywhere(p, &gone, &because);
    }
}

pub(crate) fn forget_everywhere(p: &mut Draft<'_>, gone: &Gone, because: &Reason) {
    let told = |a: &Action| matches!(a, Action::Forget { gone: g, .. } if g == gone);
    if p.steps.iter().any(|s| told(&s.action)) {
        return;
    }
    let tellers: Vec<_> =
        p.o.beliefs(gone.node())
            .map(|(speaker, _)| speaker)
            .filter(|id| p.is_ours(*id) && *id != gone.node())
            .collect();
    for teller in tellers {
        p.act(
            Action::Forget {
                teller,
                gone: gone.clone(),
            },
            because.clone(),
        );
    }
}
