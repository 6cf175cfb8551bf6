//! Who may ask what: TLS, mutual TLS, tokens with roles, and owners of sweeps, on real programs.

use nadgrid_core::{LIBTORCH_VERSION, PROTOCOL_VERSION};
use nadgrid_proto::access::Secret;
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_proto::v1::sweep_service_client::SweepServiceClient;
use nadgrid_proto::v1::worker_service_client::WorkerServiceClient;
use nadgrid_proto::v1::{self, upload_partial_request::Part};
use nadgrid_tests::{Cluster, command, text};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

const SPEC: &str = "name = 'access'\narchitectures = ['logreg']\n[nads]\nnetworks = 8\nblock_size = 4\n";

/// Files of one test: keys, certificates, tokens.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// An authority of certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    file: String,
}

/// A certificate and its key, as files.
struct Certified {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(files: &Files, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let file = files.write(&format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), file }
    }

    fn sign(&self, files: &Files, name: &str, host: &str, expires: i32) -> Certified {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(expires, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certified {
            certificate: files.write(&format!("{name}.pem"), &certificate),
            key: files.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }

    fn valid(&self, files: &Files, name: &str) -> Certified {
        self.sign(files, name, "127.0.0.1", 2099)
    }
}

impl Certified {
    fn flags(&self) -> [&str; 4] {
        ["--tls-certificate", &self.certificate, "--tls-key", &self.key]
    }
}

/// Tokens by name; the name is the secret too, made long.
fn secret(name: &str) -> String {
    format!("nadgrid_secret_of_{name}")
}

fn entry(name: &str, role: &str, more: &str) -> String {
    let hash = Secret::new(secret(name)).digest();
    // What follows a dash tells tokens of one name apart.
    let holder = name.split('-').next().unwrap();
    format!("[[token]]\nname = '{holder}'\nrole = '{role}'\nblake3 = '{hash}'\n{more}\n")
}

fn tokens() -> String {
    [
        entry("ada", "user", ""),
        entry("bob", "user", ""),
        entry("root", "user", "admin = true"),
        entry("lab", "worker", ""),
        entry("other", "worker", ""),
        entry("ada-old", "user", "expires = '2020-01-01T00:00:00Z'"),
    ]
    .concat()
}

fn token_file(files: &Files, name: &str) -> String {
    files.write(&format!("{name}.token"), &(secret(name) + "\n"))
}

/// One line that says these words.
fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{said}");
    let line = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error in {said:?}"));
    for word in words {
        assert!(line.contains(word), "{line:?} lacks {word:?}");
    }
}

fn nadgrid(url: &str, arguments: &[&str]) -> Output {
    command("nadgrid").args(["--coordinator", url]).args(arguments).output().unwrap()
}

fn worker(url: &str, arguments: &[&str]) -> Output {
    let always = ["--coordinator", url, "--device", "cpu", "--connect-timeout", "0.5"];
    command("nadgrid-worker").args(always).args(arguments).output().unwrap()
}

/// Everything on: the same digest as with everything off, and no secret in any log, however much is logged.
#[test]
fn a_sweep_goes_through_mutual_tls_and_tokens_unchanged() {
    let files = Files::new();
    let spec = files.write("spec.toml", SPEC);
    let mut plain = Cluster::start(&[]);
    plain.add_worker(&["--slots", "1"]);
    let expected = plain.digest(&plain.nadgrid_ok(&["submit", &spec]));

    let authority = Authority::new(&files, "ca");
    let (server, client) = (authority.valid(&files, "server"), authority.valid(&files, "client"));
    let tokens = files.write("tokens.toml", &tokens());
    let flags = [&server.flags()[..], &["--tls-client-ca", &authority.file, "--tokens", &tokens]].concat();
    let mut cluster = Cluster::start_with(&flags, &[("NADGRID_LOG", "trace")]);
    assert!(cluster.url.starts_with("https://"), "{}", cluster.url);
    let (ada, lab) = (token_file(&files, "ada"), token_file(&files, "lab"));
    let access = [&client.flags()[..], &["--tls-ca", &authority.file]].concat();
    cluster.add_worker(&[&access[..], &["--token-file", &lab, "--slots", "1"]].concat());
    let submit = [&access[..], &["--token-file", &ada, "submit", &spec, "--watch", "--json"]].concat();
    let watched = cluster.nadgrid_ok(&submit);
    let last: serde_json::Value = serde_json::from_str(watched.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["state"].as_str(), last["digest"].as_str()),
        (Some("complete"), Some(expected.as_str())),
        "{watched}"
    );
    let id = last["id"].as_str().unwrap();
    let out = files.path("out");
    cluster.nadgrid_ok(&[&access[..], &["--token-file", &ada, "fetch", id, "--out", out.to_str().unwrap()]].concat());
    assert!(out.join("sweep.json").is_file());

    let logs = cluster.logs();
    assert!(logs.contains("TRACE") && logs.contains("submitted"), "the log says too little to prove anything");
    for name in ["ada", "lab"] {
        assert!(!logs.contains(&secret(name)), "the token of {name} is in a log");
    }
    let key = std::fs::read_to_string(&server.key).unwrap();
    assert!(!logs.contains(key.lines().nth(1).unwrap()), "a key is in a log");
}

