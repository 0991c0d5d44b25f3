//! Whether a server may be made anew.

use shardwright_topology::{Process, Seen, ServerName};

use super::{Lint, ViolationKind};
use crate::Authority;

impl Lint<'_> {
    /// A server of ours is made anew only if its runtime says that it does not start as it was made, from just this
    /// revision; if it is silent and not told to end; and if its host, whose word that is, reports. Nobody has a link to
    /// the node that lived there.
    pub(super) fn replaces(&mut self, i: usize, name: &ServerName, made_from: &str) {
        let told = self.all.outdated.get(name);
        let outdated = told.is_some_and(|start| start.made_from == made_from);
        let managed = self.d.authority == Authority::Managed;
        // What foreign nodes say counts: a server that answers lives.
        let silent = self.all.servers().get(name).is_some_and(|s| {
            let away = s.place.away_since.is_some() || s.leaving;
            let runs = s.process == Process::Running || matches!(s.view, Seen::Known(_));
            let linked = s.recorded_id.is_some_and(|id| {
                let others = self.o.views().filter(|(_, v)| v.id != id);
                let mut rows = others.filter_map(|(_, v)| v.rows.get(id));
                rows.any(|row| row.link_up)
            });
            !away && !runs && !linked
        });
        if !outdated || !managed || !silent {
            let server = name.clone();
            self.fatal(i, ViolationKind::ReplacesLiving { server });
        }
    }
}
