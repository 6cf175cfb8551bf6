//! The table of paths: who may use each, how long its answer takes, whether it changes anything, and its name in metrics.
//!
//! Rows of gRPC follow from the contract's descriptor: the service decides who may call a method, its streams how long it
//! takes, and its `idempotency_level` whether it changes anything. Rows of the page are listed in [`PageRoute`]; the page's
//! router maps each to its handler. A path without a row is decided by its prefix, so that it is refused like its neighbours
//! before anybody learns that it does not exist.

use http::Method;
use nadgrid_proto::DESCRIPTORS;
use prost::Message;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use std::sync::LazyLock;

const SWEEPS: &str = "/nadgrid.v1.SweepService/";
const WORKERS: &str = "/nadgrid.v1.WorkerService/";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// The beginning of the names of uploads. Their other streams differ: a session lasts as long as its worker.
const UPLOAD: &str = "Upload";

/// The callers who may use a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Users, by a user's token.
    Users,
    /// Workers, by a worker's token.
    Workers,
    /// Everybody, also without a token.
    Anybody,
    /// All callers who have any valid token.
    AnyToken,
}

/// The duration of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// A call: its request is read whole, and it is answered at once or given up.
    Call,
    /// A stream without a time limit, measured until it begins.
    Stream,
    /// A stream that takes as long as its payload, measured until it ends.
    Upload,
}

/// The protocol of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// gRPC: whether a call changes anything is known.
    Grpc { changes: bool },
    /// A file of the page, the same for everybody.
    PageFile,
    /// The page's interface, where HTTP's method says whether a request changes anything.
    PageApi,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) audience: Audience,
    pub(super) answer: AnswerKind,
    pub(super) protocol: Protocol,
    /// The name in metrics and traces.
    pub(super) name: &'static str,
}

impl Route {
    /// The row of a path.
    pub(super) fn of(path: &str) -> Self {
        let known = GRPC_ROUTES.iter().find(|known| known.path == path).map(GrpcRoute::route);
        known.or_else(|| PageRoute::find(path)).unwrap_or_else(|| Self::unknown(path))
    }

    /// A path that the contract does not have: health, reflection, or nothing at all.
    fn unknown(path: &str) -> Self {
        let (audience, answer) = match path {
            HEALTH_CHECK => (Audience::Anybody, AnswerKind::Call),
            _ if path.starts_with(SWEEPS) => (Audience::Users, AnswerKind::Call),
            _ if path.starts_with(WORKERS) => (Audience::Workers, AnswerKind::Call),
            _ => (Audience::AnyToken, AnswerKind::Stream),
        };
        Self { audience, answer, protocol: Protocol::Grpc { changes: false }, name: "other" }
    }

    /// Whether the path is the page's rather than gRPC's.
    pub(super) fn is_page(self) -> bool {
        !matches!(self.protocol, Protocol::Grpc { .. })
    }

    /// Whether a request with this HTTP method changes anything.
    pub(super) fn changes(self, method: &Method) -> bool {
        match self.protocol {
            Protocol::Grpc { changes } => changes,
            Protocol::PageFile => false,
            Protocol::PageApi => !method.is_safe(),
        }
    }
}

/// A method of the contract.
struct GrpcRoute {
    path: String,
    name: String,
    audience: Audience,
    answer: AnswerKind,
    changes: bool,
}

static GRPC_ROUTES: LazyLock<Vec<GrpcRoute>> = LazyLock::new(|| {
    // A descriptor that cannot be read leaves the prefixes: who may call is decided all the same.
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    let services = files.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    services
        .flat_map(|(package, service)| {
            let prefix = format!("/{package}.{}/", service.name());
            service.method.iter().map(move |method| GrpcRoute::new(&prefix, method))
        })
        .collect()
});

impl GrpcRoute {
    fn new(prefix: &str, method: &MethodDescriptorProto) -> Self {
        let path = format!("{prefix}{}", method.name());
        let answer = match (method.client_streaming(), method.server_streaming()) {
            (true, _) if method.name().starts_with(UPLOAD) => AnswerKind::Upload,
            (false, false) => AnswerKind::Call,
            (_, _) => AnswerKind::Stream,
        };
        let level = method.options.as_ref().map(prost_types::MethodOptions::idempotency_level);
        let changes = level != Some(IdempotencyLevel::NoSideEffects);
        let audience = Route::unknown(&path).audience;
        Self { path, name: method.name().to_owned(), audience, answer, changes }
    }