#[test]
fn certificates_that_do_not_fit_are_refused_in_words() {
    let files = Files::new();
    let (authority, stranger) = (Authority::new(&files, "ca"), Authority::new(&files, "stranger"));
    let server = authority.valid(&files, "server");
    let cluster = Cluster::start(&server.flags());
    let (url, ca) = (cluster.url.as_str(), authority.file.as_str());
    assert!(nadgrid(url, &["--tls-ca", ca, "list"]).status.success());

    for is_client in [true, false] {
        let ask = |url: &str, flags: &[&str]| match is_client {
            true => nadgrid(url, &[flags, &["list"]].concat()),
            false => worker(url, flags),
        };
        refused(&ask(url, &["--tls-ca", &stranger.file]), &["not trusted here"]);
        // The system's authorities do not know it either.
        refused(&ask(url, &[]), &["tls_ca"]);
        refused(&ask(url, &["--tls-ca", ca, "--tls-domain", "grid.example"]), &["another host name"]);
        refused(&ask(url, &["--tls-ca", &server.key]), &["tls_ca", "no certificate"]);
        let plain = url.replace("https://", "http://");
        refused(&ask(&plain, &[]), &[&plain]);
    }

    let expired = authority.sign(&files, "expired", "127.0.0.1", 2021);
    let cluster = Cluster::start(&expired.flags());
    refused(&nadgrid(&cluster.url, &["--tls-ca", ca, "list"]), &["expired"]);
    let plain = Cluster::start(&[]);
    let mistaken = plain.url.replace("http://", "https://");
    refused(&nadgrid(&mistaken, &["--tls-ca", ca, "list"]), &["does not speak TLS"]);
}

#[test]
fn mutual_tls_wants_a_certificate_of_its_authority() {
    let files = Files::new();
    let (authority, stranger) = (Authority::new(&files, "ca"), Authority::new(&files, "stranger"));
    let server = authority.valid(&files, "server");
    let cluster = Cluster::start(&[&server.flags()[..], &["--tls-client-ca", &authority.file]].concat());
    let ask =
        |flags: &[&str]| nadgrid(&cluster.url, &[&["--tls-ca", authority.file.as_str()], flags, &["list"]].concat());
    assert!(ask(&authority.valid(&files, "client").flags()).status.success());
    // With TLS 1.3 the refusal comes after the handshake: now and then the connection breaks before it is read.
    let refused_in_time = |flags: &[&str], word: &str| {
        let outputs = (0..20).map(|_| ask(flags));
        let mut said = outputs.map(|output| {
            assert!(!output.status.success());
            text(&output.stderr)
        });
        assert!(said.any(|said| said.contains(word)), "never {word:?}");
    };
    refused_in_time(&[], "requires a client certificate");
    refused_in_time(&stranger.valid(&files, "foreign").flags(), "does not know the authority");
    refused_in_time(&authority.sign(&files, "expired", "127.0.0.1", 2021).flags(), "certificate has expired");
    // Each cause is logged once, however often it happens.
    refused_in_time(&[], "requires a client certificate");
    for cause in ["no client certificate", "client certificate of an unknown authority", "expired client certificate"] {
        cluster.wait_for_log(cause);
        assert_eq!(cluster.logs().matches(&format!("cause=\"TLS: {cause}\"")).count(), 1, "{}", cluster.logs());
    }
}

