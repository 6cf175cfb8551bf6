//! A coordinator that sends payloads truncated or flipped; everything else of it is absent.

use super::*;
use crate::inputs::LocalFile;
use futures::stream::{self, BoxStream, StreamExt};
use nadgrid_core::ids::Digest;
use nadgrid_core::spec::InputRef;
use nadgrid_proto::v1::sweep_service_server::{SweepService, SweepServiceServer};
use nadgrid_proto::v1::*;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone, Copy)]
enum Fault {
    None,
    Truncated,
    Flipped,
    /// Another payload, sound in itself, than the sweep announced.
    Exchanged,
    /// More bytes than the sweep announced, and never an end of them.
    Endless,
    Nameless,
}

struct Coordinator(Fault);

/// The payload of every artifact: more than one chunk of the test's size.
fn payload() -> Vec<u8> {
    (0..1000_u32).map(|i| (i * 7) as u8).collect()
}

fn artifact(bytes: &[u8]) -> Artifact {
    let digest = Digest::of(bytes).to_string();
    Artifact { name: "nads/lenet/nads.npy".into(), size: bytes.len() as u64, digest }
}

#[tonic::async_trait]
impl SweepService for Coordinator {
    type VerifyStream = BoxStream<'static, Result<VerifyResponse, Status>>;
    type WatchStream = BoxStream<'static, Result<Sweep, Status>>;
    type ReadArtifactStream = BoxStream<'static, Result<ReadArtifactResponse, Status>>;

    async fn get(&self, request: Request<GetRequest>) -> Answer<Sweep> {
        if request.into_inner().sweep_id != "s-1" {
            return Err(Status::not_found("there is no sweep s-2"));
        }
        let spec = "name = 'x'\narchitectures = ['lenet']\n[nads]\nnetworks = 2".into();
        let artifacts = vec![artifact(&payload())];
        Ok(Response::new(Sweep {
            id: "s-1".into(),
            spec,
            state: SweepState::Complete.into(),
            artifacts,
            ..Default::default()
        }))
    }

    async fn read_artifact(&self, _: Request<ReadArtifactRequest>) -> Answer<Self::ReadArtifactStream> {
        let mut bytes = payload();
        let mut announced = artifact(&bytes);
        match self.0 {
            Fault::None | Fault::Nameless => {}
            Fault::Endless => announced.size = 1 << 29,
            Fault::Truncated => bytes.truncate(600),
            Fault::Flipped => bytes[700] ^= 1,
            Fault::Exchanged => {
                bytes.reverse();
                announced = artifact(&bytes);
            }
        }
        let first = (!matches!(self.0, Fault::Nameless)).then_some(announced);
        let mut messages = vec![Ok(ReadArtifactResponse { artifact: first, ..ReadArtifactResponse::default() })];
        let part = |data: &[u8]| Ok(ReadArtifactResponse { data: data.to_vec(), ..ReadArtifactResponse::default() });
        if matches!(self.0, Fault::Endless) {
            let endless = stream::iter(messages).chain(stream::repeat_with(move || part(&bytes)));
            return Ok(Response::new(endless.boxed()));
        }
        messages.extend(bytes.chunks(256).map(part));
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn plan(&self, _: Request<PlanRequest>) -> Answer<PlanResponse> {
        Err(Status::unimplemented("absent"))
    }
    type UploadInputStream = BoxStream<'static, Result<UploadInputResponse, Status>>;

    /// Grants, and answers with what came, flipped or whole.
    async fn upload_input(&self, parts: Request<Streaming<UploadInputRequest>>) -> Answer<Self::UploadInputStream> {
        let mut parts = parts.into_inner();
        let is_flipped = matches!(self.0, Fault::Flipped);
        parts.message().await?;
        let granted = stream::iter([upload_input_response::Message::Grant(Grant::default())]);
        let stored = stream::once(async move {
            let parts: Vec<UploadInputRequest> = parts.map(Result::unwrap).collect().await;
            let mut bytes = Vec::new();
            for part in parts {
                let Some(upload_input_request::Part::Data(data)) = part.part else { panic!("one header") };
                bytes.extend(data);
            }
            if is_flipped {
                bytes[0] ^= 1;
            }
            let header = InputHeader { size: bytes.len() as u64, digest: Digest::of(&bytes).to_string() };
            upload_input_response::Message::Stored(header)
        });
        let answers = granted.chain(stored).map(|message| Ok(UploadInputResponse { message: Some(message) }));
        Ok(Response::new(answers.boxed()))
    }
    async fn submit(&self, _: Request<SubmitRequest>) -> Answer<SubmitResponse> {
        Err(Status::unimplemented("absent"))
    }
    async fn list(&self, _: Request<ListRequest>) -> Answer<ListResponse> {
        Err(Status::unimplemented("absent"))
    }
    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("absent"))
    }
    async fn cancel(&self, _: Request<CancelRequest>) -> Answer<Sweep> {
        Err(Status::unimplemented("absent"))
    }
    async fn pause(&self, _: Request<PauseRequest>) -> Answer<Sweep> {
        Err(Status::unimplemented("absent"))
    }
    async fn resume(&self, _: Request<ResumeRequest>) -> Answer<Sweep> {
        Err(Status::unimplemented("absent"))
    }
    async fn explain(&self, _: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        Err(Status::unimplemented("absent"))
    }
    async fn verify(&self, _: Request<VerifyRequest>) -> Answer<Self::VerifyStream> {
        Err(Status::unimplemented("absent"))
    }
    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        Err(Status::unimplemented("absent"))
    }
}

