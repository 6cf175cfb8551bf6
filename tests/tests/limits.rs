//! Hostile and clumsy clients: none fills the coordinator, none keeps it from others.

mod peer;

use nadgrid_core::PROTOCOL_VERSION;
use nadgrid_core::ids::Digest;
use nadgrid_proto::access::Secret;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::upload_input_request::Part;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_proto::v1::{self};
use nadgrid_tests::Cluster;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

const SPEC: &str = "name = 'limits'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4";
/// As many as the issue asks for.
const MANY: usize = 10_000;
/// What a coordinator may have resident at most, whatever is done to it: a debug build with nothing to do has some 40 MB.
const MEMORY: u64 = 256 << 20;
/// Until something that must happen has happened.
const PATIENCE: Duration = Duration::from_secs(60);

async fn channel(cluster: &Cluster) -> Channel {
    Channel::from_shared(cluster.url.clone()).unwrap().connect().await.unwrap()
}

async fn sweeps(cluster: &Cluster) -> SweepServiceClient<Channel> {
    SweepServiceClient::new(channel(cluster).await)
}

async fn submit(cluster: &Cluster) -> Result<String, Status> {
    let request = v1::SubmitRequest { spec: SPEC.into(), ..Default::default() };
    Ok(sweeps(cluster).await.submit(request).await?.into_inner().sweep.unwrap().id)
}

/// Another client is served as if nothing were.
fn assert_served(cluster: &Cluster, flags: &[&str]) {
    cluster.nadgrid_ok(&[flags, &["list", "--json"]].concat());
}

fn assert_bounded(cluster: &mut Cluster) {
    let peak = cluster.coordinator().peak_memory();
    assert!(peak < MEMORY, "{} MB resident", peak >> 20);
}

/// HTTP/2 by hand, since libraries keep to what the server allows.
mod http2 {
    pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;

    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn literal(into: &mut Vec<u8>, name: &[u8], value: &str) {
        into.extend(name);
        into.push(value.len() as u8);
        into.extend(value.as_bytes());
    }

    /// The beginning of a gRPC call; the request is not ended.
    pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
        // POST and http are in the static table, as are the names of the three that follow.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "localhost");
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, b"\x00\x02te", "trailers");
        frame(HEADERS, 0x4, stream, &block)
    }

    /// Bytes of a request that goes on.
    pub(crate) fn part(stream: u32, bytes: &[u8]) -> Vec<u8> {
        frame(DATA, 0, stream, bytes)
    }

    /// Bytes of a request, and its end.
    pub(crate) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
        frame(DATA, 0x1, stream, bytes)
    }

    /// An empty message, and the end of the request.
    pub(crate) fn empty_message(stream: u32) -> Vec<u8> {
        frame(DATA, 0x1, stream, &[0; 5])
    }

    pub(crate) fn reset(stream: u32) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    }

    pub(crate) fn hello() -> Vec<u8> {
        [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
    }
}

/// A connection whose answers are read away.
fn raw(cluster: &Cluster) -> TcpStream {
    let socket = TcpStream::connect(cluster.address()).unwrap();
    let mut reader = socket.try_clone().unwrap();
    std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
    (&socket).write_all(&http2::hello()).unwrap();
    socket
}

/// Sends as much as the other side takes before it ends the connection.
fn pour(mut socket: &TcpStream, frames: impl Iterator<Item = Vec<u8>>) -> usize {
    frames.take_while(|frame| socket.write_all(frame).is_ok()).count()
}

/// Streams by hand on one connection, begun and never ended, and begun and reset at once.
#[test]
fn ten_thousand_streams_on_one_connection() {
    let mut cluster = Cluster::start(&[]);
    let ids = || (0..MANY as u32).map(|n| 2 * n + 1);
    for path in ["/nadgrid.v1.WorkerService/UploadPartial", "/nadgrid.v1.SweepService/List", "/no.such/Method"] {
        let open = raw(&cluster);
        pour(&open, ids().map(|id| http2::call(id, path)));
        assert_served(&cluster, &[]);
        let resetting = raw(&cluster);
        let sent = pour(&resetting, ids().map(|id| [http2::call(id, path), http2::reset(id)].concat()));
        assert!(sent > 0);
        assert_served(&cluster, &[]);
        drop((open, resetting));
    }
    assert_bounded(&mut cluster);
}

