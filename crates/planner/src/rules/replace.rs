//! Servers that do not start as they were made, and would be made otherwise by now, are made anew: an image that can't be
//! had, or a request that no host grants, was declared and taken back.

use crate::draft::Draft;
use crate::safety::why_not_replace;
use crate::{Action, Reason, Standing};

/// Makes all of them anew at once: none of them runs.
pub(crate) fn outdated(p: &mut Draft<'_>) {
    let (d, o) = (p.d, p.o);
    for server in o.servers().values() {
        let foreign = matches!(p.standings.get(&server.name), Some(Standing::Foreign(_)));
        let started = p
            .steps
            .iter()
            .any(|step| step.action.server() == Some(&server.name));
        // Where they are not, they are waited for as all that are silent.
        if foreign || started || why_not_replace(d, o, server).is_some() {
            continue;
        }
        if let Some(start) = o.outdated.get(&server.name) {
            let action = Action::Replace {
                server: server.name.clone(),
                made_from: start.made_from.clone(),
            };
            let why = start.why.clone();
            p.act(action, Reason::OutdatedStart { why });
        }
    }
}
