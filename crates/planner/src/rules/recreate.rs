//! Servers that their volumes tie to a host that is away are made anew elsewhere, where that is wanted and nothing is
//! lost with the volume.

use shardwright_topology::{Role, Server};

use crate::draft::Draft;
use crate::evidence::LiveAt;
use crate::rules::start::owners_live;
use crate::safety::{self, NoRecreate};
use crate::{Action, Authority, Precondition, Reason, Waiting};

/// Gives up one volume at most: what is seen next may keep the others. Of the rest it is told why they wait.
pub(crate) fn stranded(p: &mut Draft<'_>, formed: bool) {
    if p.d.authority != Authority::Managed {
        return;
    }
    let mut turn = formed && !p.coverage_at_work();
    for server in p.o.servers().values() {
        let Some(host) = server.place.tied.as_ref().map(|tied| tied.host.clone()) else {
            continue;
        };
        let name = server.name.clone();
        let starts = p.steps.iter().any(|s| is_start(&s.action, server));
        match safety::why_not_recreate(p.d, p.o, server) {
            // It can run where it is, after all.
            _ if starts => {}
            None if turn => {
                turn = false;
                let requires = others_live(p, server);
                let because = Reason::HostAway { host: host.clone() };
                p.act_if(Action::Recreate { server: name, host }, because, requires);
            }
            None => wait(p, server, NoRecreate::NotItsTurn),
            Some(NoRecreate::NotTied | NoRecreate::HostIsThere | NoRecreate::Speaks) => {}
            Some(why) => wait(p, server, why),
        }
    }
}

fn is_start(action: &Action, which: &Server) -> bool {
    match action {
        Action::StartServer { server }
        | Action::StartAfresh { server }
        | Action::Replace { server, .. } => *server == which.name,
        _ => false,
    }
}

fn wait(p: &mut Draft<'_>, server: &Server, why: NoRecreate) {
    if let Some(tied) = &server.place.tied {
        p.wait(Waiting::Stranded {
            server: server.name.clone(),
            host: tied.host.clone(),
            why,
        });
    }
}

/// Those whose copies make the volume needless must still be there: its primary, or whoever owns a slot.
fn others_live(p: &Draft<'_>, server: &Server) -> Vec<Precondition> {
    let member = server.recorded_id.and_then(|id| p.o.member(id));
    let primary = member
        .filter(|m| m.role == Role::Replica)
        .and_then(|m| LiveAt::prove(p.o, m.primary?));
    match primary {
        Some(primary) => vec![Precondition::LivesAt {
            node: primary.node(),
            address: primary.address().clone(),
        }],
        None => owners_live(p),
    }
}
