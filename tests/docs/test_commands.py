"""Every block of shell and of Python in the guide runs as it stands, or is named in ``exceptions.py``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import REPOSITORY
from conftest import RAN
from exceptions import NOT_RUN, left_out, why_not
from pages import GUIDE, LANGUAGES, Block, blocks, read
from session import IN_EXAMPLES, SUBSTITUTIONS, promised_files, run

WITH_COMMANDS = [page for page in GUIDE if any(not why_not(block) for block in blocks(page, "sh", "python"))]


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_runs(page: str, tmp_path: Path) -> None:
    said = blocks(page, "sh", "python")
    outcome = run(said, tmp_path)
    where = outcome.failed.place if outcome.failed else page
    assert outcome.code == 0, f"{where} fails with {outcome.code}:\n{outcome.output}"
    for block in said:
        parts = [left_out(block, line) for line in block.text.splitlines() if line.strip()]
        if why_not(block) is None:
            RAN[block.place] = (
                "ran" if not any(parts) else f"ran, but for: {'; '.join({part for part in parts if part})}"
            )
    for promised in promised_files(read(page), "nads/lenet/"):
        assert (outcome.folder / "out" / "demo" / promised).is_file(), f"{page} promises {promised}"


def test_a_wrong_command_is_found(tmp_path: Path) -> None:
    """What this file says would be worth nothing if it could not fail."""
    first = Block("docs/made-up.md", 3, "sh", "nadgrid init fine.toml\n")
    for number, wrong in enumerate(
        [
            "nadgrid plan fine.toml --no-such-flag",
            "nadgrid plam fine.toml",
            "nadgrid list",  # Nobody has started a coordinator.
            "nadgrid plan fine.toml | grep 'a column that is not there'",
            "nadgrid-coordinator --data out/data --listen nowhere",
            "nadgrid-worker --no-such-flag",
            "echo $ID",
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        second = Block("docs/made-up.md", 9, "sh", f"{wrong}\necho went on\n")
        outcome = run([first, second], folder)
        assert outcome.code != 0, wrong
        assert outcome.failed == second, wrong
        assert "went on" not in outcome.output, wrong


def test_every_block_is_of_a_known_language() -> None:
    for page in GUIDE:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{block.place} is of the language {block.language!r}"
        # An odd fence would hide what follows it, one that is indented or of other signs its own text.
        assert not re.search(r"^([ >]+```|~~~| {4,}nadgrid)", read(page), re.MULTILINE), page
        assert read(page).count("\n```") == 2 * len(blocks(page)), page


def test_exceptions_are_few_and_needed() -> None:
    for known in NOT_RUN:
        there = [
            line
            for block in blocks(known.page, known.language)
            for line in block.text.splitlines()
            if line.startswith(known.beginning)
        ]
        assert there, f"{known.page} has no such line any more: {known.beginning!r}"
    for page in GUIDE:
        for block in blocks(page, "sh", "python"):
            if why := why_not(block):
                RAN[block.place] = f"not run: {why}"


def test_substitutions_are_needed() -> None:
    text = "".join(block.text for page in GUIDE for block in blocks(page, "sh", "python"))
    for old, _, why in SUBSTITUTIONS:
        assert old in text, f"nothing to substitute any more: {old!r}, {why}"
    examples = "".join(example.read_text() for example in (REPOSITORY / "examples").glob("*.toml"))
    for old, _, why in IN_EXAMPLES:
        assert old in examples, f"nothing to substitute any more: {old!r}, {why}"


def test_the_demo_is_what_stands_for_it() -> None:
    source = (REPOSITORY / "xtask/src/demo.rs").read_text()
    stands_for = {old: new for old, new, _ in SUBSTITUTIONS}["cargo xtask demo"].split()
    assert ", ".join(f'"{word}"' for word in stands_for[1:]) in source
