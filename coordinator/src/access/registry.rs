//! All connections, and which of them gives way when there are too many.
//!
//! A connection is anonymous until a valid token came over it or, without access control, until its first acceptable
//! request. Anonymous connections have few permits and end after some seconds, so that most permits are left for those who
//! have shown a token. If none is free, a new connection replaces an anonymous one: the oldest of the network that has the
//! most of them, so that whoever opens many connections loses their own.

use crate::limits::Limits;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The time during which a new connection is not replaced by another of its own network. Without it a burst of honest
/// clients would end each other's connections just before their first requests.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Returns what counts as one peer: an IPv4 address, or the network of 64 bits that a subscriber of IPv6 has.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

/// A limit that a new connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullLimit {
    All,
    Anonymous,
    Peer,
}

impl FullLimit {
    /// The limit's name.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Anonymous => "anonymous_connections",
            Self::Peer => "connections_per_peer",
        }
    }

    pub(super) fn message(self, limits: &Limits) -> String {
        match self {
            Self::All => format!("{} connections are open, the most that there may be", limits.connections),
            Self::Anonymous => {
                format!("{} connections have shown no token, the most that there may be", limits.anonymous_connections)
            }
            Self::Peer => {
                format!("the peer has {} connections, the most that one may have", limits.connections_per_peer)
            }
        }
    }
}

/// Counts all connections and decides which may stay.
pub(super) struct ConnectionRegistry {
    limits: Limits,
    counts: Mutex<ConnectionCounts>,
}

#[derive(Default)]
struct ConnectionCounts {
    /// The number of the next connection.
    next: u64,
    all: usize,
    anonymous: usize,
    networks: HashMap<IpAddr, NetworkConnections>,
}

#[derive(Default)]
struct NetworkConnections {
    all: usize,
    /// The anonymous connections by number, so that the oldest is the first.
    anonymous: BTreeMap<u64, AnonymousConnection>,
}

struct AnonymousConnection {
    address: IpAddr,
    since: Instant,
    cut: CancellationToken,
}

/// A connection in the registry.
pub(super) struct ConnectionEntry {
    number: u64,
    pub(super) network: IpAddr,
    pub(super) cut: CancellationToken,
    proven: AtomicBool,
    connections: Arc<ConnectionRegistry>,
}

/// A connection's permit, which is free again when dropped.
pub(super) struct ConnectionPermit(pub(super) Arc<ConnectionEntry>);

/// The permit of a new connection. If another connection gave way, also its address and the limit that was reached.
pub(super) struct Entered {
    pub(super) permit: ConnectionPermit,
    pub(super) instead_of: Option<(IpAddr, FullLimit)>,
}

impl ConnectionRegistry {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { limits: limits.clone(), counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, ConnectionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new connection.
    ///
    /// # Errors
    /// The limit that is reached, if no connection gives way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Entered, FullLimit> {
        let network = network(address);
        let mut counts = self.counts();
        let mut instead_of = None;
        if counts.networks.get(&network).is_some_and(|own| own.all >= self.limits.connections_per_peer) {
            let ended = counts.end_own(network, now).ok_or(FullLimit::Peer)?;
            instead_of = Some((ended, FullLimit::Peer));
        }
        if let Some(full) = counts.full_limit(&self.limits) {
            let ended = counts.end_one(network, now).ok_or(full)?;
            instead_of = Some((ended, full));
        }
        let number = counts.next;
        let cut = CancellationToken::new();
        counts.next += 1;
        counts.all += 1;
        counts.anonymous += 1;
        let own = counts.networks.entry(network).or_default();
        own.all += 1;
        own.anonymous.insert(number, AnonymousConnection { address, since: now, cut: cut.clone() });
        let entry = ConnectionEntry { number, network, cut, proven: AtomicBool::new(false), connections: self.clone() };
        Ok(Entered { permit: ConnectionPermit(Arc::new(entry)), instead_of })
    }
}

impl ConnectionCounts {
    fn full_limit(&self, limits: &Limits) -> Option<FullLimit> {
        if self.all >= limits.connections {
            return Some(FullLimit::All);
        }
        (self.anonymous >= limits.anonymous_connections).then_some(FullLimit::Anonymous)
    }

    /// Ends an anonymous connection in favour of a new one of `network`. Returns the address of the ended one.
    fn end_one(&mut self, network: IpAddr, now: Instant) -> Option<IpAddr> {
        let crowd = |network: &NetworkConnections| {
            let oldest = *network.anonymous.first_key_value()?.0;
            Some((network.anonymous.len(), std::cmp::Reverse(oldest)))
        };
        let crowds = self.networks.iter().filter_map(|(address, network)| Some((crowd(network)?, *address)));
        let ((most, _), crowded) = crowds.max_by_key(|(crowd, _)| *crowd)?;
        let own = self.networks.get(&network).map_or(0, |own| own.anonymous.len());
        if own >= most { self.end_own(network, now) } else { self.end_oldest(crowded) }
    }

    /// Ends the oldest anonymous connection of the network itself, unless it is too new.
    fn end_own(&mut self, network: IpAddr, now: Instant) -> Option<IpAddr> {
        let (_, oldest) = self.networks.get(&network)?.anonymous.first_key_value()?;
        if now.duration_since(oldest.since) < FIRST_REQUEST {
            return None;
        }
        self.end_oldest(network)
    }

