//! Connections that say nothing, end at once, read nothing, or fall silent.

use crate::{MANY, PATIENCE, assert_bounded, assert_served, http2};
use nadgrid_proto::access::Secret;
use nadgrid_tests::Cluster;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tokio::net::TcpSocket;

/// Connections that say nothing, from another address than those who have something to say.
#[tokio::test]
async fn ten_thousand_silent_connections() {
    let mut cluster = Cluster::start(&["--limit", "first_request_seconds=2", "--limit", "connections_per_peer=500"]);
    let to = cluster.address().parse().unwrap();
    let mut silent = Vec::new();
    while silent.len() < MANY {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        match socket.connect(to).await {
            Ok(stream) => silent.push(stream),
            // This process may have fewer open files than it would like.
            Err(_) if silent.len() > 600 => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_served(&cluster, &[]);
    // Whoever says nothing is shown out, the first as the last.
    for stream in [silent.remove(0), silent.pop().unwrap()] {
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_closed(&mut stream);
    }
    assert_bounded(&mut cluster);
    assert_eq!(cluster.logs().matches("connections_per_peer").count(), 1, "{}", cluster.logs());
}

/// Reads until the other side has closed; a timeout fails.
fn assert_closed(stream: &mut TcpStream) {
    match std::io::copy(stream, &mut std::io::sink()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// A connection from an address of this machine.
async fn connection_from(cluster: &Cluster, address: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{address}:0").parse().unwrap())?;
    let stream = socket.connect(cluster.address().parse().unwrap()).await?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks over HTTP/1.1, with ada's token where there are tokens, and returns the beginning of the answer.
fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ada\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Health checks need no token: those who ask nothing else share few places, and keep them for some seconds only.
#[tokio::test]
async fn health_checks_leave_the_places_to_those_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, ada) = (folder.path().join("tokens.toml"), folder.path().join("ada"));
    let hash = Secret::new("ada").digest();
    std::fs::write(&tokens, format!("[[token]]\nname = 'ada'\nrole = 'user'\nblake3 = '{hash}'\n")).unwrap();
    std::fs::write(&ada, "ada").unwrap();
    let limits = ["connections=40", "connections_per_peer=30", "anonymous_connections=10", "first_request_seconds=3"];
    let limits = limits.iter().flat_map(|limit| ["--limit", limit]);
    let flags: Vec<&str> = ["--tokens", tokens.to_str().unwrap()].into_iter().chain(limits).collect();
    let cluster = Cluster::start(&flags);
    let mut named = connection_from(&cluster, "127.0.0.4").await.unwrap();
    assert!(ask(&mut named, "/api/about").unwrap().starts_with("HTTP/1.1 200"));
    let check = [http2::hello(), http2::call(1, "/grpc.health.v1.Health/Check"), http2::empty_message(1)].concat();
    let mut anonymous = Vec::new();
    for address in ["127.0.0.2", "127.0.0.3"] {
        for _ in 0..30 {
            let mut stream = connection_from(&cluster, address).await.unwrap();
            // Those who find no place are closed at once.
            let asked = stream.write_all(&check).and_then(|()| stream.read_exact(&mut [0; 9]));
            if asked.is_ok() {
                anonymous.push(stream);
            }
        }
    }
    assert!(anonymous.len() >= 10, "only {} were let in", anonymous.len());
    assert_served(&cluster, &["--token-file", ada.to_str().unwrap()]);
    anonymous.iter_mut().for_each(assert_closed);
    // One that has shown its token stays.
    assert!(ask(&mut named, "/api/about").unwrap().starts_with("HTTP/1.1 200"));
}

/// Connections that are over at once, one after the other: nothing of them is kept.
#[test]
fn short_connections_leave_nothing() {
    let mut cluster = Cluster::start(&[]);
    assert_served(&cluster, &[]);
    let before = cluster.coordinator().peak_memory();
    for _ in 0..2 * MANY {
        let mut stream = TcpStream::connect(cluster.address()).unwrap();
        stream.write_all(&http2::hello()).unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
    }
    let more = cluster.coordinator().peak_memory() - before;
    assert!(more < 64 << 20, "{} MB more", more >> 20);
    assert_served(&cluster, &[]);
}

/// Somebody asks for much over HTTP/1.1 and reads nothing of it: the connection ends.
#[test]
fn whoever_takes_nothing_loses_the_connection() {
    let cluster = Cluster::start(&["--limit", "silence_seconds=0.5"]);
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let request = b"GET /page/app.js HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // Until the coordinator takes no more, since nobody takes its answers.
    while stream.write_all(request).is_ok() {}
    cluster.wait_for_log("does not read what it asked for");
    assert_served(&cluster, &[]);
}

/// A reader of events over HTTP/1.1 that has stopped: its system takes them for it, and its place is free all the same.
#[test]
fn a_paused_reader_of_events_gives_its_place_up() {
    let cluster = Cluster::start(&["--limit", "watchers=1", "--limit", "silence_seconds=0.3"]);
    let connect = || {
        let stream = TcpStream::connect(cluster.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut paused = connect();
    assert!(ask(&mut paused, "/api/events").unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(&mut connect(), "/api/events").unwrap().starts_with("HTTP/1.1 429"));
    let started = std::time::Instant::now();
    while !ask(&mut connect(), "/api/events").unwrap().starts_with("HTTP/1.1 200") {
        assert!(started.elapsed() < PATIENCE, "the paused reader still has its place");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Pings that answer none, which the library warns of each time: one line.
#[test]
fn a_flood_does_not_fill_the_log() {
    let cluster = Cluster::start(&[]);
    for _ in 0..10 {
        let flood = http2::raw(&cluster);
        // An answer to a ping that was never sent, and the protocol's errors.
        http2::pour(&flood, (0..100).map(|_| http2::frame(http2::PING, 0x1, 0, &[0; 8])));
        drop(flood);
    }
    assert_served(&cluster, &[]);
    cluster.wait_for_log("PING");
    assert_eq!(cluster.logs().matches("PING").count(), 1, "{}", cluster.logs());
}

/// A peer that was served once and then neither speaks nor answers pings: as a machine that has lost its power.
#[test]
fn a_half_open_connection_ends() {
    let cluster = Cluster::start(&["--limit", "keepalive_seconds=1"]);
    let mut peer = TcpStream::connect(cluster.address()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let check = [http2::hello(), http2::call(1, "/grpc.health.v1.Health/Check"), http2::empty_message(1)].concat();
    peer.write_all(&check).unwrap();
    let mut first = [0; 9];
    peer.read_exact(&mut first).unwrap();
    assert_eq!(first[3], http2::SETTINGS);
    assert_closed(&mut peer);
    // One that asked nothing, and has closed its side.
    let mut peer = TcpStream::connect(cluster.address()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_closed(&mut peer);
}
