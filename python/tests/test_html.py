"""What a notebook shows is escaped, wherever it comes from."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import nadgrid
from nadgrid import _html, _thumbnails
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


def spectrum(gradients: Any = 64, standard_errors: str = EVIL) -> dict[str, Any]:
    numbers = {"dimension": 16, "total_variance": 0.5, "effective_rank": 12.25, "anisotropy": 0.25}
    return {"gradients": gradients, **numbers, "standard_errors": standard_errors}


def files(shape: tuple[int, int, int]) -> Callable[[str], bytes]:
    """The files of NADs of this shape."""
    dimension = int(np.prod(shape))

    def read(name: str) -> bytes:
        if name.endswith("spectrum.json"):
            return json.dumps(spectrum()).encode()
        buffer = io.BytesIO()
        np.save(buffer, np.linspace(-1, 2, 12 * dimension, dtype=np.float32).reshape(12, dimension))
        return buffer.getvalue()

    return read


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 2, 5), (2, 3, 3)])
def test_nads_are_pictures_and_numbers(shape: tuple[int, int, int]) -> None:
    html = shown(nadgrid.Nads(EVIL, shape, files(shape)))
    assert "<img src=x" not in html
    assert "12 directions of " + " x ".join(map(str, shape)) in html
    assert "<td>effective rank</td><td>12.25</td>" in html
    found = re.search(r'src="data:image/png;base64,([^"]+)" alt="NADs 0 to 7, each on a scale of its own"', html)
    assert found
    pixels = plt.imread(io.BytesIO(base64.b64decode(found[1])))
    _, height, width = shape
    # Eight images, and two columns of white between them.
    assert pixels.shape == (height, 8 * width + 14, 3)
    assert (pixels[:, width : width + 2] == 1).all()


def test_colours_are_blue_below_and_red_above_zero() -> None:
    strip = _thumbnails.strip(np.array([[[[-2.0, 0.0, 1.0, 2.0]]]]))
    [row] = np.rint(255 * plt.imread(io.BytesIO(strip))).astype(int).tolist()
    assert row == [[33, 102, 172], [255, 255, 255], [216, 140, 149], [178, 24, 43]]
    # Nothing but zeros, or no numbers at all, is shown, too.
    for nothing in (0.0, np.nan):
        assert _thumbnails.strip(np.full((1, 1, 2, 2), nothing)).startswith(b"\x89PNG")


def test_nads_whose_files_are_gone_are_shown_by_name() -> None:
    def gone(name: str) -> bytes:
        raise nadgrid.DamagedPayload(f"{name} is damaged {EVIL}")

    html = shown(nadgrid.Nads("lenet", (1, 4, 4), gone))
    assert "of lenet, 1 x 4 x 4" in html
    assert "is damaged &lt;img" in html


def test_nads_that_are_no_numbers_are_not_shown() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.full((2, 16), EVIL))
    html = shown(nadgrid.Nads("lenet", (1, 4, 4), lambda _: buffer.getvalue()))
    assert "its elements are no numbers" in html
    assert "<img" not in html


def test_a_spectrum_is_a_table_of_numbers() -> None:
    html = shown(nadgrid.Spectrum.of(spectrum()))
    assert "<td>gradients</td><td>64</td>" in html
    assert "&lt;img" in html
    assert "<img" not in html
    for wrong in ({}, spectrum(gradients=EVIL), spectrum(gradients=[])):
        content = json.dumps(wrong).encode()
        nads = nadgrid.Nads("lenet", (1, 4, 4), {"nads/lenet/spectrum.json": content}.__getitem__)
        with pytest.raises(nadgrid.CoordinatorError, match=r"spectrum\.json is not understood"):
            print(nads.spectrum)
