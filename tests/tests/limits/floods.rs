//! Many streams, many calls, many watchers, and bytes that are no request.

use crate::http2;
use crate::{MANY, SPEC, assert_bounded, assert_served, sweeps};
use nadgrid_proto::access::Secret;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_tests::Cluster;
use std::io::Write;
use std::net::TcpStream;
use tonic::{Code, Request};

/// Streams by hand on one connection, begun and never ended, and begun and reset at once.
#[test]
fn ten_thousand_streams_on_one_connection() {
    let mut cluster = Cluster::start(&[]);
    let ids = || (0..MANY as u32).map(|n| 2 * n + 1);
    for path in ["/nadgrid.v1.WorkerService/UploadPartial", "/nadgrid.v1.SweepService/List", "/no.such/Method"] {
        let open = http2::raw(&cluster);
        http2::pour(&open, ids().map(|id| http2::call(id, path)));
        assert_served(&cluster, &[]);
        let resetting = http2::raw(&cluster);
        let sent = http2::pour(&resetting, ids().map(|id| [http2::call(id, path), http2::reset(id)].concat()));
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
    let begun = [http2::raw(&cluster), http2::raw(&cluster)];
    for (connection, method) in begun.iter().zip(["List", "Submit"]) {
        let calls = (0..200).map(|n| {
            let stream = 2 * n + 1;
            let path = format!("/nadgrid.v1.SweepService/{method}");
            [http2::call(stream, &path), http2::part(stream, b"\0\0\0\x01\0half")].concat()
        });
        assert_eq!(http2::pour(connection, calls), 200);
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
        let framed = http2::raw(&cluster);
        let frames: Vec<Vec<u8>> = (0..20)
            .map(|_| {
                let (kind, flags, stream) = (dice.roll() as u8 % 12, dice.roll() as u8, dice.roll() as u32 % 8);
                let payload = dice.bytes(64);
                http2::frame(kind, flags, stream, &payload)
            })
            .collect();
        http2::pour(&framed, frames.into_iter());
    }
    assert_served(&cluster, &[]);
    for method in METHODS {
        let caller = http2::raw(&cluster);
        let calls = (0..100u32).map(|call| {
            let stream = 2 * call + 1;
            let message = dice.bytes(200);
            // Most lengths are right, so that the decoder gets to see the message.
            let length = if dice.roll().is_multiple_of(8) { dice.roll() as u32 } else { message.len() as u32 };
            let body = [&[0][..], &length.to_be_bytes(), &message].concat();
            [http2::call(stream, &format!("/nadgrid.v1.{method}")), http2::data(stream, &body)].concat()
        });
        let calls: Vec<Vec<u8>> = calls.collect();
        assert_eq!(http2::pour(&caller, calls.into_iter()), 100, "{method}");
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
