//! Which connections there are, and who gives way when there are too many.
//!
//! A connection is anonymous until a valid token came over it; where there are no tokens, until it asked something that it may
//! ask. Anonymous connections have few places and end after some seconds, so that the other places stay for those who have
//! shown a token. A new connection that finds no place takes that of an anonymous one: the oldest of the network that has
//! most of them, so that whoever opens many loses their own.

use crate::limits::Limits;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a new connection may keep its place from others of its own network. Without it a burst of honest clients would
/// end each other just before their first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What is counted as one peer. A subscriber of IPv6 has a network of 64 bits, and all addresses in it.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

/// What a new connection found full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Anonymous,
    Peer,
}

impl Full {
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
            Self::All => format!("all {} connections are taken", limits.connections),
            Self::Anonymous => {
                format!("{} connections have shown no token, the most that there may be", limits.anonymous_connections)
            }
            Self::Peer => {
                format!("it has {} connections, the most that one peer may have", limits.connections_per_peer)
            }
        }
    }
}

/// All connections, counted.
pub(super) struct Connections {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Number of the next connection.
    next: u64,
    all: usize,
    anonymous: usize,
    networks: HashMap<IpAddr, Network>,
}

#[derive(Default)]
struct Network {
    all: usize,
    /// By number, so that the oldest is the first.
    anonymous: BTreeMap<u64, Anonymous>,
}

struct Anonymous {
    address: IpAddr,
    since: Instant,
    cut: CancellationToken,
}

/// One connection's entry among all.
pub(super) struct Seat {
    number: u64,
    pub(super) network: IpAddr,
    pub(super) cut: CancellationToken,
    proven: AtomicBool,
    connections: Arc<Connections>,
}

/// A connection's place; free again when dropped.
pub(super) struct Place(pub(super) Arc<Seat>);

/// A place, and whose it was: the address of the connection that gave way, and what was full.
pub(super) struct Entered {
    pub(super) place: Place,
    pub(super) instead_of: Option<(IpAddr, Full)>,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { limits: limits.clone(), counts: Mutex::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection.
    ///
    /// # Errors
    /// What is full, where nobody gives way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Entered, Full> {
        let network = network(address);
        let mut counts = self.counts();
        let mut instead_of = None;
        if counts.networks.get(&network).is_some_and(|own| own.all >= self.limits.connections_per_peer) {
            let gone = counts.end_own(network, now).ok_or(Full::Peer)?;
            instead_of = Some((gone, Full::Peer));
        }
        if let Some(full) = counts.is_full(&self.limits) {
            let gone = counts.end_one(network, now).ok_or(full)?;
            instead_of = Some((gone, full));
        }
        let (number, cut) = (counts.next, CancellationToken::new());
        counts.next += 1;
        counts.all += 1;
        counts.anonymous += 1;
        let own = counts.networks.entry(network).or_default();
        own.all += 1;
        own.anonymous.insert(number, Anonymous { address, since: now, cut: cut.clone() });
        let seat = Seat { number, network, cut, proven: AtomicBool::new(false), connections: self.clone() };
        Ok(Entered { place: Place(Arc::new(seat)), instead_of })
    }
}

impl Counts {
    fn is_full(&self, limits: &Limits) -> Option<Full> {
        if self.all >= limits.connections {
            return Some(Full::All);
        }
        (self.anonymous >= limits.anonymous_connections).then_some(Full::Anonymous)
    }

    /// Ends an anonymous connection for a new one of `network`.
    fn end_one(&mut self, network: IpAddr, now: Instant) -> Option<IpAddr> {
        let crowd = |network: &Network| {
            let oldest = *network.anonymous.first_key_value()?.0;
            Some((network.anonymous.len(), std::cmp::Reverse(oldest)))
        };
        let crowds = self.networks.iter().filter_map(|(address, network)| Some((crowd(network)?, *address)));
        let ((most, _), crowded) = crowds.max_by_key(|(crowd, _)| *crowd)?;
        let own = self.networks.get(&network).map_or(0, |own| own.anonymous.len());
        if own >= most { self.end_own(network, now) } else { self.end_oldest(crowded) }
    }

    /// Ends the oldest anonymous connection of the network itself, once it had its time.
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