/// Calls that are begun and whose message never comes, more than one caller may have under way: they keep nobody waiting.
#[test]
fn calls_without_their_message_hold_no_place() {
    let cluster = Cluster::start(&[]);
    let begun = [raw(&cluster), raw(&cluster)];
    for (connection, method) in begun.iter().zip(["List", "Submit"]) {
        let calls = (0..200).map(|n| {
            let stream = 2 * n + 1;
            let path = format!("/nadgrid.v1.SweepService/{method}");
            [http2::call(stream, &path), http2::part(stream, b"\0\0\0\x01\0half")].concat()
        });
        assert_eq!(pour(connection, calls), 200);
    }
    let spec = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(spec.path(), SPEC).unwrap();
    // Sooner than those calls end, or this would be refused as late as they are.
    assert_served(&cluster, &[]);
    cluster.nadgrid_ok(&["submit", spec.path().to_str().unwrap()]);
}

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.roll() % most).map(|_| self.roll() as u8).collect()
    }
}

/// Every method of the contract, as its descriptors have them.
const METHODS: [&str; 17] = [
    "SweepService/Plan",
    "SweepService/UploadInput",
    "SweepService/Submit",
    "SweepService/Get",
    "SweepService/List",
    "SweepService/Watch",
    "SweepService/Cancel",
    "SweepService/Pause",
    "SweepService/Resume",
    "SweepService/Explain",
    "SweepService/Verify",
    "SweepService/ReadArtifact",
    "SweepService/ListWorkers",
    "WorkerService/Session",
    "WorkerService/ReadInput",
    "WorkerService/UploadPartial",
    "WorkerService/UploadCheckpoint",
];

/// Random bytes instead of HTTP/2, random frames behind a right preface, and random messages to every method.
#[test]
fn random_bytes_are_answered_or_cut_off() {
    let mut cluster = Cluster::start(&[]);
    let mut dice = Dice(1);
    for _ in 0..50 {
        let plain = TcpStream::connect(cluster.address()).unwrap();
        let _ = (&plain).write_all(&dice.bytes(4096));
        let framed = raw(&cluster);
        let frames: Vec<Vec<u8>> = (0..20)
            .map(|_| {
                let (kind, flags, stream) = (dice.roll() as u8 % 12, dice.roll() as u8, dice.roll() as u32 % 8);
                let payload = dice.bytes(64);
                http2::frame(kind, flags, stream, &payload)
            })
            .collect();
        pour(&framed, frames.into_iter());
    }
    assert_served(&cluster, &[]);
    for method in METHODS {
        let caller = raw(&cluster);
        let calls = (0..100u32).map(|call| {
            let stream = 2 * call + 1;
            let message = dice.bytes(200);
            // Most lengths are right, so that the decoder gets to see the message.
            let length = if dice.roll().is_multiple_of(8) { dice.roll() as u32 } else { message.len() as u32 };
            let body = [&[0][..], &length.to_be_bytes(), &message].concat();
            [http2::call(stream, &format!("/nadgrid.v1.{method}")), http2::data(stream, &body)].concat()
        });
        let calls: Vec<Vec<u8>> = calls.collect();
        assert_eq!(pour(&caller, calls.into_iter()), 100, "{method}");
        assert_served(&cluster, &[]);
    }
    let logs = cluster.logs();
    assert!(!logs.contains("panicked"), "{logs}");
    assert_bounded(&mut cluster);
}

