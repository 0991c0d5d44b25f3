//! A cluster that others run, found from the address of any of its members.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use shardwright_engine::Endpoint;
use shardwright_topology::{
    Address, Flags, Formed, Host, NodeId, NodeView, Place, Process, Row, Seen, ServerName, Starter,
    Timestamp, Why,
};

use crate::{Runtime, RuntimeError, Seat};

/// An address could not be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The name could not be looked up.
    #[error("cannot find {endpoint}; check the name")]
    Name {
        /// Which.
        endpoint: Endpoint,
        /// Why.
        source: std::io::Error,
    },
    /// The name has no address.
    #[error("{endpoint} has no address; check the name")]
    NoAddress {
        /// Which.
        endpoint: Endpoint,
    },
    /// Two of the given names are one server.
    #[error("{first} and {second} are the same server; give each server once")]
    Same {
        /// One name.
        first: Endpoint,
        /// The other.
        second: Endpoint,
    },
}

/// A cluster that others run. It can be looked at and talked to; its processes are not ours.
#[derive(Debug)]
pub struct Guest {
    seats: BTreeMap<ServerName, Known>,
    /// Whether members that the given servers list are looked for too.
    follow: bool,
    /// Servers that a person named. Only these stay where nobody lists them.
    named: BTreeSet<ServerName>,
    /// Addresses that were tried as another way to a member that already speaks.
    tried: BTreeSet<ServerName>,
}

#[derive(Clone, Debug)]
struct Known {
    address: Address,
    id: Option<NodeId>,
}

impl Guest {
    /// The cluster of which these are members; the others are found from what they list.
    pub async fn of(seeds: &[Endpoint]) -> Result<Self, GuestError> {
        let seats = resolve(seeds).await?.1;
        Ok(Self {
            named: seats.keys().cloned().collect(),
            seats,
            follow: true,
            tried: BTreeSet::new(),
        })
    }

    /// Just these servers, which are to form a cluster; and their names in the order given.
    pub async fn only(endpoints: &[Endpoint]) -> Result<(Self, Vec<ServerName>), GuestError> {
        let (order, seats) = resolve(endpoints).await?;
        Ok((
            Self {
                named: seats.keys().cloned().collect(),
                seats,
                follow: false,
                tried: BTreeSet::new(),
            },
            order,
        ))
    }

    /// Adds a server that is to join; the name under which it is known from now on.
    pub async fn add(&mut self, endpoint: &Endpoint) -> Result<ServerName, GuestError> {
        let (order, seats) = resolve(std::slice::from_ref(endpoint)).await?;
        for (name, known) in seats {
            self.named.insert(name.clone());
            self.seats.entry(name).or_insert(known);
        }
        order
            .into_iter()
            .next()
            .ok_or_else(|| GuestError::NoAddress {
                endpoint: endpoint.clone(),
            })
    }
}

impl Guest {
    /// Adds the members that are listed but do not yet speak.
    fn find_peers(&mut self, heard: &[(ServerName, NodeView)], speaking: &BTreeSet<NodeId>) {
        for row in heard
            .iter()
            .flat_map(|(_, view)| view.peers())
            .filter(|r| usable(r))
        {
            if !speaking.contains(&row.id) {
                let known = Known {
                    address: row.address.clone(),
                    id: Some(row.id),
                };
                self.seats
                    .entry(ServerName(row.address.to_string()))
                    .or_insert(known);
            }
        }
    }

    /// Takes away the servers that have left: nobody lists what is at their address, and they know nobody or are
    /// silent. Where nobody speaks at all, nothing is known of who has left.
    fn drop_leavers(&mut self, heard: &[(ServerName, NodeView)]) {
        if heard.is_empty() {
            return;
        }
        let named = &self.named;
        self.seats.retain(|name, known| {
            let view = heard.iter().find(|(n, _)| n == name).map(|(_, v)| v);
            let knows = view.is_some_and(|v| v.peers().next().is_some());
            let mut rows = heard.iter().flat_map(|(_, other)| other.peers());
            let listed =
                rows.any(|r| known.id == Some(r.id) || r.address.same_socket(&known.address));
            knows || listed || named.contains(name)
        });
    }

