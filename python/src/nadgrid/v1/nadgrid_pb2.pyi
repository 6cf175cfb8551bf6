import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SweepState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SWEEP_STATE_UNSPECIFIED: _ClassVar[SweepState]
    SWEEP_STATE_QUEUED: _ClassVar[SweepState]
    SWEEP_STATE_RUNNING: _ClassVar[SweepState]
    SWEEP_STATE_COMPLETE: _ClassVar[SweepState]
    SWEEP_STATE_FAILED: _ClassVar[SweepState]
    SWEEP_STATE_CANCELLED: _ClassVar[SweepState]
    SWEEP_STATE_INCOMPLETE: _ClassVar[SweepState]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_COMPUTING: _ClassVar[JobState]
    JOB_STATE_REDUCING: _ClassVar[JobState]
    JOB_STATE_COMPLETE: _ClassVar[JobState]
    JOB_STATE_WAITING: _ClassVar[JobState]
    JOB_STATE_INCOMPLETE: _ClassVar[JobState]

class FailureKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_KIND_UNSPECIFIED: _ClassVar[FailureKind]
    FAILURE_KIND_SPEC: _ClassVar[FailureKind]
    FAILURE_KIND_UNFIT: _ClassVar[FailureKind]
    FAILURE_KIND_TASK: _ClassVar[FailureKind]
    FAILURE_KIND_TRANSIENT: _ClassVar[FailureKind]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_COMMITTED: _ClassVar[Verdict]
    VERDICT_DUPLICATE: _ClassVar[Verdict]
    VERDICT_SUPERSEDED: _ClassVar[Verdict]
    VERDICT_NOT_NEEDED: _ClassVar[Verdict]
    VERDICT_REFUSED: _ClassVar[Verdict]
    VERDICT_CHECKED: _ClassVar[Verdict]
SWEEP_STATE_UNSPECIFIED: SweepState
SWEEP_STATE_QUEUED: SweepState
SWEEP_STATE_RUNNING: SweepState
SWEEP_STATE_COMPLETE: SweepState
SWEEP_STATE_FAILED: SweepState
SWEEP_STATE_CANCELLED: SweepState
SWEEP_STATE_INCOMPLETE: SweepState
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_COMPUTING: JobState
JOB_STATE_REDUCING: JobState
JOB_STATE_COMPLETE: JobState
JOB_STATE_WAITING: JobState
JOB_STATE_INCOMPLETE: JobState
FAILURE_KIND_UNSPECIFIED: FailureKind
FAILURE_KIND_SPEC: FailureKind
FAILURE_KIND_UNFIT: FailureKind
FAILURE_KIND_TASK: FailureKind
FAILURE_KIND_TRANSIENT: FailureKind
VERDICT_UNSPECIFIED: Verdict
VERDICT_COMMITTED: Verdict
VERDICT_DUPLICATE: Verdict
VERDICT_SUPERSEDED: Verdict
VERDICT_NOT_NEEDED: Verdict
VERDICT_REFUSED: Verdict
VERDICT_CHECKED: Verdict

class PlanRequest(_message.Message):
    __slots__ = ("spec", "inputs")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    spec: str
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    def __init__(self, spec: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("name", "size", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("jobs", "slots", "workers", "seconds")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobPlan]
    slots: int
    workers: int
    seconds: float
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobPlan, _Mapping]]] = ..., slots: _Optional[int] = ..., workers: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class JobPlan(_message.Message):
    __slots__ = ("architecture", "members", "blocks", "shards", "forward_passes", "parameters", "dimension", "partial_bytes", "seconds", "measured", "experiment", "basis", "gpu_seconds")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_PASSES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    GPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    architecture: str
    members: int
    blocks: int
    shards: int
    forward_passes: int
    parameters: int
    dimension: int
    partial_bytes: int
    seconds: float
    measured: bool
    experiment: str
    basis: str
    gpu_seconds: float
    def __init__(self, architecture: _Optional[str] = ..., members: _Optional[int] = ..., blocks: _Optional[int] = ..., shards: _Optional[int] = ..., forward_passes: _Optional[int] = ..., parameters: _Optional[int] = ..., dimension: _Optional[int] = ..., partial_bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., measured: bool = ..., experiment: _Optional[str] = ..., basis: _Optional[str] = ..., gpu_seconds: _Optional[float] = ...) -> None: ...

class UploadInputRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: InputHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[InputHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class InputHeader(_message.Message):
    __slots__ = ("size", "digest")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    size: int
    digest: str
    def __init__(self, size: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class UploadInputResponse(_message.Message):
    __slots__ = ("grant", "stored")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    stored: InputHeader
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ..., stored: _Optional[_Union[InputHeader, _Mapping]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("put",)
    PUT_FIELD_NUMBER: _ClassVar[int]
    put: PresignedRequest
    def __init__(self, put: _Optional[_Union[PresignedRequest, _Mapping]] = ...) -> None: ...

class PresignedRequest(_message.Message):
    __slots__ = ("method", "url", "headers", "expires_in_ms")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_MS_FIELD_NUMBER: _ClassVar[int]
    method: str
    url: str
    headers: _containers.ScalarMap[str, str]
    expires_in_ms: int
    def __init__(self, method: _Optional[str] = ..., url: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., expires_in_ms: _Optional[int] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "inputs", "priority", "weight")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    spec: str
    idempotency_key: str
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    priority: int
    weight: float
    def __init__(self, spec: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., priority: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("sweep", "created")
    SWEEP_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    sweep: Sweep
    created: bool
    def __init__(self, sweep: _Optional[_Union[Sweep, _Mapping]] = ..., created: bool = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("sweep_id",)
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    def __init__(self, sweep_id: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("sweeps", "next_page_token", "notices")
    SWEEPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    sweeps: _containers.RepeatedCompositeFieldContainer[Sweep]
    next_page_token: str
    notices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sweeps: _Optional[_Iterable[_Union[Sweep, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., notices: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("sweep_id",)
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    def __init__(self, sweep_id: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("sweep_id",)
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    def __init__(self, sweep_id: _Optional[str] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("sweep_id",)
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    def __init__(self, sweep_id: _Optional[str] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("sweep_id",)
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    def __init__(self, sweep_id: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("sweep_id", "job", "block")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    job: int
    block: int
    def __init__(self, sweep_id: _Optional[str] = ..., job: _Optional[int] = ..., block: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("subject", "state", "reasons", "workers")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    subject: str
    state: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerReason]
    def __init__(self, subject: _Optional[str] = ..., state: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., workers: _Optional[_Iterable[_Union[WorkerReason, _Mapping]]] = ...) -> None: ...

class WorkerReason(_message.Message):
    __slots__ = ("worker_id", "name", "reason")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    name: str
    reason: str
    def __init__(self, worker_id: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("sweep_id", "sample", "seed")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    sample: int
    seed: int
    def __init__(self, sweep_id: _Optional[str] = ..., sample: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("total", "done", "shard", "job", "agrees", "committed", "recomputed", "committed_by", "recomputed_by", "message")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    AGREES_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_BY_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_BY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    total: int
    done: int
    shard: Shard
    job: str
    agrees: bool
    committed: str
    recomputed: str
    committed_by: str
    recomputed_by: str
    message: str
    def __init__(self, total: _Optional[int] = ..., done: _Optional[int] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., job: _Optional[str] = ..., agrees: bool = ..., committed: _Optional[str] = ..., recomputed: _Optional[str] = ..., committed_by: _Optional[str] = ..., recomputed_by: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ReadArtifactRequest(_message.Message):
    __slots__ = ("sweep_id", "name", "presigned")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRESIGNED_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    name: str
    presigned: bool
    def __init__(self, sweep_id: _Optional[str] = ..., name: _Optional[str] = ..., presigned: bool = ...) -> None: ...

class ReadArtifactResponse(_message.Message):
    __slots__ = ("artifact", "data", "get")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    artifact: Artifact
    data: bytes
    get: PresignedRequest
    def __init__(self, artifact: _Optional[_Union[Artifact, _Mapping]] = ..., data: _Optional[bytes] = ..., get: _Optional[_Union[PresignedRequest, _Mapping]] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers", "notices")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    notices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., notices: _Optional[_Iterable[str]] = ...) -> None: ...

class Sweep(_message.Message):
    __slots__ = ("id", "name", "state", "spec", "digest", "numerics_class", "jobs", "artifacts", "message", "submitted_at", "started_at", "ended_at", "workers", "coordinator_version", "inputs", "paused", "priority", "weight", "owner", "failures", "progress", "seconds_left", "notices")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    state: SweepState
    spec: str
    digest: str
    numerics_class: NumericsClass
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    message: str
    submitted_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    workers: int
    coordinator_version: str
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    paused: bool
    priority: int
    weight: float
    owner: str
    failures: _containers.RepeatedCompositeFieldContainer[ShardFailure]
    progress: float
    seconds_left: float
    notices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[SweepState, str]] = ..., spec: _Optional[str] = ..., digest: _Optional[str] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., message: _Optional[str] = ..., submitted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., workers: _Optional[int] = ..., coordinator_version: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., paused: bool = ..., priority: _Optional[int] = ..., weight: _Optional[float] = ..., owner: _Optional[str] = ..., failures: _Optional[_Iterable[_Union[ShardFailure, _Mapping]]] = ..., progress: _Optional[float] = ..., seconds_left: _Optional[float] = ..., notices: _Optional[_Iterable[str]] = ...) -> None: ...

class ShardFailure(_message.Message):
    __slots__ = ("job", "first_block", "blocks", "attempts", "workers", "message")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job: int
    first_block: int
    blocks: int
    attempts: int
    workers: _containers.RepeatedScalarFieldContainer[str]
    message: str
    def __init__(self, job: _Optional[int] = ..., first_block: _Optional[int] = ..., blocks: _Optional[int] = ..., attempts: _Optional[int] = ..., workers: _Optional[_Iterable[str]] = ..., message: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("architecture", "state", "members", "members_done", "members_in_flight", "dimension", "slot_seconds", "shards", "digest", "retries", "experiment", "members_failed", "speculative", "audits_due", "audits_passed", "progress", "seconds_left", "partials", "members_per_second")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_DONE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    SLOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FAILED_FIELD_NUMBER: _ClassVar[int]
    SPECULATIVE_FIELD_NUMBER: _ClassVar[int]
    AUDITS_DUE_FIELD_NUMBER: _ClassVar[int]
    AUDITS_PASSED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    PARTIALS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    architecture: str
    state: JobState
    members: int
    members_done: int
    members_in_flight: int
    dimension: int
    slot_seconds: float
    shards: int
    digest: str
    retries: int
    experiment: str
    members_failed: int
    speculative: int
    audits_due: int
    audits_passed: int
    progress: float
    seconds_left: float
    partials: int
    members_per_second: float
    def __init__(self, architecture: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., members: _Optional[int] = ..., members_done: _Optional[int] = ..., members_in_flight: _Optional[int] = ..., dimension: _Optional[int] = ..., slot_seconds: _Optional[float] = ..., shards: _Optional[int] = ..., digest: _Optional[str] = ..., retries: _Optional[int] = ..., experiment: _Optional[str] = ..., members_failed: _Optional[int] = ..., speculative: _Optional[int] = ..., audits_due: _Optional[int] = ..., audits_passed: _Optional[int] = ..., progress: _Optional[float] = ..., seconds_left: _Optional[float] = ..., partials: _Optional[int] = ..., members_per_second: _Optional[float] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("name", "size", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class NumericsClass(_message.Message):
    __slots__ = ("device", "arithmetic", "evaluation", "libtorch", "precision", "kernels")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ARITHMETIC_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    LIBTORCH_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    device: str
    arithmetic: str
    evaluation: str
    libtorch: str
    precision: str
    kernels: int
    def __init__(self, device: _Optional[str] = ..., arithmetic: _Optional[str] = ..., evaluation: _Optional[str] = ..., libtorch: _Optional[str] = ..., precision: _Optional[str] = ..., kernels: _Optional[int] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("id", "name", "numerics_class", "slots", "version", "leases", "silent_ms", "connected", "unfit", "draining", "members_done", "members_per_second", "rate_of", "last_error", "transfers_waiting", "transfers_waiting_ms", "transfers", "transfer_bytes_per_second")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    SILENT_MS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    UNFIT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_DONE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    RATE_OF_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_WAITING_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_WAITING_MS_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    numerics_class: NumericsClass
    slots: int
    version: str
    leases: int
    silent_ms: int
    connected: bool
    unfit: str
    draining: bool
    members_done: int
    members_per_second: float
    rate_of: str
    last_error: str
    transfers_waiting: int
    transfers_waiting_ms: int
    transfers: int
    transfer_bytes_per_second: float
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., slots: _Optional[int] = ..., version: _Optional[str] = ..., leases: _Optional[int] = ..., silent_ms: _Optional[int] = ..., connected: bool = ..., unfit: _Optional[str] = ..., draining: bool = ..., members_done: _Optional[int] = ..., members_per_second: _Optional[float] = ..., rate_of: _Optional[str] = ..., last_error: _Optional[str] = ..., transfers_waiting: _Optional[int] = ..., transfers_waiting_ms: _Optional[int] = ..., transfers: _Optional[int] = ..., transfer_bytes_per_second: _Optional[float] = ...) -> None: ...

class Shard(_message.Message):
    __slots__ = ("sweep_id", "job", "first_block", "blocks")
    SWEEP_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    FIRST_BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    sweep_id: str
    job: int
    first_block: int
    blocks: int
    def __init__(self, sweep_id: _Optional[str] = ..., job: _Optional[int] = ..., first_block: _Optional[int] = ..., blocks: _Optional[int] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "progress", "computed", "failure", "goodbye", "draining", "result")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    progress: Progress
    computed: Computed
    failure: Failure
    goodbye: Goodbye
    draining: Draining
    result: ShardResult
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., computed: _Optional[_Union[Computed, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., result: _Optional[_Union[ShardResult, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("worker_id", "name", "protocol_version", "version", "numerics_class", "slots", "held", "precisions")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    name: str
    protocol_version: int
    version: str
    numerics_class: NumericsClass
    slots: int
    held: _containers.RepeatedCompositeFieldContainer[Shard]
    precisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., name: _Optional[str] = ..., protocol_version: _Optional[int] = ..., version: _Optional[str] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., slots: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Shard, _Mapping]]] = ..., precisions: _Optional[_Iterable[str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("shard", "blocks_done", "seconds", "begin_seconds", "fraction")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_DONE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    blocks_done: int
    seconds: float
    begin_seconds: float
    fraction: float
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., blocks_done: _Optional[int] = ..., seconds: _Optional[float] = ..., begin_seconds: _Optional[float] = ..., fraction: _Optional[float] = ...) -> None: ...

class Computed(_message.Message):
    __slots__ = ("shard",)
    SHARD_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("shard", "kind", "message")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    kind: FailureKind
    message: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., kind: _Optional[_Union[FailureKind, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Draining(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShardResult(_message.Message):
    __slots__ = ("shard", "numerics_class", "data", "digest", "seconds", "steps", "begin_seconds")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    numerics_class: NumericsClass
    data: bytes
    digest: str
    seconds: float
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    begin_seconds: float
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., data: _Optional[bytes] = ..., digest: _Optional[str] = ..., seconds: _Optional[float] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., begin_seconds: _Optional[float] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("name", "begin_us", "end_us")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEGIN_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    name: str
    begin_us: int
    end_us: int
    def __init__(self, name: _Optional[str] = ..., begin_us: _Optional[int] = ..., end_us: _Optional[int] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("welcome", "assignment", "revocation", "answer")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    assignment: Assignment
    revocation: Revocation
    answer: Answer
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., revocation: _Optional[_Union[Revocation, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("shard", "verdict", "message")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    verdict: Verdict
    message: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("coordinator_version", "heartbeat_interval_ms")
    COORDINATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    coordinator_version: str
    heartbeat_interval_ms: int
    def __init__(self, coordinator_version: _Optional[str] = ..., heartbeat_interval_ms: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("shard", "spec", "architecture", "experiment", "inputs", "traceparent")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    spec: str
    architecture: str
    experiment: str
    inputs: _containers.RepeatedCompositeFieldContainer[ShardInput]
    traceparent: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., spec: _Optional[str] = ..., architecture: _Optional[str] = ..., experiment: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[ShardInput, _Mapping]]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class ShardInput(_message.Message):
    __slots__ = ("role", "name", "size", "digest")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    size: int
    digest: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class ReadInputRequest(_message.Message):
    __slots__ = ("digest", "through_coordinator", "worker_id")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    THROUGH_COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    digest: str
    through_coordinator: bool
    worker_id: str
    def __init__(self, digest: _Optional[str] = ..., through_coordinator: bool = ..., worker_id: _Optional[str] = ...) -> None: ...

class ReadInputResponse(_message.Message):
    __slots__ = ("data", "get")
    DATA_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    get: PresignedRequest
    def __init__(self, data: _Optional[bytes] = ..., get: _Optional[_Union[PresignedRequest, _Mapping]] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("shard", "reason")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    shard: Shard
    reason: str
    def __init__(self, shard: _Optional[_Union[Shard, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class UploadPartialRequest(_message.Message):
    __slots__ = ("header", "data", "stored", "store_unreachable")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    STORE_UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    header: PartialHeader
    data: bytes
    stored: Stored
    store_unreachable: StoreUnreachable
    def __init__(self, header: _Optional[_Union[PartialHeader, _Mapping]] = ..., data: _Optional[bytes] = ..., stored: _Optional[_Union[Stored, _Mapping]] = ..., store_unreachable: _Optional[_Union[StoreUnreachable, _Mapping]] = ...) -> None: ...

class Stored(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StoreUnreachable(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class PartialHeader(_message.Message):
    __slots__ = ("worker_id", "shard", "numerics_class", "size", "digest", "seconds", "steps", "begin_seconds", "through_coordinator")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    THROUGH_COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    shard: Shard
    numerics_class: NumericsClass
    size: int
    digest: str
    seconds: float
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    begin_seconds: float
    through_coordinator: bool
    def __init__(self, worker_id: _Optional[str] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ..., seconds: _Optional[float] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., begin_seconds: _Optional[float] = ..., through_coordinator: bool = ...) -> None: ...

class UploadPartialResponse(_message.Message):
    __slots__ = ("grant", "verdict")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    verdict: Verdict
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class UploadCheckpointRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: CheckpointHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[CheckpointHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class CheckpointHeader(_message.Message):
    __slots__ = ("worker_id", "shard", "numerics_class", "size", "digest", "members_done", "epochs")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_CLASS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_DONE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    shard: Shard
    numerics_class: NumericsClass
    size: int
    digest: str
    members_done: int
    epochs: int
    def __init__(self, worker_id: _Optional[str] = ..., shard: _Optional[_Union[Shard, _Mapping]] = ..., numerics_class: _Optional[_Union[NumericsClass, _Mapping]] = ..., size: _Optional[int] = ..., digest: _Optional[str] = ..., members_done: _Optional[int] = ..., epochs: _Optional[int] = ...) -> None: ...

class UploadCheckpointResponse(_message.Message):
    __slots__ = ("grant", "wanted")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    grant: Grant
    wanted: bool
    def __init__(self, grant: _Optional[_Union[Grant, _Mapping]] = ..., wanted: bool = ...) -> None: ...
