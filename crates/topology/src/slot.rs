//! Hash slots, ranges of them, and sets of them.

use std::fmt;

/// How many hash slots a cluster has (Redis Cluster specification, "Key distribution model").
pub const SLOT_COUNT: u16 = 16_384;

/// A hash slot: 0 to 16383.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

/// A slot or range outside 0 to 16383, or one that ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash slots are 0 to 16383 in rising order, not {first} to {last}")]
pub struct InvalidSlot {
    /// The first slot that was given.
    pub first: u64,
    /// The last slot that was given.
    pub last: u64,
}

impl Slot {
    /// Slot 0.
    pub const MIN: Self = Self(0);

    /// The slot of this number; an error beyond 16383.
    pub fn new(number: u64) -> Result<Self, InvalidSlot> {
        match u16::try_from(number) {
            Ok(n) if n < SLOT_COUNT => Ok(Self(n)),
            _ => Err(InvalidSlot {
                first: number,
                last: number,
            }),
        }
    }

    /// The slot's number, 0 to 16383.
    pub fn number(self) -> u16 {
        self.0
    }

    /// All slots, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> {
        (0..SLOT_COUNT).map(Slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of slots, both ends included; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    first: u16,
    last: u16,
}

impl SlotRange {
    /// The range from `first` to `last`, both included.
    pub fn new(first: u64, last: u64) -> Result<Self, InvalidSlot> {
        match (Slot::new(first), Slot::new(last)) {
            (Ok(a), Ok(b)) if a <= b => Ok(Self {
                first: a.0,
                last: b.0,
            }),
            _ => Err(InvalidSlot { first, last }),
        }
    }

    /// The first slot of the range.
    pub fn first(self) -> Slot {
        Slot(self.first)
    }

    /// The last slot of the range.
    pub fn last(self) -> Slot {
        Slot(self.last)
    }

    /// How many slots the range holds: 1 to 16384.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }

    /// The slots of the range, in order.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (self.first..=self.last).map(Slot)
    }
}

impl From<Slot> for SlotRange {
    fn from(slot: Slot) -> Self {
        Self {
            first: slot.0,
            last: slot.0,
        }
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of slots, kept as ranges in order that neither touch nor overlap.
///
/// Ranges, not bits: in a cluster of a thousand nodes there are a million rows, and most hold none or one range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotSet(Vec<SlotRange>);

impl SlotSet {
    /// The set with no slot; it allocates nothing.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// All 16384 slots.
    pub fn all() -> Self {
        Self(vec![SlotRange {
            first: 0,
            last: SLOT_COUNT - 1,
        }])
    }

    /// True when the set has no slot.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many slots the set holds.
    pub fn count(&self) -> u16 {
        self.0.iter().map(|r| r.count()).sum()
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[SlotRange] {
        &self.0
    }

    /// The slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|r| r.slots())
    }

    /// Whether the set holds this slot.
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.0.partition_point(|r| r.first <= slot.0);
        after > 0 && self.0[after - 1].last >= slot.0
    }

    /// Adds a range.
    pub fn insert(&mut self, range: impl Into<SlotRange>) {
        let range = range.into();
        // The engines list ranges in rising order: appending is the common case.
        match self.0.last_mut() {
            None => self.0.push(range),
            Some(tail) if tail.last + 1 == range.first => tail.last = range.last,
            Some(tail) if tail.last + 1 < range.first => self.0.push(range),
            Some(_) => {
                self.0.push(range);
                self.normalise();
            }
        }
    }

    /// The slots that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = Self(self.0.iter().chain(&other.0).copied().collect());
        all.normalise();
        all
    }

    /// The slots that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::empty();
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let (first, last) = (x.first.max(y.first), x.last.min(y.last));
            if first <= last {
                out.0.push(SlotRange { first, last });
            }
            if x.last < y.last {
                a.next();
            } else {
                b.next();
            }
        }
        out
    }

    /// The slots of this set that the other has not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// The slots that this set has not.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut out = Self::empty();
        let mut next = 0;
        for r in &self.0 {
            if next < r.first {
                out.0.push(SlotRange {
                    first: next,
                    last: r.first - 1,
                });
            }
            next = r.last + 1;
        }
        if next < SLOT_COUNT {
            out.0.push(SlotRange {
                first: next,
                last: SLOT_COUNT - 1,
            });
        }
        out
    }

    fn normalise(&mut self) {
        // The engines list ranges in rising order: then there is nothing to do.
        if self.0.windows(2).all(|w| w[0].last + 1 < w[1].first) {
            return;
        }
        self.0.sort_unstable();
        let mut out: Vec<SlotRange> = Vec::with_capacity(self.0.len());
        for r in self.0.drain(..) {
            match out.last_mut() {
                Some(tail) if r.first <= tail.last + 1 => tail.last = tail.last.max(r.last),
                _ => out.push(r),
            }
        }
        self.0 = out;
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut set = Self(ranges.into_iter().collect());
        set.normalise();
        set
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut ranges: Vec<SlotRange> = Vec::new();
        for slot in slots {
            // In rising order they join the range before.
            match ranges.last_mut() {
                Some(tail) if tail.last.checked_add(1) == Some(slot.0) => tail.last = slot.0,
                _ => ranges.push(slot.into()),
            }
        }
        ranges.into_iter().collect()
    }
}

impl From<SlotRange> for SlotSet {
    fn from(range: SlotRange) -> Self {
        Self(vec![range])
    }
}

/// How many ranges people are shown of a set, where nothing else is said: a set that many moves have cut has thousands.
const RANGES_SHOWN: usize = 4;

/// A set in words. This is the one place that writes them.
#[derive(Clone, Copy)]
pub struct ShownSlots<'a> {
    set: &'a SlotSet,
    ranges_max: usize,
    count: bool,
}

impl fmt::Display for ShownSlots<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = &self.set.0;
        if ranges.is_empty() {
            return f.write_str("none");
        }
        let cut = ranges.len() > self.ranges_max;
        for (i, r) in ranges.iter().take(self.ranges_max).enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{r}")?;
        }
        if cut {
            f.write_str(", …")?;
        }
        if cut || self.count {
            write!(f, " ({})", self.set.count())?;
        }
        Ok(())
    }
}

impl SlotSet {
    /// The first ranges, as `0-99,200,300-310, … (1365)`: where some are left out, their number in all follows.
    pub fn brief(&self, ranges_max: usize) -> ShownSlots<'_> {
        ShownSlots {
            set: self,
            ranges_max,
            count: false,
        }
    }

    /// The same with their number in any case: `0-99 (100)`.
    pub fn counted(&self) -> ShownSlots<'_> {
        ShownSlots {
            set: self,
            ranges_max: RANGES_SHOWN,
            count: true,
        }
    }

    /// Every range, for programs: `0-99,200,300-310`.
    pub fn listed(&self) -> String {
        self.brief(usize::MAX).to_string()
    }
}

/// As people are shown it: a long list is cut. Programs get [`SlotSet::listed`].
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.brief(RANGES_SHOWN), f)
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.brief(usize::MAX), f)
    }
}