    fn route(&'static self) -> Route {
        let Self { audience, answer, changes, .. } = *self;
        Route { audience, answer, protocol: Protocol::Grpc { changes }, name: &self.name }
    }
}

macro_rules! page_routes {
    ($($route:ident $path:literal $protocol:ident $answer:ident;)*) => {
        /// The paths of the page. The page's router has a handler for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum PageRoute {
            $($route,)*
        }

        impl PageRoute {
            /// All paths of the page.
            pub(crate) const ALL: &[Self] = &[$(Self::$route,)*];

            /// The path, as axum writes it: `{name}` is one segment, `{*name}` are all that follow.
            pub(crate) fn path(self) -> &'static str {
                match self {
                    $(Self::$route => $path,)*
                }
            }

            fn protocol(self) -> Protocol {
                match self {
                    $(Self::$route => Protocol::$protocol,)*
                }
            }

            fn answer(self) -> AnswerKind {
                match self {
                    $(Self::$route => AnswerKind::$answer,)*
                }
            }
        }
    };
}

page_routes! {
    Index "/" PageFile Call;
    File "/page/{name}" PageFile Call;
    Metrics "/metrics" PageApi Call;
    About "/api/about" PageApi Call;
    Overview "/api/events" PageApi Stream;
    Sweeps "/api/sweeps" PageApi Call;
    Sweep "/api/sweeps/{id}" PageApi Call;
    SweepEvents "/api/sweeps/{id}/events" PageApi Stream;
    Cancel "/api/sweeps/{id}/cancel" PageApi Call;
    Pause "/api/sweeps/{id}/pause" PageApi Call;
    Resume "/api/sweeps/{id}/resume" PageApi Call;
    Artifact "/api/sweeps/{id}/artifacts/{*name}" PageApi Stream;
    Shards "/api/sweeps/{id}/shards" PageApi Call;
    Shard "/api/sweeps/{id}/shards/{key}" PageApi Call;
    Pictures "/api/sweeps/{id}/pictures" PageApi Call;
    Picture "/api/sweeps/{id}/pictures/{*name}" PageApi Call;
    Nads "/api/sweeps/{id}/nads" PageApi Call;
    Nad "/api/sweeps/{id}/nads/{architecture}/{file}" PageApi Call;
}

impl PageRoute {
    /// The row of a path that is the page's.
    fn find(path: &str) -> Option<Route> {
        let known = Self::ALL.iter().find(|known| matches(known.path(), path));
        let (protocol, answer) = match known {
            Some(known) => (known.protocol(), known.answer()),
            None if path.starts_with("/page/") => (Protocol::PageFile, AnswerKind::Call),
            None if path.starts_with("/api/") => (Protocol::PageApi, AnswerKind::Call),
            None => return None,
        };
        let audience = if protocol == Protocol::PageFile { Audience::Anybody } else { Audience::Users };
        Some(Route { audience, answer, protocol, name: "page" })
    }
}

