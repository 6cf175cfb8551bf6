"""What the pages mention is there: links, anchors, files, flags, variables, exit codes, commands."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from cluster import REPOSITORY, Cluster, clean_environment, program
from pages import GUIDE, OTHERS, anchors, blocks, links, prose, read, resolve, words_of_code

PAGES = [*GUIDE, *OTHERS]
PROGRAMS = ("nadgrid", "nadgrid-coordinator", "nadgrid-worker")

#: Flags of programs that are not ours.
FOREIGN_FLAGS = {
    *("--release", "--example", "--test", "--workspace", "--lib", "--bins", "--nocapture"),
    *("--config.file", "--strict"),
}
#: Words that begin like a program's name and are none of its commands.
NO_COMMANDS = {"COMMAND", "..."}
#: Paths that come about, or that are a reader's own.
COMES_ABOUT = ("out/", "target/", "data/", "/", "~", "ab/", "torch/lib")
#: Folders of the repository that a path may begin with.
FOLDERS = sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith("."))


@cache
def help_of(*command: str) -> str:
    """What a program says of itself or of one of its commands."""
    done = subprocess.run(
        [program(command[0]), *command[1:], "--help"], env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@cache
def commands(*command: str) -> list[str]:
    """The commands that a program has, or a command."""
    told = help_of(*command).partition("\nCommands:\n")[2].partition("\n\n")[0]
    return [name for name in re.findall(r"^  ([a-z]+)", told, re.MULTILINE) if name != "help"]


@cache
def everything() -> tuple[tuple[str, ...], ...]:
    """Every command there is, with its words."""
    found: list[tuple[str, ...]] = [(name,) for name in PROGRAMS]
    for command in found:
        found += [(*command, name) for name in commands(*command)]
    return tuple(found)


def flags_of(*command: str) -> set[str]:
    return set(re.findall(r"(--[a-z][a-z0-9-]*)", help_of(*command)))


@cache
def sources_of_chores() -> str:
    """Where the flags of ``cargo xtask`` and its scripts are."""
    folder = REPOSITORY / "xtask"
    return "".join(path.read_text() for path in sorted(folder.rglob("*")) if path.suffix in (".rs", ".py", ".sh"))


def is_chores(flag: str) -> bool:
    name = flag.removeprefix("--")
    return any(words in sources_of_chores() for words in (f'"{flag}"', f"{name.replace('-', '_')}: ", f"{flag} "))


def text_of(page: str) -> str:
    """Words in the type of code and commands of a page, a line each."""
    shell = [block.text.replace("\\\n", " ") for block in blocks(page, "sh")]
    return "\n".join([*words_of_code(page), *shell])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        if re.match(r"https?://", target):
            continue
        file, anchor = resolve(page, target)
        assert file.exists(), f"{page}: {target}"
        if anchor:
            there = str(file.resolve().relative_to(REPOSITORY))
            assert anchor in anchors(there), f"{page}: {target}; there are {sorted(anchors(there))}"


def test_the_guide_has_an_index() -> None:
    listed = links("docs/README.md")
    for page in GUIDE:
        name = Path(page).name
        assert page in ("README.md", "docs/README.md") or name in listed, f"{page} is not in the index"
    assert "docs/README.md" in links("README.md")


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_prose_has_one_width(page: str) -> None:
    """Lines of at most 120 columns; tables and code may be wider, and so is what is generated."""
    if page == "docs/spec.md":
        return
    wide = [line for line in prose(page).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not wide, f"{page}: {wide}"


@pytest.mark.parametrize("page", PAGES)
def test_files_are_there(page: str) -> None:
    base = (REPOSITORY / page).parent
    for word in words_of_code(page):
        path = word.split("#")[0]
        if not re.fullmatch(r"[\w./-]+", path) or "/" not in path or path.startswith(COMES_ABOUT):
            continue
        # Capitals stand for something, and these name no folder of ours.
        if re.search(r"\b[A-Z]{2,}\b", path.replace("README", "")) or path.split("/")[0] not in FOLDERS:
            continue
        assert (REPOSITORY / path).exists() or (base / path).exists() or _is_result(path), f"{page}: `{word}`"


def _is_result(path: str) -> bool:
    """Whether it is a file of a result folder or a job, as the commands' test finds them."""
    return path.split("/")[0] in ("nads", "directional", "poisoning", "flipping", "margins")


@pytest.mark.parametrize("page", PAGES)
def test_flags_are_there(page: str) -> None:
    of_all = set().union(*(flags_of(*command) for command in everything()))
    for line in text_of(page).splitlines():
        line = line.split(" # ")[0]
        for part in re.split(r"[|;]|&&|\$\(", line):
            words = part.replace(")", "").split()
            named = next((place for place, word in enumerate(words) if Path(word).name in PROGRAMS), None)
            flags = re.findall(r"(?<![\w-])(--[a-z][\w.-]*)", part)
            if named is None:
                for flag in flags:
                    known = flag in of_all or flag in FOREIGN_FLAGS or is_chores(flag)
                    assert known, f"{page}: no program has {flag}: {line!r}"
                continue
            command = _command(words[named:])
            known_flags = flags_of(*command)
            for flag in flags:
                assert flag in known_flags, f"{page}: {' '.join(command)} has no {flag}: {line!r}"


