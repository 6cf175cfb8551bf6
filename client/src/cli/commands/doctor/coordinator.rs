//! The coordinator that is named, or else the port where one would listen.

use super::Finding;
use nadgrid_client::{Address, Client, Error, Probe, VERSION};
use nadgrid_core::text::duration;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

/// The address where a coordinator listens by default.
const DEFAULT: &str = "127.0.0.1:7400";
/// Clocks that differ by less are taken as equal: the answer's clock is to the second.
const CLOCK: Duration = Duration::from_secs(5);

/// Asks a coordinator.
pub(super) async fn named(at: &Address) -> Vec<Finding> {
    let answer = async { Client::connect(at).await?.probe().await };
    match answer.await {
        Ok(probe) => answered(&at.url, &probe, SystemTime::now()),
        Err(error) => vec![refused(&at.url, &error)],
    }
}

/// Whether a coordinator could listen where it does by default, or does already.
pub(super) async fn port() -> Vec<Finding> {
    match TcpListener::bind(DEFAULT) {
        Ok(_) => vec![Finding::ok("port", format!("{DEFAULT} is free"))],
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let answer = async { Client::connect(DEFAULT).await?.probe().await };
            vec![in_use(answer.await.as_ref().err())]
        }
        Err(e) => vec![Finding::warning(
            "port",
            format!("{DEFAULT}: {e}"),
            "start a coordinator elsewhere with --listen HOST:PORT",
        )],
    }
}

fn in_use(error: Option<&Error>) -> Finding {
    let step = "start a coordinator elsewhere with --listen 127.0.0.1:PORT, and name it with --coordinator";
    match error {
        None => Finding::ok("port", format!("a coordinator answers on {DEFAULT}")),
        Some(Error::Denied { .. }) => {
            Finding::ok("port", format!("a coordinator answers on {DEFAULT} and requires a token"))
        }
        Some(_) => {
            Finding::warning("port", format!("{DEFAULT} is in use, and not by a coordinator on plain http"), step)
        }
    }
}

fn answered(url: &str, probe: &Probe, now: SystemTime) -> Vec<Finding> {
    let milliseconds = 1e3 * probe.round_trip.as_secs_f64();
    let mut findings = vec![
        Finding::ok("coordinator", format!("{url} answers in {milliseconds:.1} ms")),
        Finding::ok("access", "reading and submitting sweeps is allowed"),
    ];
    findings.push(match probe.version.as_deref() {
        Some(VERSION) => Finding::ok("its version", VERSION),
        Some(other) => Finding::warning(
            "its version",
            format!("{other}; nadgrid is {VERSION}"),
            "use a coordinator, workers and nadgrid from the same build",
        ),
        None => Finding::ok("its version", "known after its first sweep"),
    });
    findings.extend(probe.clock.map(|clock| clocks(clock, now)));
    findings
}

fn clocks(theirs: SystemTime, ours: SystemTime) -> Finding {
    let (apart, word) = match theirs.duration_since(ours) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart < CLOCK {
        return Finding::ok("its clock", "agrees with this machine's");
    }
    let message = format!("{} {word} this machine's", duration(apart.as_secs_f64()));
    Finding::warning(
        "its clock",
        message,
        "times and token expiry use the coordinator's clock: synchronise both machines by NTP",
    )
}

fn refused(url: &str, error: &Error) -> Finding {
    let told = error.to_string();
    match error {
        Error::Unreachable { .. } => Finding::problem(
            "coordinator",
            told,
            "is it running (`nadgrid-coordinator --data DIR`), is the address right, does a firewall block it?",
        ),
        Error::Denied { .. } | Error::Access(_) => {
            Finding::problem("access", told, "docs/security.md explains tokens and certificates")
        }
        _ => Finding::problem("coordinator", told, format!("is {url} a coordinator, of version {VERSION}?")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FindingLevel;
    use super::*;

    #[test]
    fn clocks_that_differ_are_a_warning() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert_eq!(clocks(now - Duration::from_secs(2), now).level, FindingLevel::Ok);
        let behind = clocks(now - Duration::from_secs(90), now);
        assert_eq!(
            (behind.level, behind.message.as_str()),
            (FindingLevel::Warning, "1 min 30 s behind this machine's")
        );
        assert!(clocks(now + Duration::from_secs(90), now).message.contains("ahead"));
    }

    #[test]
    fn what_a_coordinator_answers_is_judged() {
        let probe = Probe { round_trip: Duration::from_millis(2), clock: None, version: Some("0.0.0".into()) };
        let levels: Vec<FindingLevel> =
            answered("http://x", &probe, SystemTime::now()).iter().map(|it| it.level).collect();
        assert_eq!(levels, [FindingLevel::Ok, FindingLevel::Ok, FindingLevel::Warning]);
        let denied = || Error::Denied { url: "http://x".into(), message: "a token is needed".into() };
        let away = Error::Unreachable { url: "http://x".into(), reason: "refused".into() };
        assert_eq!((refused("x", &denied()).check, refused("x", &denied()).level), ("access", FindingLevel::Problem));
        assert_eq!((refused("x", &away).check, refused("x", &away).level), ("coordinator", FindingLevel::Problem));
        assert_eq!(
            (in_use(Some(&away)).level, in_use(Some(&denied())).level),
            (FindingLevel::Warning, FindingLevel::Ok)
        );
        assert_eq!(in_use(None).level, FindingLevel::Ok);
    }
}