#[test]
fn renewed_certificates_are_taken_up_and_broken_ones_are_not() {
    let files = Files::new();
    let authority = Authority::new(&files, "ca");
    let served = authority.sign(&files, "server", "127.0.0.1", 2021);
    let cluster = Cluster::start(&served.flags());
    let ask = || nadgrid(&cluster.url, &["--tls-ca", &authority.file, "list"]);
    refused(&ask(), &["expired"]);
    std::fs::write(&served.certificate, "no certificate").unwrap();
    cluster.wait_for_log("the previous certificates stay in force");
    refused(&ask(), &["expired"]);
    authority.valid(&files, "server");
    cluster.wait_for_log("the certificates have changed");
    assert!(ask().status.success(), "{}", cluster.logs());
}

#[test]
fn it_listens_beyond_the_machine_only_with_tokens_and_tls_or_when_told() {
    let data = tempfile::tempdir().unwrap();
    let start = |flags: &[&str]| {
        let always = ["--listen", "0.0.0.0:0", "--data", data.path().to_str().unwrap(), "--until-stdin-closes"];
        command("nadgrid-coordinator").args(always).args(flags).stdin(Stdio::null()).output().unwrap()
    };
    refused(&start(&[]), &["without tokens", "without TLS", "tls_certificate", "insecure"]);
    let told = start(&["--insecure"]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("beyond this machine without tokens"), "{}", text(&told.stderr));
    refused(&start(&["--tokens", "/no/such/file"]), &["without TLS"]);
    refused(&start(&["--insecure", "--tokens", "/no/such/file"]), &["tokens: /no/such/file"]);
    refused(&start(&["--insecure", "--tls-certificate", "/c"]), &["tls_certificate needs tls_key"]);
}

#[test]
fn a_new_token_is_printed_once_with_its_entry() {
    let files = Files::new();
    let made = command("nadgrid").args(["token", "new", "eve", "--role", "user", "--days", "1"]).output().unwrap();
    let (token, said) = (text(&made.stdout).trim().to_owned(), text(&made.stderr));
    assert!(made.status.success() && token.len() > 40 && !said.contains(&token), "{said}");
    let tokens = files.write("tokens.toml", &said);
    let cluster = Cluster::start(&["--tokens", &tokens]);
    refused(&cluster.nadgrid(&["list"]), &["a token is required", "--token-file"]);
    assert_eq!(cluster.nadgrid(&["list"]).status.code(), Some(6));
    let eve = files.write("eve.token", &token);
    assert_eq!(cluster.nadgrid_ok(&["--token-file", &eve, "list", "--json"]), "[]");
    let with_variable =
        command("nadgrid").env("NADGRID_TOKEN", &token).args(["--coordinator", &cluster.url, "list"]).output();
    assert!(with_variable.unwrap().status.success());
    // To another machine in the clear: refused before anything is sent.
    let away = ["--coordinator", "http://grid.invalid:7400", "--token-file", &eve, "list"];
    refused(&command("nadgrid").args(away).output().unwrap(), &["grid.invalid", "insecure_token"]);
    refused(&worker("http://grid.invalid:7400", &["--token-file", &eve]), &["grid.invalid", "insecure_token"]);
}

/// A foreign client with a token, or without one.
struct Peer {
    token: Option<String>,
    channel: Channel,
}