async fn client(fault: Fault) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = SweepServiceServer::new(Coordinator(fault));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Client::connect(&url).await.unwrap()
}

#[tokio::test]
async fn a_sound_payload_comes_through_and_a_damaged_one_does_not() {
    let name = "nads/lenet/nads.npy";
    let (bytes, digest) = client(Fault::None).await.read_artifact("s-1", name).await.unwrap();
    assert_eq!((bytes, digest), (payload(), Digest::of(&payload())));
    for (fault, words) in [
        (Fault::Truncated, "nads/lenet/nads.npy: the payload is truncated: 600 of 1000 bytes were received"),
        (Fault::Flipped, "nads/lenet/nads.npy: the payload is damaged"),
        (Fault::Nameless, "nads/lenet/nads.npy was announced without its size and digest"),
    ] {
        let error = client(fault).await.read_artifact("s-1", name).await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_fetch_that_fails_leaves_nothing_behind() {
    for fault in [Fault::Truncated, Fault::Flipped, Fault::Exchanged] {
        let home = tempfile::tempdir().unwrap();
        let error = fetch(&client(fault).await, "s-1", &home.path().join("out")).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }
    // No more is taken than the sweep has announced.
    let home = tempfile::tempdir().unwrap();
    let error = fetch(&client(Fault::Endless).await, "s-1", home.path()).await.unwrap_err().to_string();
    assert!(error.contains("536870912 bytes was announced, at most 1000 are accepted"), "{error}");
    // Nor than fits on the disk.
    let huge = Artifact { name: "nads/lenet/nads.npy".into(), size: u64::MAX, digest: String::new() };
    let error = ensure_room(home.path(), &[huge.clone(), huge]).unwrap_err().to_string();
    assert!(error.contains("cannot write into it: the sweep's files have"), "{error}");
    // The payload is sound, but no array.
    let home = tempfile::tempdir().unwrap();
    let error = fetch(&client(Fault::None).await, "s-1", home.path()).await.unwrap_err();
    assert!(matches!(error, Error::Contract(_)), "{error}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn files_are_uploaded_whole_or_not_at_all() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("nads.npy");
    // More than one chunk.
    let bytes = vec![7; (1 << 20) + 5];
    std::fs::write(&path, &bytes).unwrap();
    let stored = InputRef { size: bytes.len() as u64, digest: Digest::of(&bytes) };
    let file = LocalFile { name: "nads.npy".into(), path: path.clone(), stored };
    client(Fault::None).await.upload(&file).await.unwrap();
    assert!(matches!(client(Fault::Flipped).await.upload(&file).await, Err(Error::Contract(_))));
    std::fs::write(&path, &bytes[1..]).unwrap();
    let error = client(Fault::None).await.upload(&file).await.unwrap_err().to_string();
    assert!(error.contains("nads.npy: the file changed while it was being submitted"), "{error}");
}

#[tokio::test]
async fn errors_of_the_coordinator_keep_their_class() {
    let client = client(Fault::None).await;
    assert!(matches!(client.get("s-2").await, Err(Error::NotFound(_))));
    assert!(matches!(client.workers().await, Err(Error::Contract(_))));
}

#[test]
fn only_a_complete_sweep_has_a_result() {
    let sweep = |state: SweepState| Sweep { id: "s".into(), state: state.into(), ..Default::default() };
    assert!(ensure_complete(&sweep(SweepState::Complete)).is_ok());
    assert!(matches!(ensure_complete(&sweep(SweepState::Running)), Err(Error::Unfinished { .. })));
    let failed = ensure_complete(&Sweep { message: "all workers are unfit".into(), ..sweep(SweepState::Failed) });
    assert_eq!(failed.unwrap_err().to_string(), "sweep s failed: all workers are unfit");
    assert_eq!(ensure_complete(&sweep(SweepState::Cancelled)).unwrap_err().to_string(), "sweep s was cancelled");
}