    fn end_oldest(&mut self, network: IpAddr) -> Option<IpAddr> {
        let (_, oldest) = self.networks.get_mut(&network)?.anonymous.pop_first()?;
        self.anonymous -= 1;
        self.leave(network);
        oldest.cut.cancel();
        Some(oldest.address)
    }

    fn leave(&mut self, network: IpAddr) {
        self.all -= 1;
        if let Some(own) = self.networks.get_mut(&network) {
            own.all -= 1;
            if own.all == 0 {
                self.networks.remove(&network);
            }
        }
    }

    /// Removes a connection from the anonymous ones. Returns whether it was one.
    fn unlist(&mut self, entry: &ConnectionEntry) -> bool {
        let own = self.networks.get_mut(&entry.network);
        let was = own.is_some_and(|own| own.anonymous.remove(&entry.number).is_some());
        self.anonymous -= usize::from(was);
        was
    }
}

impl ConnectionEntry {
    /// Lets the connection stay: a valid token came over it, or there is no access control.
    pub(super) fn prove(&self) {
        if self.is_proven() {
            return;
        }
        let mut counts = self.connections.counts();
        // A connection that has given way, or has ended, is no longer counted.
        if counts.unlist(self) {
            self.proven.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let entry = &self.0;
        let mut counts = entry.connections.counts();
        if counts.unlist(entry) || entry.is_proven() {
            counts.leave(entry.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(
        connections: usize,
        anonymous_connections: usize,
        connections_per_peer: usize,
    ) -> Arc<ConnectionRegistry> {
        let limits = Limits { connections, anonymous_connections, connections_per_peer, ..Limits::default() };
        ConnectionRegistry::new(&limits)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn enter(connections: &Arc<ConnectionRegistry>, last: u8, now: Instant) -> Result<ConnectionPermit, FullLimit> {
        connections.enter(address(last), now).map(|entered| entered.permit)
    }

    fn is_cut(permit: &ConnectionPermit) -> bool {
        permit.0.cut.is_cancelled()
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("192.0.2.7"), address(7));
        let connections = connections(10, 10, 2);
        let now = Instant::now();
        let enter = |last: &str| connections.enter(last.parse().unwrap(), now).map(|entered| entered.permit);
        let _held = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert_eq!(enter("2001:db8::3").err(), Some(FullLimit::Peer));
        assert!(enter("2001:db8:0:1::3").is_ok());
    }

    #[test]
    fn a_network_that_opens_many_connections_loses_its_own() {
        let connections = connections(10, 4, 10);
        let now = Instant::now();
        let flood: Vec<ConnectionPermit> = (0..4).map(|_| enter(&connections, 1, now).unwrap()).collect();
        // Connections of the same network have a second for their first request.
        assert_eq!(enter(&connections, 1, now).err(), Some(FullLimit::Anonymous));
        let _other = enter(&connections, 2, now).unwrap();
        assert_eq!(flood.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false, false]);
        let entered = connections.enter(address(1), now + FIRST_REQUEST).unwrap();
        assert_eq!(entered.instead_of, Some((address(1), FullLimit::Anonymous)));
        assert_eq!(flood.iter().map(is_cut).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn permits_are_kept_for_those_who_have_shown_a_token() {
        let connections = connections(5, 2, 5);
        let now = Instant::now();
        let proven: Vec<ConnectionPermit> = (0..3)
            .map(|_| {
                let permit = enter(&connections, 1, now).unwrap();
                permit.0.prove();
                permit
            })
            .collect();
        let _anonymous = [enter(&connections, 2, now).unwrap(), enter(&connections, 2, now).unwrap()];
        assert_eq!(enter(&connections, 2, now).err(), Some(FullLimit::All));
        // Proven connections stay, however many others come.
        let newer = enter(&connections, 1, now).unwrap();
        newer.0.prove();
        let newest = enter(&connections, 3, now).unwrap();
        newest.0.prove();
        assert!(!proven.iter().chain([&newer, &newest]).any(is_cut));
        assert_eq!(enter(&connections, 4, now + FIRST_REQUEST).err(), Some(FullLimit::All));
        drop(newest);
        assert!(enter(&connections, 4, now).is_ok());
    }

    #[test]
    fn every_permit_is_given_back_once() {
        let connections = connections(3, 2, 3);
        let now = Instant::now();
        for last in 0..20 {
            let one = enter(&connections, last, now).unwrap();
            let two = enter(&connections, last, now).unwrap();
            // The third replaces the first.
            let three = enter(&connections, last + 1, now).unwrap();
            assert!(is_cut(&one));
            one.0.prove();
            assert!(!one.0.is_proven());
            two.0.prove();
            two.0.prove();
            drop((one, two));
            // It has ended: too late to prove anything.
            let entry = three.0.clone();
            drop(three);
            entry.prove();
            assert!(!entry.is_proven());
        }
        let counts = connections.counts();
        assert_eq!((counts.all, counts.anonymous, counts.networks.len()), (0, 0, 0));
    }
}
