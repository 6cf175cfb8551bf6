"""Neural anisotropy directions, from a notebook.

::

    import nadgrid

    with nadgrid.connect("http://127.0.0.1:7400") as grid:
        sweep = grid.submit({"name": "lenet", "architectures": ["lenet"], "nads": {"networks": 2048}})
        nads = sweep.wait(progress=True).results().nads["lenet"]
        print(nads.spectrum.effective_rank, nads.nad_images.shape)
"""

from nadgrid._pictures import Picture
from nadgrid._version import VERSION as __version__
from nadgrid.client import Client, connect
from nadgrid.errors import (
    AccessDenied,
    CoordinatorError,
    DamagedPayload,
    Full,
    InputMissing,
    KeyTaken,
    NadgridError,
    NotFound,
    RequestError,
    SettingsError,
    SpecError,
    SweepCancelled,
    SweepEnded,
    SweepFailed,
    SweepIncomplete,
    SweepUnfinished,
    TimedOut,
    Unauthenticated,
    Unreachable,
    Violation,
)
from nadgrid.results import Nads, Results, Spectrum, load
from nadgrid.sweep import Sweep, Sweeps
from nadgrid.views import Artifact, Check, Explanation, Failure, Job, JobPlan, Plan, Rows, State, Worker

__all__ = [
    "AccessDenied",
    "Artifact",
    "Check",
    "Client",
    "CoordinatorError",
    "DamagedPayload",
    "Explanation",
    "Failure",
    "Full",
    "InputMissing",
    "Job",
    "JobPlan",
    "KeyTaken",
    "NadgridError",
    "Nads",
    "NotFound",
    "Picture",
    "Plan",
    "RequestError",
    "Results",
    "Rows",
    "SettingsError",
    "SpecError",
    "Spectrum",
    "State",
    "Sweep",
    "SweepCancelled",
    "SweepEnded",
    "SweepFailed",
    "SweepIncomplete",
    "SweepUnfinished",
    "Sweeps",
    "TimedOut",
    "Unauthenticated",
    "Unreachable",
    "Violation",
    "Worker",
    "__version__",
    "connect",
    "load",
]
