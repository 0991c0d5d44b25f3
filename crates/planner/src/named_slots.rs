//! The slots that a problem or a wait is about, whole: their texts show the first ranges only.

use shardwright_topology::SlotSet;

use crate::{ProblemKind, Waiting};

impl ProblemKind {
    /// All slots that this is about, where it is about a set of them.
    pub fn slots(&self) -> Option<&SlotSet> {
        match self {
            Self::Uncovered(slots)
            | Self::Contested(slots)
            | Self::CoverageUnknown { slots, .. }
            | Self::Unowned { slots, .. }
            | Self::PrimaryDown { slots, .. }
            | Self::IdLost { slots, .. }
            | Self::StrayKeys { slots, .. } => Some(slots),
            Self::MajorityLost(lost) => Some(&lost.slots),
            _ => None,
        }
    }
}

impl Waiting {
    /// All slots that this is about, where it is about a set of them.
    pub fn slots(&self) -> Option<&SlotSet> {
        match self {
            Self::ShardLost { slots, .. }
            | Self::Uncovered { slots }
            | Self::KeysUncounted { slots, .. }
            | Self::KeysUnclaimed { slots, .. }
            | Self::Contested { slots }
            | Self::StrayKeys { slots, .. } => Some(slots),
            Self::MajorityLost(lost) => Some(&lost.slots),
            _ => None,
        }
    }
}
