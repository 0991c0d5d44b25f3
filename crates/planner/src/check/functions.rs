//! What the linter asks of libraries of functions that are copied, and of who gets its first slots.

use shardwright_topology::{CodeDigest, FunctionLibraries, Member, NodeId, Seen};

use super::{Lint, ViolationKind};

impl Lint<'_> {
    /// Functions go from an owner of slots to a primary without any, and only those that no owner lacks or has with other
    /// code.
    pub(super) fn gives_functions(
        &mut self,
        i: usize,
        from: NodeId,
        to: NodeId,
        libraries: &FunctionLibraries,
    ) {
        let owns = |id| self.o.member(id).is_some_and(|m| !m.slots.is_empty());
        let primary = self.copies(to).is_none();
        if owns(to) || !owns(from) || !primary || self.o.view_of(from).is_none() {
            self.fatal(i, ViolationKind::FunctionsToUnfit { node: to });
        }
        for (library, digest) in libraries {
            if !self.all_owners_have(library, *digest) {
                let library = library.clone();
                self.fatal(i, ViolationKind::FunctionsDiffer { library });
            }
        }
    }

    /// Whoever gets its first slots has what every owner has. Where the libraries of one are unknown, nobody can tell.
    pub(super) fn lacks_functions(&mut self, i: usize, to: NodeId) {
        let Some(receiver) = self.o.member(to).filter(|m| m.slots.is_empty()) else {
            return;
        };
        let mut owners = self.o.members().values().filter(|m| !m.slots.is_empty());
        let (Some(Seen::Known(own)), Some(one)) = (
            self.libraries_of(receiver),
            owners.find_map(|m| self.libraries_of(m)),
        ) else {
            return;
        };
        let Seen::Known(one) = one else { return };
        let lacking = one.iter().find(|(name, digest)| {
            own.get(*name) != Some(digest) && self.all_owners_have(name, **digest)
        });
        if let Some((library, _)) = lacking {
            let (node, library) = (to, library.clone());
            self.fatal(i, ViolationKind::FunctionsLack { node, library });
        }
    }

    /// Whether each owner of slots that tells of functions is known to have this library with this code.
    fn all_owners_have(&self, library: &str, digest: CodeDigest) -> bool {
        let mut owners = self.o.members().values().filter(|m| !m.slots.is_empty());
        owners.all(|m| match self.libraries_of(m) {
            Some(Seen::Known(theirs)) => theirs.get(library) == Some(&digest),
            Some(Seen::Unknown(_)) => false,
            None => true,
        })
    }

    fn libraries_of(&self, m: &Member) -> Option<Seen<&FunctionLibraries>> {
        self.o.view_of(m.id)?.functions()
    }
}