/// The same by a library, which keeps to the limit of a connection, on as many connections as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_of_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |name: &str| {
        let hash = Secret::new(name).digest();
        std::fs::write(folder.path().join(name), name).unwrap();
        format!("[[token]]\nname = '{name}'\nrole = 'user'\nblake3 = '{hash}'\n")
    };
    let tokens = folder.path().join("tokens.toml");
    std::fs::write(&tokens, entry("ada") + &entry("bob")).unwrap();
    let mut cluster = Cluster::start(&["--tokens", tokens.to_str().unwrap(), "--limit", "requests_per_second=1000000"]);
    let with_token = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", "Bearer bob".parse().unwrap());
        request
    };
    let request = v1::SubmitRequest { spec: SPEC.into(), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", "Bearer bob".parse().unwrap());
    let id = sweeps(&cluster).await.submit(request).await.unwrap().into_inner().sweep.unwrap().id;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..MANY / 200 {
        let service = sweeps(&cluster).await;
        for _ in 0..200 {
            let (mut service, request) = (service.clone(), with_token(v1::WatchRequest { sweep_id: id.clone() }));
            tasks.spawn(async move { service.watch(request).await });
        }
    }
    let outcomes = tasks.join_all().await;
    let (watching, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((watching.len(), refused.len()), (256, MANY - 256));
    for status in refused.into_iter().filter_map(Result::err) {
        assert!(status.code() == Code::ResourceExhausted && Reason::Full.is_of(&status), "{status}");
    }
    let ada = folder.path().join("ada");
    assert_served(&cluster, &["--token-file", ada.to_str().unwrap()]);
    assert_bounded(&mut cluster);
}

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
        let flood = raw(&cluster);
        // An answer to a ping that was never sent, and the protocol's errors.
        pour(&flood, (0..100).map(|_| http2::frame(http2::PING, 0x1, 0, &[0; 8])));
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

fn input(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 % 251) as u8).collect()
}

fn header(bytes: &[u8]) -> v1::UploadInputRequest {
    let header = v1::InputHeader { size: bytes.len() as u64, digest: Digest::of(bytes).to_string() };
    v1::UploadInputRequest { part: Some(Part::Header(header)) }
}

fn data(bytes: &[u8]) -> v1::UploadInputRequest {
    v1::UploadInputRequest { part: Some(Part::Data(bytes.to_vec())) }
}

async fn upload(cluster: &Cluster, bytes: &[u8]) -> Result<v1::InputHeader, Status> {
    peer::input(&mut sweeps(cluster).await, bytes).await
}

/// An upload by hand, after its grant.
async fn granted(
    cluster: &Cluster,
    bytes: &[u8],
) -> (mpsc::Sender<v1::UploadInputRequest>, Streaming<v1::UploadInputResponse>) {
    let (sender, parts) = mpsc::channel(4);
    sender.send(header(bytes)).await.unwrap();
    let mut answers = sweeps(cluster).await.upload_input(ReceiverStream::new(parts)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(v1::upload_input_response::Message::Grant(_))), "{first:?}");
    (sender, answers)
}

