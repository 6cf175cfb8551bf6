use super::*;
use futures::FutureExt;

fn places(places: usize) -> TransferPlaces {
    TransferPlaces::new(PlaceBounds { places, each: 1, bytes: 1000 }, PlaceSettings::PARTIALS)
}

fn offer(caller: &str) -> TransferOffer {
    TransferOffer { caller: caller.into(), sweep: Some(SweepId::new("s")), size: 10 }
}

fn is_granted(ticket: &mut TransferTicket) -> bool {
    ticket.granted().now_or_never().is_some()
}

#[test]
fn a_dropped_ticket_gives_its_place_to_the_next() {
    let places = places(1);
    let mut first = places.offer(offer("a"));
    let second = places.offer(offer("b"));
    let mut third = places.offer(offer("c"));
    assert!(is_granted(&mut first) && !is_granted(&mut third));
    // Granted to one that is dropped before it hears of it.
    drop(first);
    drop(second);
    assert!(is_granted(&mut third));
    drop(third);
    assert_eq!(places.by_caller(), HashMap::new());
    assert!(places.lock().callers.is_empty());
}

#[test]
fn what_waits_is_told_with_its_reason() {
    let places = places(1);
    let _held = places.offer(offer("a"));
    let _waits = [places.offer(offer("b")), places.offer(offer("b")), places.offer(offer("c"))];
    let sweep = SweepId::new("s");
    assert_eq!(places.notices(&sweep), Vec::<String>::new(), "it has only begun");
    wait_long(&places);
    let told =
        "3 results wait to be transferred, the first for 5.0 s (2 workers): all 1 places are taken; raise uploads";
    assert_eq!(places.notices(&sweep), [told]);
    assert_eq!(places.notices(&SweepId::new("other")), Vec::<String>::new());
    let of_b = places.by_caller()["b"];
    assert_eq!((of_b.waiting, of_b.moving), (2, 0));
    assert!(of_b.waited >= Duration::from_secs(5));
}

fn wait_long(places: &TransferPlaces) {
    let long_ago = Instant::now() - Duration::from_secs(5);
    places.lock().transfers.values_mut().for_each(|transfer| transfer.since = long_ago);
}

#[test]
fn a_notice_names_the_setting_that_is_short() {
    let kinds = [(PlaceSettings::PARTIALS, "raise uploads"), (PlaceSettings::DIRECT, "raise limits.direct_uploads")];
    for (settings, words) in kinds {
        let places = TransferPlaces::new(PlaceBounds { places: 1, each: 1, bytes: 1000 }, settings);
        let _tickets = [places.offer(offer("a")), places.offer(offer("b"))];
        wait_long(&places);
        let notices = places.notices(&SweepId::new("s"));
        assert!(notices.len() == 1 && notices[0].ends_with(words), "{notices:?}");
    }
}

#[test]
fn a_caller_is_known_until_its_last_ticket_is_dropped() {
    let places = places(2);
    let first = places.offer(offer("a"));
    let second = places.offer(offer("a"));
    drop(second);
    first.moved(1000);
    assert!(places.by_caller()["a"].bytes_per_second > 0.0);
    drop(first);
    assert!(places.lock().callers.is_empty());
}

#[test]
fn trouble_that_lasts_is_told_however_many_sweeps_have_some() {
    let places = places(1);
    let name = |number: usize| SweepId::new(format!("sweep {number}"));
    (0..MAX_TROUBLES).for_each(|number| places.refused(&name(number), "no space left".to_owned()));
    places.refused(&name(MAX_TROUBLES), "one too many".to_owned());
    places.refused(&name(0), "still none".to_owned());
    assert!(places.notices(&name(0))[0].contains("still none"));
    assert!(places.notices(&name(MAX_TROUBLES)).is_empty());
}

#[test]
fn a_store_that_takes_nothing_is_told_until_it_takes_something() {
    let places = places(1);
    let sweep = SweepId::new("s");
    places.refused(&sweep, "no space left".to_owned());
    let notices = places.notices(&sweep);
    assert!(notices.len() == 1 && notices[0].contains("no space left"), "{notices:?}");
    places.stored(&sweep);
    assert_eq!(places.notices(&sweep), Vec::<String>::new());
}