/// Whether a path is of this pattern.
fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        match segments.next() {
            None => return false,
            Some(_) if expected.starts_with("{*") => return true,
            Some(segment) if expected.starts_with('{') && !segment.is_empty() => {}
            Some(segment) if expected == segment => {}
            Some(_) => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep_call(changes: bool, name: &'static str) -> Route {
        Route { audience: Audience::Users, answer: AnswerKind::Call, protocol: Protocol::Grpc { changes }, name }
    }

    #[test]
    fn rows_of_the_contract_follow_from_its_descriptor() {
        assert_eq!(GRPC_ROUTES.len(), 17);
        for (name, changes) in
            [("Plan", false), ("Get", false), ("List", false), ("Explain", false), ("ListWorkers", false)]
                .into_iter()
                .chain(["Submit", "Cancel", "Pause", "Resume"].map(|name| (name, true)))
        {
            assert_eq!(Route::of(&format!("{SWEEPS}{name}")), sweep_call(changes, name), "{name}");
        }
        for (path, audience, answer) in [
            ("/nadgrid.v1.SweepService/Watch", Audience::Users, AnswerKind::Stream),
            ("/nadgrid.v1.SweepService/Verify", Audience::Users, AnswerKind::Stream),
            ("/nadgrid.v1.SweepService/ReadArtifact", Audience::Users, AnswerKind::Stream),
            ("/nadgrid.v1.SweepService/UploadInput", Audience::Users, AnswerKind::Upload),
            ("/nadgrid.v1.WorkerService/Session", Audience::Workers, AnswerKind::Stream),
            ("/nadgrid.v1.WorkerService/ReadInput", Audience::Workers, AnswerKind::Stream),
            ("/nadgrid.v1.WorkerService/UploadPartial", Audience::Workers, AnswerKind::Upload),
            ("/nadgrid.v1.WorkerService/UploadCheckpoint", Audience::Workers, AnswerKind::Upload),
        ] {
            let route = Route::of(path);
            assert_eq!((route.audience, route.answer), (audience, answer), "{path}");
            assert!(path.ends_with(route.name), "{path}");
        }
    }

    #[test]
    fn what_the_contract_does_not_have_goes_by_its_prefix() {
        for (path, audience, answer) in [
            ("/grpc.health.v1.Health/Check", Audience::Anybody, AnswerKind::Call),
            ("/grpc.health.v1.Health/Watch", Audience::AnyToken, AnswerKind::Stream),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Audience::AnyToken, AnswerKind::Stream),
            ("/nadgrid.v1.SweepService/Nothing", Audience::Users, AnswerKind::Call),
            ("/nadgrid.v1.WorkerService/Nothing", Audience::Workers, AnswerKind::Call),
            ("/nadgrid.v1.SweepServic/Submit", Audience::AnyToken, AnswerKind::Stream),
            ("/elsewhere", Audience::AnyToken, AnswerKind::Stream),
            ("/api", Audience::AnyToken, AnswerKind::Stream),
        ] {
            let route = Route::of(path);
            assert_eq!((route.audience, route.answer, route.is_page()), (audience, answer, false), "{path}");
            assert_eq!(route.name, "other");
        }
    }

    #[test]
    fn paths_of_the_page_have_their_rows() {
        for (path, protocol, answer) in [
            ("/", Protocol::PageFile, AnswerKind::Call),
            ("/page/app.js", Protocol::PageFile, AnswerKind::Call),
            ("/page/a/b", Protocol::PageFile, AnswerKind::Call),
            ("/metrics", Protocol::PageApi, AnswerKind::Call),
            ("/api/events", Protocol::PageApi, AnswerKind::Stream),
            ("/api/sweeps/s", Protocol::PageApi, AnswerKind::Call),
            ("/api/sweeps/s/events", Protocol::PageApi, AnswerKind::Stream),
            ("/api/sweeps/s/artifacts/nads/lenet/nads.npy", Protocol::PageApi, AnswerKind::Stream),
            ("/api/sweeps/s/cancel", Protocol::PageApi, AnswerKind::Call),
            ("/api/nothing", Protocol::PageApi, AnswerKind::Call),
        ] {
            let route = Route::of(path);
            assert_eq!((route.protocol, route.answer, route.name), (protocol, answer, "page"), "{path}");
            let audience = if protocol == Protocol::PageFile { Audience::Anybody } else { Audience::Users };
            assert_eq!(route.audience, audience, "{path}");
        }
        let cancel = Route::of("/api/sweeps/s/cancel");
        assert!(cancel.changes(&Method::POST) && !cancel.changes(&Method::GET));
    }

    #[test]
    fn a_pattern_is_matched_segment_by_segment() {
        assert!(matches("/", "/") && matches("/api/{id}", "/api/x") && matches("/api/{*name}", "/api/x/y"));
        assert!(!matches("/api/{id}", "/api/") && !matches("/api/{id}", "/api/x/y") && !matches("/api/{id}", "/api"));
    }
}
