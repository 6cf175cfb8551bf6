"""What a notebook shows is escaped, wherever it comes from."""

from __future__ import annotations

import nadgrid
from nadgrid import _html
from nadgrid._connection import Connection, Settings
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.views import Explanation, Plan, Worker

EVIL = "<img src=x onerror=\"alert('&')\">"


def shown(value: object) -> str:
    html = value._repr_html_()  # type: ignore[attr-defined]
    assert isinstance(html, str)
    return html


def test_everything_that_is_shown_is_escaped() -> None:
    settings = Settings("http://127.0.0.1:9", None, None, None, None, None, None, None, {})
    connection = Connection(settings)
    try:
        message = pb.Sweep(
            id=EVIL,
            name=EVIL,
            message=EVIL,
            digest=EVIL,
            spec=EVIL,
            state=pb.SWEEP_STATE_INCOMPLETE,
            jobs=[pb.Job(experiment=EVIL, architecture=EVIL)],
            failures=[pb.ShardFailure(workers=[EVIL], message=EVIL)],
            artifacts=[pb.Artifact(name=EVIL, digest=EVIL)],
            owner=EVIL,
        )
        sweep = nadgrid.Sweep(connection, message)
        values = [
            sweep,
            sweep.jobs,
            sweep.failures,
            sweep.artifacts,
            sweep.results(partial=True),
            nadgrid.Sweeps([sweep]),
            Plan.of(pb.PlanResponse(jobs=[pb.JobPlan(architecture=EVIL)])),
            nadgrid.Rows([Worker.of(pb.Worker(name=EVIL, unfit=EVIL, last_error=EVIL))]),
            Explanation.of(
                pb.ExplainResponse(
                    subject=EVIL, state=EVIL, reasons=[EVIL], workers=[pb.WorkerReason(name=EVIL, reason=EVIL)]
                )
            ),
        ]
        for value in values:
            html = shown(value)
            assert "<img" not in html, type(value)
            assert '"alert' not in html, type(value)
            assert "&lt;img" in html, type(value)
    finally:
        connection.close()


def test_numbers_and_nothing_are_shown_as_people_write_them(grid: nadgrid.Client) -> None:
    assert "<td>1,234,567</td><td>0.1235</td><td>yes</td>" in _html.table(["a", "b", "c"], [[1234567, 0.12345, True]])
    assert shown(nadgrid.Rows(())) == "<p>none</p>"
    assert grid.url in shown(grid)