/// One place for uploads, held by somebody who says nothing, then by one who trickles: the next comes through.
#[tokio::test]
async fn a_slow_upload_gives_its_place_up() {
    let limits = ["silence_seconds=0.5", "grace_seconds=1", "slowest_bytes_per_second=1000"];
    let flags: Vec<&str> = ["--uploads", "1"].into_iter().chain(limits.iter().flat_map(|l| ["--limit", l])).collect();
    let cluster = Cluster::start(&flags);
    let bytes = input(100_000);
    let (_silent, mut answers) = granted(&cluster, &bytes).await;
    upload(&cluster, &bytes).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);

    let others = input(90_000);
    let (trickle, mut answers) = granted(&cluster, &others).await;
    let dripping = tokio::spawn(async move {
        while trickle.send(data(b"drop")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    upload(&cluster, &others).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    dripping.abort();
}

async fn read(cluster: &Cluster, digest: &str) -> Streaming<v1::ReadInputResponse> {
    let request = v1::ReadInputRequest { digest: digest.into(), ..v1::ReadInputRequest::default() };
    WorkerServiceClient::new(channel(cluster).await).read_input(request).await.unwrap().into_inner()
}

/// One place for reading, held by somebody who takes nothing: he loses his connection, and the next is served.
#[tokio::test]
async fn a_reader_that_does_not_read_gives_its_place_up() {
    let cluster = Cluster::start(&["--limit", "reads=1", "--limit", "silence_seconds=0.5"]);
    let bytes = input(32 << 20);
    let digest = upload(&cluster, &bytes).await.unwrap().digest;
    let mut stuck = read(&cluster, &digest).await;
    let mut eager = read(&cluster, &digest).await;
    let mut got = 0;
    while let Some(part) = eager.message().await.unwrap() {
        got += part.data.len();
    }
    assert_eq!(got, bytes.len());
    let mut held = 0;
    let ended = loop {
        match stuck.message().await {
            Ok(Some(part)) => held += part.data.len(),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    assert!(ended.is_some() && held < bytes.len(), "{held} bytes came in the end");
    assert!(cluster.logs().contains("does not read what it asked for"), "{}", cluster.logs());
}

fn hello(worker: &str) -> v1::SessionRequest {
    let hello = v1::Hello {
        worker_id: worker.into(),
        name: worker.into(),
        protocol_version: PROTOCOL_VERSION,
        version: "0".into(),
        numerics_class: Some(peer::class()),
        lanes: 1,
        precisions: vec!["fp32".into()],
        ..Default::default()
    };
    v1::SessionRequest { message: Some(Message::Hello(hello)) }
}

#[tokio::test]
async fn what_is_beyond_a_limit_is_refused_and_comes_through_later() {
    let limits = ["sessions=1", "watchers=1", "unused_input_bytes=1048576", "open_sweeps=2"];
    let cluster = Cluster::start(&limits.iter().flat_map(|l| ["--limit", l]).collect::<Vec<_>>());
    let full = |status: Status, words: &str| {
        let fits = status.code() == Code::ResourceExhausted && Reason::Full.is_of(&status);
        assert!(fits && status.message().contains(words), "{status}");
    };
    let id = submit(&cluster).await.unwrap();
    let watch = async || {
        let request = v1::WatchRequest { sweep_id: id.clone() };
        sweeps(&cluster).await.watch(request).await
    };
    let first = watch().await.unwrap();
    full(watch().await.unwrap_err(), "watched");
    drop(first);
    let freed = tokio::time::timeout(PATIENCE, async { while watch().await.is_err() {} });
    freed.await.expect("the place of a watcher who has left is free");

    let session = async |worker: &str| {
        let (sender, requests) = mpsc::channel(4);
        sender.send(hello(worker)).await.unwrap();
        let mut service = WorkerServiceClient::new(channel(&cluster).await);
        service.session(ReceiverStream::new(requests)).await.map(|responses| (sender, responses))
    };
    let held = session("w-1").await.unwrap();
    full(session("w-2").await.unwrap_err(), "sessions");
    drop(held);
    let freed = tokio::time::timeout(PATIENCE, async { while session("w-2").await.is_err() {} });
    freed.await.expect("the place of a worker that has left is free");

    upload(&cluster, &input(1_000_000)).await.unwrap();
    upload(&cluster, &input(1_000_000)).await.unwrap();
    full(upload(&cluster, &input(500_000)).await.unwrap_err(), "not used by a sweep");
    submit(&cluster).await.unwrap();
    full(submit(&cluster).await.unwrap_err(), "2 sweeps are open");
}

#[tokio::test]
async fn messages_headers_and_rates_are_bounded() {
    let cluster = Cluster::start(&["--limit", "requests_per_second=20"]);
    let mut service = sweeps(&cluster).await;
    let request = v1::SubmitRequest { spec: "#".repeat(5 << 20), ..Default::default() };
    assert_eq!(service.submit(request).await.unwrap_err().code(), Code::OutOfRange);
    let request = v1::SubmitRequest { spec: "#".repeat(2 << 20), ..Default::default() };
    let refused = service.submit(request).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("bytes"), "{refused}");
    let mut request = Request::new(v1::ListRequest::default());
    request.metadata_mut().insert("x-long", "x".repeat(100 << 10).parse().unwrap());
    service.list(request).await.unwrap_err();
    let mut service = sweeps(&cluster).await;
    let mut refused = None;
    while refused.is_none() {
        refused = service.list(v1::ListRequest::default()).await.err();
    }
    let refused = refused.unwrap();
    assert!(Reason::Full.is_of(&refused) && refused.message().contains("requests a second"), "{refused}");
    let served =
        tokio::time::timeout(PATIENCE, async { while service.list(v1::ListRequest::default()).await.is_err() {} });
    served.await.expect("requests are served again in time");
}
