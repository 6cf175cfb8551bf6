"""What the pages for readers say in Python runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import REPOSITORY, Cluster

import nadgrid
from nadgrid import errors


@pytest.mark.parametrize("page", ["docs/python.md", "python/README.md"])
def test_every_block_of_python_runs(
    page: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPOSITORY / page).read_text().replace("http://127.0.0.1:7400", cluster.url)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.setenv("NADGRID_COORDINATOR", cluster.url)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    # What a comment promises after a line that prints.
    shown = capsys.readouterr().out
    for promised in re.findall(r"^ *print\(.*\) +# (.+)$", text, re.MULTILINE):
        assert promised in shown
    with nadgrid.connect(cluster.url) as grid:
        for sweep in grid.sweeps(3):
            sweep.wait(timeout=60)


def test_every_error_is_in_the_guide() -> None:
    guide = (REPOSITORY / "docs/python.md").read_text()
    tree = errors.__doc__ or ""
    for name in dir(nadgrid):
        kind = getattr(nadgrid, name)
        if not (isinstance(kind, type) and issubclass(kind, nadgrid.NadgridError)):
            continue
        assert name in tree, name
        if name not in ("NadgridError", "SweepEnded"):
            assert f"`{name}`" in guide, name