def _command(words: list[str]) -> tuple[str, ...]:
    """The command that words call: options with values may come before it."""
    found: tuple[str, ...] = (Path(words[0]).name,)
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("-"):
            if re.search(rf"{re.escape(word)} <", help_of(*found)):
                next(rest, None)
        elif word in commands(*found):
            found = (*found, word)
        else:
            break
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_there(page: str) -> None:
    for line in text_of(page).splitlines():
        for name, word in re.findall(r"(?:^|[\s/$(])(nadgrid(?:-worker)?) ([a-z]+|COMMAND)\b", line.split(" # ")[0]):
            assert word in commands(name) or word in NO_COMMANDS, f"{page}: {name} has no command {word}: {line!r}"


def test_every_command_is_told() -> None:
    told = prose("docs/terminal.md")
    for name in commands("nadgrid"):
        assert re.search(rf"`(nadgrid )?{name}\b", told), f"docs/terminal.md does not tell of {name}"


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_known(page: str) -> None:
    asked = "".join(help_of(*command) for command in everything())
    known = set(re.findall(r"NADGRID_[A-Z_]+", asked))
    for name in ("nadgrid-coordinator", "nadgrid-worker"):
        known |= {f"NADGRID_{flag[2:].replace('-', '_').upper()}" for flag in flags_of(name)}
    known |= {"NADGRID_LIMITS"}
    # Of tests and chores: no program sees them.
    for folder, ending in (
        ("tests", "*.py"),
        ("python/tests", "*.py"),
        ("proto", "*.rs"),
        ("core/tests", "*.rs"),
        ("xtask", "*.rs"),
        ("worker/src", "device.rs"),
    ):
        for source in (REPOSITORY / folder).rglob(ending):
            if source.name != Path(__file__).name:
                known |= set(re.findall(r"NADGRID_[A-Z_]+", source.read_text()))
    for variable in re.findall(r"NADGRID_[A-Z_]+", read(page)):
        assert variable in known, f"{page}: {variable}"


def _table(page: str, heading: str) -> dict[int, list[str]]:
    """The rows of the table below a heading, by the code in their first column."""
    section = read(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE)
    return {int(code): [cell.strip() for cell in cells.split("|")] for code, cells in rows}


def test_exit_codes_are_those_of_help() -> None:
    section = help_of("nadgrid").split("Exit codes:\n")[1].split("\n\n")[0]
    told = {int(code): words for code, words in re.findall(r"^ +(\d+) +(.+)$", section, re.MULTILINE)}
    written = {code: cells[0] for code, cells in _table("docs/terminal.md", "Exit codes").items()}
    assert set(told) == set(written)
    for code, words in told.items():
        assert written[code].replace("`", "").startswith(words), code


def test_exit_codes_are_the_programs(tmp_path: Path) -> None:
    """Those that can be had without a lost GPU or a wrong bit."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("nonsense")

    def code(name: str, *arguments: str | Path) -> int:
        ended = subprocess.run([program(name), *arguments], env=clean_environment(), capture_output=True, cwd=tmp_path)
        return ended.returncode

    nobody = "http://127.0.0.1:1"
    assert code("nadgrid", "init", "fine.toml") == 0
    assert code("nadgrid", "plan", "not-there.toml") == 1
    assert code("nadgrid", "plan", wrong) == 2
    assert code("nadgrid", "--no-such-flag") == 2
    assert code("nadgrid", "--coordinator", nobody, "list") == 3
    with Cluster(tokens=["ada"]) as cluster:
        assert code("nadgrid", "--coordinator", cluster.url, "list") == 6
        sweep = cluster.submit("lenet.toml")
        cluster.nadgrid("cancel", sweep)
        assert cluster.run("watch", sweep).returncode == 4
        assert cluster.run("status", "not-there").returncode == 1
        worker: list[str | Path] = ["--coordinator", cluster.url, "--token-file", cluster.token("ada")]
        assert code("nadgrid-worker", *worker) == 4
    assert code("nadgrid-worker", "--config", wrong) == 2
    assert code("nadgrid-worker", "--no-such-flag") == 2
    assert code("nadgrid-worker", "--coordinator", nobody, "--connect-timeout", "0") == 3
    assert code("nadgrid-worker", "--device", "cuda:99") == 1
    assert code("nadgrid-coordinator", "--config", wrong) == 1
    assert code("nadgrid-coordinator", "--no-such-flag") == 2
    told = _table("docs/operations.md", "Exit codes")
    assert set(told) == {0, 1, 2, 3, 4, 5, 6}
    assert {code for code, cells in told.items() if cells[0]} == {0, 1, 2}
