"""The example notebook runs from top to bottom, and is committed without what it printed."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from cluster import Cluster
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "nads.ipynb"
SOURCE = Path(__file__).resolve().parents[1] / "src"


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.filterwarnings("default")
def test_it_runs_from_top_to_bottom(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NADGRID_COORDINATOR", cluster.url)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])))
    # The kernel is to leave nothing in the home folder.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    # Three pictures, and tables of workers, the plan, the sweep, accuracies and results.
    assert kinds.count("image/png") == 3
    assert kinds.count("text/html") >= 5
    shown = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    assert "Warning" not in shown, shown