    /// Takes a connection off the anonymous ones; tells whether it was there.
    fn unlist(&mut self, seat: &Seat) -> bool {
        let own = self.networks.get_mut(&seat.network);
        let was = own.is_some_and(|own| own.anonymous.remove(&seat.number).is_some());
        self.anonymous -= usize::from(was);
        was
    }
}

impl Seat {
    /// A valid token came over the connection, or none is needed here: the connection may stay.
    pub(super) fn prove(&self) {
        if self.is_proven() {
            return;
        }
        let mut counts = self.connections.counts();
        // Of one that has given way, or is over, nothing is counted any more.
        if counts.unlist(self) {
            self.proven.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = &self.0;
        let mut counts = seat.connections.counts();
        if counts.unlist(seat) || seat.is_proven() {
            counts.leave(seat.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(connections: usize, anonymous_connections: usize, connections_per_peer: usize) -> Arc<Connections> {
        let limits = Limits { connections, anonymous_connections, connections_per_peer, ..Limits::default() };
        Connections::new(&limits)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn enter(connections: &Arc<Connections>, last: u8, now: Instant) -> Result<Place, Full> {
        connections.enter(address(last), now).map(|entered| entered.place)
    }

    fn is_cut(place: &Place) -> bool {
        place.0.cut.is_cancelled()
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("192.0.2.7"), address(7));
        let (connections, now) = (connections(10, 10, 2), Instant::now());
        let enter = |last: &str| connections.enter(last.parse().unwrap(), now).map(|entered| entered.place);
        let _held = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert_eq!(enter("2001:db8::3").err(), Some(Full::Peer));
        assert!(enter("2001:db8:0:1::3").is_ok());
    }

    #[test]
    fn who_opens_many_gives_way_to_others() {
        let (connections, now) = (connections(10, 4, 10), Instant::now());
        let flood: Vec<Place> = (0..4).map(|_| enter(&connections, 1, now).unwrap()).collect();
        // Their own network's have a second for their first request.
        assert_eq!(enter(&connections, 1, now).err(), Some(Full::Anonymous));
        let _other = enter(&connections, 2, now).unwrap();
        assert_eq!(flood.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false, false]);
        let entered = connections.enter(address(1), now + FIRST_REQUEST).unwrap();
        assert_eq!(entered.instead_of, Some((address(1), Full::Anonymous)));
        assert_eq!(flood.iter().map(is_cut).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn places_are_kept_for_those_who_have_shown_a_token() {
        let (connections, now) = (connections(5, 2, 5), Instant::now());
        let proven: Vec<Place> = (0..3)
            .map(|_| {
                let place = enter(&connections, 1, now).unwrap();
                place.0.prove();
                place
            })
            .collect();
        let _anonymous = [enter(&connections, 2, now).unwrap(), enter(&connections, 2, now).unwrap()];
        assert_eq!(enter(&connections, 2, now).err(), Some(Full::All));
        // However many come, those who are proven stay.
        let newer = enter(&connections, 1, now).unwrap();
        newer.0.prove();
        let newest = enter(&connections, 3, now).unwrap();
        newest.0.prove();
        assert!(!proven.iter().chain([&newer, &newest]).any(is_cut));
        assert_eq!(enter(&connections, 4, now + FIRST_REQUEST).err(), Some(Full::All));
        drop(newest);
        assert!(enter(&connections, 4, now).is_ok());
    }

    #[test]
    fn every_place_is_given_back_once() {
        let (connections, now) = (connections(3, 2, 3), Instant::now());
        for last in 0..20 {
            let (one, two) = (enter(&connections, last, now).unwrap(), enter(&connections, last, now).unwrap());
            // The third takes the first one's place.
            let three = enter(&connections, last + 1, now).unwrap();
            assert!(is_cut(&one));
            one.0.prove();
            assert!(!one.0.is_proven());
            two.0.prove();
            two.0.prove();
            drop((one, two));
            // Over: too late to prove anything.
            let seat = three.0.clone();
            drop(three);
            seat.prove();
            assert!(!seat.is_proven());
        }
        let counts = connections.counts();
        assert_eq!((counts.all, counts.anonymous, counts.networks.len()), (0, 0, 0));
    }
}
