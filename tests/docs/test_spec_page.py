"""docs/spec.md is what docs/make_spec.py writes of what the built ``nadgrid`` says."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest
from cluster import REPOSITORY, program


@pytest.fixture(scope="module")
def make_spec() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_spec", REPOSITORY / "docs" / "make_spec.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Its dataclasses look for their module there.
    __import__("sys").modules["make_spec"] = module
    found.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(make_spec: ModuleType) -> None:
    written = (REPOSITORY / "docs" / "spec.md").read_text()
    assert written == make_spec.page(program("nadgrid")), "run `python3 docs/make_spec.py`"


def test_every_key_is_in_the_page(make_spec: ModuleType) -> None:
    """By another way than the page is written: the lines of what ``nadgrid init`` writes."""
    page = (REPOSITORY / "docs" / "spec.md").read_text()
    seen = 0
    for experiments in (make_spec.EXPERIMENTS, ("directional",)):
        for section in make_spec.init(program("nadgrid"), *experiments).values():
            for entry in section.keys.values():
                words = entry.meaning.split(": ", 1)[-1].split(".")[0][1:]
                assert re.search(rf"^\| `{entry.name}` \|.*{re.escape(words)}", page, re.MULTILINE), entry
                seen += 1
    assert seen > 60


def test_what_it_cannot_read_ends_it(make_spec: ModuleType) -> None:
    assert make_spec.read("# Says it. Default: 1.\nkey = 1\n")[""].keys["key"].default == "1"
    for text in ("key: 1\n", "# Says too much. Default: 1 or 2.\nkey = 1\n", "key = 1\n"):
        with pytest.raises(SystemExit):
            make_spec.read(text)