impl Peer {
    async fn of(cluster: &Cluster, name: Option<&str>) -> Self {
        let channel = Channel::from_shared(cluster.url.clone()).unwrap().connect().await.unwrap();
        Self { token: name.map(secret), channel }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    fn sweeps(&self) -> SweepServiceClient<Channel> {
        SweepServiceClient::new(self.channel.clone())
    }

    fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    async fn submit(&self, spec: &str, key: &str) -> Result<v1::SubmitResponse, Status> {
        let message = v1::SubmitRequest { spec: spec.into(), idempotency_key: key.into(), ..Default::default() };
        self.sweeps().submit(self.request(message)).await.map(tonic::Response::into_inner)
    }

    async fn listed(&self) -> Result<Vec<String>, Status> {
        let listed = self.sweeps().list(self.request(v1::ListRequest::default())).await?.into_inner();
        Ok(listed.sweeps.into_iter().map(|sweep| sweep.id).collect())
    }

    async fn session(
        &self,
        worker: &str,
    ) -> Result<(mpsc::Sender<v1::SessionRequest>, Streaming<v1::SessionResponse>), Status> {
        let (sender, receiver) = mpsc::channel(16);
        sender.send(v1::SessionRequest { message: Some(Message::Hello(hello(worker))) }).await.unwrap();
        let responses = self.workers().session(self.request(ReceiverStream::new(receiver))).await?.into_inner();
        Ok((sender, responses))
    }
}

fn hello(worker: &str) -> v1::Hello {
    let class = v1::NumericsClass {
        device: "cpu".into(),
        arithmetic: "portable".into(),
        evaluation: "patch".into(),
        libtorch: LIBTORCH_VERSION.into(),
        precision: "fp32".into(),
        kernels: 1,
    };
    v1::Hello {
        worker_id: worker.into(),
        name: worker.into(),
        protocol_version: PROTOCOL_VERSION,
        version: "0".into(),
        numerics_class: Some(class),
        slots: 1,
        precisions: vec!["fp32".into()],
        ..Default::default()
    }
}

fn with_tokens(files: &Files, more: &[&str]) -> Cluster {
    let tokens = files.write("tokens.toml", &tokens());
    Cluster::start(&[&["--tokens", &tokens], more].concat())
}

#[tokio::test]
async fn every_service_asks_for_its_own_kind_of_token() {
    let files = Files::new();
    let cluster = with_tokens(&files, &[]);
    for (name, code, reason) in [
        (None, Code::Unauthenticated, Reason::TokenMissing),
        (Some("nobody"), Code::Unauthenticated, Reason::TokenUnknown),
        (Some("ada-old"), Code::Unauthenticated, Reason::TokenExpired),
        (Some("lab"), Code::PermissionDenied, Reason::RoleWrong),
    ] {
        let peer = Peer::of(&cluster, name).await;
        for _ in 0..3 {
            let status = peer.listed().await.unwrap_err();
            assert_eq!((status.code(), reason.is_of(&status)), (code, true), "{name:?}: {status}");
        }
    }
    let ada = Peer::of(&cluster, Some("ada")).await;
    let refused = ada.session("w-1").await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && Reason::RoleWrong.is_of(&refused), "{refused}");
    assert!(ada.listed().await.unwrap().is_empty());
    let lab = Peer::of(&cluster, Some("lab")).await;
    lab.session("w-1").await.unwrap();
    // Twelve refusals and one more, of four causes.
    let logs = cluster.logs();
    for reason in ["TOKEN_MISSING", "TOKEN_UNKNOWN", "TOKEN_EXPIRED", "ROLE_WRONG"] {
        assert_eq!(logs.matches(&format!("cause=\"{reason}\"")).count(), 1, "{reason}: {logs}");
    }
    assert!(!logs.contains("nadgrid_secret"), "{logs}");

    // Programs say the same, and end.
    let out = worker(&cluster.url, &["--token-file", &token_file(&files, "ada")]);
    self::refused(&out, &["refuses this worker", "worker's"]);
    assert_eq!(out.status.code(), Some(4));
}

/// A name that another page may have made to mean this machine leads nowhere, neither by HTTP/1.1 nor by gRPC.
#[tokio::test]
async fn without_tokens_a_foreign_host_is_refused_on_all_paths() {
    let listed = async |cluster: &Cluster, host: &str| {
        let endpoint =
            Channel::from_shared(cluster.url.clone()).unwrap().origin(format!("http://{host}").parse().unwrap());
        SweepServiceClient::new(endpoint.connect().await.unwrap()).list(v1::ListRequest::default()).await
    };
    let cluster = Cluster::start(&[]);
    for path in ["/", "/page/app.js", "/api/sweeps", "/metrics"] {
        for (host, code) in [("evil.example", "403"), ("localhost:7400", "200"), ("127.0.0.1", "200")] {
            let mut stream = TcpStream::connect(cluster.address()).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(format!("HTTP/1.1 {code}").as_bytes()), "{path} at {host}: {}", text(&answer));
        }
    }
    for host in ["localhost:7400", "127.0.0.1", "[::1]:7400"] {
        listed(&cluster, host).await.unwrap();
    }
    let refused = listed(&cluster, "evil.example").await.unwrap_err();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("evil.example"), "{refused}");
    // Where any network may reach it, any name may lead there; and where there are tokens, no page has one.
    listed(&Cluster::start(&["--insecure"]), "grid.example").await.unwrap();
    let files = Files::new();
    let refused = listed(&with_tokens(&files, &[]), "grid.example").await.unwrap_err();
    assert!(Reason::TokenMissing.is_of(&refused), "{refused}");
}