    /// A member may be reached at another address than the one it announces (`localhost`, a second interface).
    /// Where the announced one leads to the same process, that is its address. Where it does not, the others have
    /// an old one, and the one it was reached at counts.
    fn use_announced_addresses(&mut self, heard: &[(ServerName, NodeView)]) {
        for (name, view) in heard {
            let listed: BTreeSet<&Address> = heard
                .iter()
                .filter(|(_, other)| other.id != view.id)
                .filter_map(|(_, other)| other.rows.get(view.id))
                .filter(|row| usable(row))
                .map(|row| &row.address)
                .collect();
            let Some(known) = self.seats.get(name) else {
                continue;
            };
            if listed.is_empty() || listed.iter().any(|a| a.same_socket(&known.address)) {
                continue;
            }
            let known_port = known.address.port;
            for address in listed {
                let alias = ServerName(address.to_string());
                let there = heard.iter().find(|(n, _)| *n == alias).map(|(_, v)| v);
                let same =
                    there.is_some_and(|v| v.id == view.id && v.server.run_id == view.server.run_id);
                if same {
                    self.seats.remove(name);
                } else if !self.tried.insert(alias.clone()) {
                    // What it announces stays a server of it that is not heard: clients are sent there.
                    let announced = view
                        .own()
                        .is_some_and(|own| own.address.port == address.port);
                    match self.seats.get_mut(&alias) {
                        Some(seat)
                            if announced && address.port != known_port && there.is_none() =>
                        {
                            seat.id = Some(view.id);
                        }
                        Some(_) | None => {
                            self.seats.remove(&alias);
                        }
                    }
                } else {
                    self.seats.entry(alias).or_insert(Known {
                        address: address.clone(),
                        id: None,
                    });
                }
            }
        }
    }
}

/// Whether a row tells where its node is reached.
fn usable(row: &Row) -> bool {
    !row.flags.has(Flags::NOADDR) && row.address.port != 0 && row.address.host != Host::Unstated
}

async fn resolve(
    endpoints: &[Endpoint],
) -> Result<(Vec<ServerName>, BTreeMap<ServerName, Known>), GuestError> {
    let mut seats = BTreeMap::new();
    let mut order: Vec<(ServerName, Endpoint)> = Vec::new();
    for endpoint in endpoints {
        let named = |source| GuestError::Name {
            endpoint: endpoint.clone(),
            source,
        };
        let mut found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(named)?;
        let socket = found.next().ok_or_else(|| GuestError::NoAddress {
            endpoint: endpoint.clone(),
        })?;
        let address = Address::new(Host::Ip(socket.ip()), endpoint.port);
        let name = ServerName(address.to_string());
        if let Some((_, first)) = order.iter().find(|(known, _)| *known == name) {
            return Err(GuestError::Same {
                first: first.clone(),
                second: endpoint.clone(),
            });
        }
        order.push((name.clone(), endpoint.clone()));
        seats.insert(name, Known { address, id: None });
    }
    Ok((order.into_iter().map(|(name, _)| name).collect(), seats))
}

#[async_trait]
impl Runtime for Guest {
    async fn seats(&mut self, _now: Timestamp) -> Result<Vec<Seat>, RuntimeError> {
        let seat = |(name, known): (&ServerName, &Known)| Seat {
            name: name.clone(),
            address: Seen::Known(known.address.clone()),
            place: Place {
                host: Some(known.address.host.to_string()),
                ..Place::default()
            },
            process: Process::Unknown,
            starter: Starter::Step,
            leaving: false,
            disk: Seen::Unknown(Why::NotAsked),
            disk_row: None,
            start_failure: None,
            recorded_id: known.id,
            outdated: None,
        };
        Ok(self.seats.iter().map(seat).collect())
    }

    fn formed(&self) -> Option<Formed> {
        None
    }

    async fn learn(&mut self, heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError> {
        // What lives at an address is what answers there; what others said of it is only where to look.
        for (name, view) in heard {
            if let Some(known) = self.seats.get_mut(name) {
                known.id = Some(view.id);
                // A person names a port for clients; the node's own row says where its bus listens (`cluster-port`).
                let bus = view.own().map(|own| own.address.bus_port);
                known.address.bus_port = bus.filter(|p| *p != 0).unwrap_or(known.address.bus_port);
            }
        }
        if self.follow {
            let speaking: BTreeSet<NodeId> = heard.iter().map(|(_, v)| v.id).collect();
            self.find_peers(heard, &speaking);
            self.use_announced_addresses(heard);
            self.drop_leavers(heard);
        }
        Ok(())
    }

    async fn start(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        Err(RuntimeError::new(format!(
            "{server} is not ours to start; start it where it runs"
        )))
    }

    async fn start_afresh(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.start(server).await
    }

    async fn recreate(&mut self, server: &ServerName, _host: &str) -> Result<(), RuntimeError> {
        Err(RuntimeError::new(format!(
            "{server} is not ours to make anew"
        )))
    }

    async fn remove(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        Err(RuntimeError::new(format!(
            "{server} is not ours to take away; stop it where it runs"
        )))
    }

    async fn record_formed(&mut self, _now: Timestamp) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn record_members(
        &mut self,
        _nodes: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn woken(&mut self) {
        std::future::pending::<()>().await;
    }
}