/// What a service manager keeps of a program's output holds no token.
#[test]
fn the_pages_token_is_in_no_log() {
    let data = tempfile::tempdir().unwrap();
    let mut coordinator = command("nadgrid-coordinator");
    coordinator.args(["--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()]);
    coordinator.env("NADGRID_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = coordinator.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (listening, page) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    child.kill().unwrap();
    let logged = text(&child.wait_with_output().unwrap().stderr);
    let token = std::fs::read_to_string(data.path().join("page-token")).unwrap();
    assert!(listening.starts_with("listening on") && page.starts_with("page at"), "{listening}\n{page}");
    assert!(page.contains("page-token") && !page.contains(&token) && !logged.contains(&token), "{page}\n{logged}");
}

#[tokio::test]
async fn a_sweep_is_nobody_elses() {
    let files = Files::new();
    let mut cluster = with_tokens(&files, &["--limit", "open_sweeps_per_user=2"]);
    let (ada, bob) = (Peer::of(&cluster, Some("ada")).await, Peer::of(&cluster, Some("bob")).await);
    let id = ada.submit(SPEC, "key").await.unwrap().sweep.unwrap().id;
    let not_yours = |what: &str, status: Status| {
        assert_eq!(
            (status.code(), Reason::NotYours.is_of(&status)),
            (Code::PermissionDenied, true),
            "{what}: {status}"
        );
    };
    let sweep_id = id.clone();
    not_yours("get", bob.sweeps().get(bob.request(v1::GetRequest { sweep_id: id.clone() })).await.unwrap_err());
    not_yours("watch", bob.sweeps().watch(bob.request(v1::WatchRequest { sweep_id: id.clone() })).await.unwrap_err());
    not_yours("cancel", bob.sweeps().cancel(bob.request(v1::CancelRequest { sweep_id })).await.unwrap_err());
    let (pause, resume) = (v1::PauseRequest { sweep_id: id.clone() }, v1::ResumeRequest { sweep_id: id.clone() });
    not_yours("pause", bob.sweeps().pause(bob.request(pause)).await.unwrap_err());
    not_yours("resume", bob.sweeps().resume(bob.request(resume)).await.unwrap_err());
    let explain = v1::ExplainRequest { sweep_id: id.clone(), ..Default::default() };
    not_yours("explain", bob.sweeps().explain(bob.request(explain)).await.unwrap_err());
    let verify = v1::VerifyRequest { sweep_id: id.clone(), sample: 1, ..Default::default() };
    not_yours("verify", bob.sweeps().verify(bob.request(verify)).await.unwrap_err());
    let read = v1::ReadArtifactRequest { sweep_id: id.clone(), name: "nads/logreg/nads.npy".into(), presigned: false };
    not_yours("read", bob.sweeps().read_artifact(bob.request(read)).await.unwrap_err());
    let upon = "name = 'upon'\narchitectures = ['logreg']\n[directional]\nseeds = 1\ndirections = { sweep = 'ID' }\n";
    let upon = bob.submit(&upon.replace("ID", &id), "").await.unwrap_err();
    assert_eq!(upon.code(), Code::InvalidArgument, "{upon}");
    assert!(bob.listed().await.unwrap().is_empty());
    // A key is its owner's.
    let own = bob.submit(SPEC, "key").await.unwrap();
    assert!(own.created && own.sweep.unwrap().id != id);
    assert_eq!(ada.submit(SPEC, "key").await.unwrap().sweep.unwrap().id, id);
    assert_eq!(ada.listed().await.unwrap(), std::slice::from_ref(&id));
    // So is the number of sweeps that may be open.
    ada.submit(SPEC, "second").await.unwrap();
    let full = ada.submit(SPEC, "third").await.unwrap_err();
    assert!(full.code() == Code::ResourceExhausted && full.message().contains("of yours"), "{full}");
    bob.submit(SPEC, "second").await.unwrap();

    // Owners survive a crash; an admin sees all and may end all.
    cluster.crash_coordinator();
    let (bob, root) = (Peer::of(&cluster, Some("bob")).await, Peer::of(&cluster, Some("root")).await);
    not_yours("get", bob.sweeps().get(bob.request(v1::GetRequest { sweep_id: id.clone() })).await.unwrap_err());
    assert_eq!((bob.listed().await.unwrap().len(), root.listed().await.unwrap().len()), (2, 4));
    let cancelled = root.sweeps().cancel(root.request(v1::CancelRequest { sweep_id: id })).await.unwrap().into_inner();
    assert_eq!(cancelled.state(), v1::SweepState::Cancelled);
}

#[tokio::test]
async fn a_worker_speaks_for_itself_alone() {
    let files = Files::new();
    let cluster = with_tokens(&files, &[]);
    let (lab, other) = (Peer::of(&cluster, Some("lab")).await, Peer::of(&cluster, Some("other")).await);
    let _session = lab.session("w-1").await.unwrap();
    let denied = other.session("w-1").await.unwrap_err();
    assert_eq!((denied.code(), Reason::NotYours.is_of(&denied)), (Code::PermissionDenied, true), "{denied}");
    let header = v1::PartialHeader { worker_id: "w-1".into(), ..Default::default() };
    let parts = || futures::stream::iter([v1::UploadPartialRequest { part: Some(Part::Header(header.clone())) }]);
    let upload = async |peer: &Peer| {
        let mut answers = peer.workers().upload_partial(peer.request(parts())).await?.into_inner();
        answers.message().await.map(drop)
    };
    let denied = upload(&other).await.unwrap_err();
    assert!(Reason::NotYours.is_of(&denied), "{denied}");
    let own = upload(&lab).await.unwrap_err();
    assert!(Reason::RequestInvalid.is_of(&own), "{own}");
}

/// The token of a worker and of a watcher are taken away: both are cut off, and the others go on.
#[tokio::test]
async fn a_revoked_token_ends_what_it_has_open() {
    let files = Files::new();
    let mut cluster = with_tokens(&files, &[]);
    let lab = token_file(&files, "lab");
    cluster.add_worker(&["--token-file", &lab, "--slots", "1"]);
    cluster.wait_for_log("worker joined");
    let (ada, bob) = (Peer::of(&cluster, Some("ada")).await, Peer::of(&cluster, Some("bob")).await);
    let endless = SPEC.replace("networks = 8", "networks = 1000000").replace("logreg", "lenet");
    let watch = async |peer: &Peer| {
        let sweep_id = peer.submit(&endless, "").await.unwrap().sweep.unwrap().id;
        let mut watched = peer.sweeps().watch(peer.request(v1::WatchRequest { sweep_id })).await.unwrap().into_inner();
        watched.message().await.unwrap().unwrap();
        watched
    };
    let (mut of_ada, mut of_bob) = (watch(&ada).await, watch(&bob).await);

    // A file that is broken changes nothing.
    let path = files.path("tokens.toml");
    std::fs::write(&path, "[[token]]\nname = 3\n").unwrap();
    cluster.wait_for_log("the previous tokens stay in force");
    assert!(ada.listed().await.is_ok());

    std::fs::write(&path, [entry("bob", "user", ""), entry("other", "worker", "")].concat()).unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(60), async { while let Ok(Some(_)) = of_ada.message().await {} });
    ended.await.expect("the stream of a revoked token ends");
    let status = ada.listed().await.unwrap_err();
    assert!(Reason::TokenUnknown.is_of(&status), "{status}");
    assert_eq!(cluster.workers[0].exit_code(Duration::from_secs(60)), Some(4), "{}", cluster.logs());
    assert_eq!(bob.listed().await.unwrap().len(), 1);
    let other = token_file(&files, "other");
    cluster.add_worker(&["--token-file", &other, "--slots", "1"]);
    let seen = tokio::time::timeout(Duration::from_secs(60), of_bob.message()).await.expect("bob still watches");
    assert!(seen.unwrap().is_some());
}
