"""Writes docs/spec.md, the reference of specs, from what ``nadgrid init`` says of every key.

    python3 docs/make_spec.py                                  # with the nadgrid of target/debug
    python3 docs/make_spec.py /usr/local/bin/nadgrid           # with another one

``nadgrid init`` is the one place in which keys are explained, and its tests hold it against the reader of specs. What stands here
besides are examples and the architectures; a name that nadgrid has and this file lacks ends the program. tests/docs compares the
page with what this program would write, and runs the examples. Needs Python's standard library alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
EXPERIMENTS = ("nads", "directional", "poisoning", "flipping", "margins")
ON_IMAGES = ("poisoning", "flipping", "margins")

#: What is inside, and how many parameters with 1 channel and 1 output (NADs), 1 channel and 2 classes, 3 channels and 10.
ARCHITECTURES = {
    "logreg": ("logistic regression: one linear layer", "1,025 / 2,050 / 30,730"),
    "lenet": (
        "conv 5 x 5 to 6, ReLU, max pool, conv 5 x 5 to 16, ReLU, max pool, linear 120, 84",
        "60,941 / 61,026 / 62,006",
    ),
    "vgg11": (
        "eight conv 3 x 3 with ReLU, five max pools, linear 512, 512 with dropout; convolutions drawn by fan-out",
        "9,745,153 / 9,745,666 / 9,750,922",
    ),
    "vgg11_bn": ("the same with batch norm", "9,750,657 / 9,751,170 / 9,756,426"),
    "resnet18": ("the CIFAR form: 3 x 3 stem, basic blocks [2, 2, 2, 2]", "11,168,193 / 11,168,706 / 11,173,962"),
    "densenet121": (
        "the CIFAR form: growth 32, blocks [6, 12, 24, 16]",
        "6,945,921 / 6,946,946 / 6,956,298",
    ),
    "deep_linear": (
        "circular conv 4 x 4, average pool 4 x 4, one linear layer: its spectrum is known in closed form",
        "81 / 146 / 698",
    ),
}


@dataclass
class Key:
    """A key of a spec."""

    name: str
    value: str
    meaning: str
    #: ``None`` for a key that must be there.
    default: str | None
    #: Empty where the meaning says all.
    accepted: str
    #: Whether it stands behind a #, in place of others.
    is_alternative: bool


@dataclass
class Section:
    """A table of a spec."""

    meaning: str
    keys: dict[str, Key]


def read(text: str) -> dict[str, Section]:
    """The sections of what ``nadgrid init`` writes, by name; that before the first table is ``""``."""
    sections = {"": Section("", {})}
    here = sections[""]
    words: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r"\[(.+)\]", line):
            here = sections[found[1]] = Section(join(words), {})
        elif found := re.fullmatch(r"(# )?([a-z_0-9]+) = (.+)", line):
            here.keys[found[2]] = key(found[2], found[3], join(words), found[1] is not None)
        elif line.startswith("# "):
            words.append(line.removeprefix("# "))
            continue
        elif line:
            raise SystemExit(f"nadgrid init says what this program cannot read: {line!r}")
        words = []
    return sections


def join(words: list[str]) -> str:
    return " ".join(words)


def key(name: str, value: str, words: str, is_alternative: bool) -> Key:
    found = re.fullmatch(r"(.*?)(?: ?(?:No default|Default: (\S+|\".*?\"))\.)?(?: ?Accepted: (.+)\.)?", words)
    if not found or not found[1] or re.search("default: |accepted: |no default", found[1], re.IGNORECASE):
        raise SystemExit(f"nadgrid init explains {name} in a way that this program cannot read: {words!r}")
    return Key(name, value, found[1], found[2], found[3] or "", is_alternative)


def init(program: str | Path, *experiments: str) -> dict[str, Section]:
    """What ``nadgrid init`` says of these experiments."""
    chosen = [word for experiment in experiments for word in ("--experiment", experiment)]
    done = subprocess.run([program, "init", "-", *chosen], capture_output=True, text=True, check=True)
    return read(done.stdout)


def table(section: Section, leave_out: tuple[str, ...] = ()) -> str:
    """A section's keys as a table; the meaning goes last, since it is the longest."""
    lines = ["| key | default | accepted | meaning |", "|---|---|---|---|"]
    for entry in section.keys.values():
        if entry.name not in leave_out:
            default = "required" if entry.default is None else f"`{entry.default}`"
            lines.append(f"| `{entry.name}` | {default} | {code(entry.accepted)} | {entry.meaning} |")
    return "\n".join(lines)


def code(words: str) -> str:
    """Quoted values in the type of code."""
    return re.sub(r'"[^"]+"', lambda found: f"`{found[0]}`", words)


def same(sections: list[Section], what: str) -> Section:
    """The first of sections that say the same of the same keys, but for defaults."""
    said = [[(entry.name, entry.meaning, entry.accepted) for entry in section.keys.values()] for section in sections]
    if any(other != said[0] for other in said):
        raise SystemExit(f"nadgrid init does not say the same of every {what}: describe them one by one")
    return sections[0]


def training(sections: dict[str, Section]) -> str:
    recipes = {name: sections[f"{name}.training"] for name in EXPERIMENTS if f"{name}.training" in sections}
    first = same(list(recipes.values()), "[training]")
    on_images = [[entry.default for entry in recipes[name].keys.values()] for name in ON_IMAGES]
    if any(other != on_images[0] for other in on_images):
        raise SystemExit("experiments on images have different recipes by now: give each a column")
    lines = ["| key | default of `directional` | of the others | accepted | meaning |", "|---|---|---|---|---|"]
    for entry in first.keys.values():
        other = recipes["poisoning"].keys[entry.name].default
        lines.append(f"| `{entry.name}` | `{entry.default}` | `{other}` | {code(entry.accepted)} | {entry.meaning} |")
    return "\n".join(lines)


def directions(sections: dict[str, Section], alone: dict[str, Section]) -> str:
    """Keys by the kinds that have them, which are told where their meaning begins."""
    own, other = sections["directional.directions"].keys, alone["directional.directions"].keys
    kinds = re.findall(r"([a-z]+): ", own["kind"].meaning)
    lines = ["| key | of kind | default | meaning |", "|---|---|---|---|"]
    lines.append(f"| `kind` | all | required | {own['kind'].meaning} |")
    for name, entry in own.items():
        if name == "kind":
            continue
        found = re.fullmatch(r"Of kinds? ([a-z, ]+?): (.+)", entry.meaning)
        if not found:
            raise SystemExit(f"nadgrid init does not say of which kind directional.directions.{name} is")
        of = re.split(r", | and ", found[1])
        if unknown := set(of) - set(kinds):
            raise SystemExit(f"nadgrid init speaks of kinds that there are not: {unknown}")
        default = other[name].default
        meaning = found[2][0].upper() + found[2][1:]
        if accepted := entry.accepted or other[name].accepted:
            meaning += f" Accepted: {code(accepted)}."
        shown = f"`{default}`" if default else ""
        lines.append(f"| `{name}` | {', '.join(f'`{kind}`' for kind in of)} | {shown} | {meaning} |")
    return "\n".join(lines)


def architectures(sections: dict[str, Section]) -> str:
    known = re.search(r"one or more of (.+), each", sections[""].keys["architectures"].accepted)
    names = known[1].split(", ") if known else []
    if set(names) != set(ARCHITECTURES):
        raise SystemExit(f"nadgrid has the architectures {names}; describe each in {Path(__file__).name}")
    lines = ["| name | layers | parameters |", "|---|---|---|"]
    lines += [f"| `{name}` | {ARCHITECTURES[name][0]} | {ARCHITECTURES[name][1]} |" for name in names]
    return "\n".join(lines)


def page(program: str | Path) -> str:
    """The whole page."""
    sections, alone = init(program, *EXPERIMENTS), init(program, "directional")
    known = {"", "input", "cifar10", "directional.directions", *EXPERIMENTS}
    known |= {f"{name}.basis" for name in ON_IMAGES} | {f"{name}.training" for name in EXPERIMENTS[1:]}
    if set(sections) != known:
        raise SystemExit(
            f"nadgrid init has the sections {sorted(set(sections) ^ known)} more or less than this program"
        )
    basis = same([sections[f"{name}.basis"] for name in ON_IMAGES], "[basis]")
    fill = {
        "sweep": table(sections[""]),
        "architectures": architectures(sections),
        "input": table(sections["input"]),
        "input_meaning": sections["input"].meaning.removesuffix(" Experiments on CIFAR-10 need 3 x 32 x 32."),
        "cifar10": table(sections["cifar10"]),
        "cifar10_meaning": sections["cifar10"].meaning,
        "directions": directions(sections, alone),
        "basis": "\n".join(
            [
                "| key | meaning |",
                "|---|---|",
                *(f"| `{entry.name}` | {entry.meaning} |" for entry in basis.keys.values()),
            ]
        ),
        "training": training(sections),
    }
    for name in EXPERIMENTS:
        fill[name] = table(sections[name])
        fill[f"{name}_meaning"] = sections[name].meaning
    return re.sub(r"@(\w+)@", lambda found: fill[found[1]], TEXT)


TEXT = """\
<!-- Written by docs/make_spec.py from what `nadgrid init` says; change client/src/cli/commands/init/keys.rs or that program. -->
# The spec

What a sweep is to compute stands in one TOML file. `nadgrid init` writes one in which every key is explained, `nadgrid plan`
checks it and tells what it will take, and `--set nads.networks=256` changes any key from outside. A key that is not known, or a
value that is not accepted, is refused with its line, its column and the nearest name. [concepts.md](concepts.md) explains the
words, [science.md](science.md) what is computed.

```sh
nadgrid init nads.toml --experiment nads --architecture lenet --architecture logreg
nadgrid plan nads.toml --set nads.networks=256
```

The smallest spec:

```toml
name = "lenet"
architectures = ["lenet"]
nads = { networks = 2048 }
```

A spec has one experiment or several, each done for all architectures; an experiment and an architecture are a job. Tables may
be written as sections or inline.

## The sweep

@sweep@

`seed` decides all weights, data, orders and directions: another one is another sample. `precision` becomes part of the
[numerics class](concepts.md#numerics-class). `audit` is explained [there](concepts.md#audit-and-verification), too.

## Architectures

@architectures@

Parameters are those on 32 x 32 pixels, for NADs (1 channel, 1 output), directional runs (1 channel, 2 classes) and CIFAR-10 (3
channels, 10 classes). Weights are drawn as PyTorch draws them by default, from U(-1/sqrt(fan-in), 1/sqrt(fan-in)), but for
VGG11's convolutions: N(0, 2/(k^2 x output channels)), bias 0.

## `[input]`

@input_meaning@

@input@

The experiments on CIFAR-10 want 3 x 32 x 32.

## `[nads]`

@nads_meaning@ Formulas: [NADs](science.md#nads).

@nads@

## `[directional]`

@directional_meaning@ Formulas: [directional data](science.md#directional-data).

@directional@

### `[directional.directions]`

@directions@

Each kind:

```toml
[directional]
directions = { kind = "dft" }                                        # 144 cosines, a map
```

```toml
[directional]
directions = { kind = "dft", frequencies = [[0, 1], [3, 4]], wave = "sine" }
```

```toml
[nads]
networks = 2048

[directional]
directions = { kind = "nads", indices = [0, 1, 2, { start = 10, end = 1000, stride = 90 }] }
sigma = 1.0
```

```toml
[directional]
directions = { kind = "nads", sweep = "ID", indices = [0, 10, 100] }  # of an earlier sweep at the same coordinator
```

```toml
[directional]
directions = { kind = "file", path = "tests/data/published/LeNet_NADs.npy", indices = [0, 50, 200] }
seeds = 3
```

```toml
[directional]
directions = { kind = "pixels", indices = [0, 528] }                 # row 16, column 16 of 32 x 32
```

```toml
[directional]
directions = { kind = "random", count = 100 }
```

Rows of a file need not have norm 1: they are normalised.

## `[cifar10]`

@cifar10_meaning@ It is CIFAR-10's binary format: files of records of 1 label byte and 3,072 bytes of pixels.

@cifar10@

Each file has at most 256 MiB. What lies in the folder under other names is left out, and `nadgrid` says so.

## `[poisoning]`

@poisoning_meaning@ Formulas: [poisoning](science.md#poisoning).

@poisoning@

```toml
name = "poisoned"
architectures = ["lenet"]
input = { channels = 3 }

[cifar10]
path = "data/cifar-10-batches-bin"

[poisoning]
basis = { path = "tests/data/published/LeNet_NADs.npy" }
indices = [0, 10, { start = 20, end = 1021, stride = 100 }]
```

## `[flipping]`

@flipping_meaning@ Formulas: [flipping](science.md#flipping).

@flipping@

```toml
name = "flipped"
architectures = ["lenet"]
input = { channels = 3 }

[cifar10]
path = "data/cifar-10-batches-bin"

[flipping]
basis = { sweep = "ID" }           # each architecture's own NADs, of a sweep with one channel
training = { epochs = 20 }
```

## `[margins]`

@margins_meaning@ Formulas: [margins](science.md#margins).

@margins@

```toml
name = "margins"
architectures = ["lenet"]
input = { channels = 3 }

[cifar10]
path = "data/cifar-10-batches-bin"

[margins]
basis = { path = "tests/data/published/LeNet_NADs.npy" }
subspace = 32
stride = 64                        # blocks 0-31, 64-95, ...
images = 50
```

## A basis

`poisoning.basis`, `flipping.basis` and `margins.basis` say whose NADs are meant, one of:

@basis@

Rows are of one channel, height x width numbers, orthonormal to 1e-4. A file that lacks some (the published ones lack the last)
is completed for flipping and margins.

## Indices

A list of numbers and of ranges, which may be mixed. A range has `start`, `end` (left out itself) and perhaps `stride` (1):

```toml
[directional]
directions = { kind = "pixels", indices = [0, 10, { start = 14, end = 1023, stride = 4 }, { start = 1, end = 4 }] }
```

The order is kept. It is also that of the lines in the table of runs.

## Training

`[directional.training]`, `[poisoning.training]`, `[flipping.training]` and `[margins.training]` have the same keys. Formulas:
[training](science.md#training).

@training@

## Files

Paths are looked for in the spec's own folder, then in the current one. `nadgrid` checks the files before anything runs and
uploads what the coordinator does not have yet; `--set cifar10.path=DIR` names another folder.

## Result files

| experiment | tables and arrays | pictures |
|---|---|---|
| `nads` | in `nads/ARCH`, [these](quick-start.md#what-is-in-the-folder) | `nads/ARCH/figure`; `nads/spectra` of several |
| `directional` | `directional/ARCH.csv` | `directional/ARCH_map` of kind `dft`; `directional/curve` of kinds `nads` and `file` |
| `poisoning` | `poisoning/ARCH.csv` | `poisoning/curve` |
| `flipping` | `flipping/ARCH.csv` | `flipping/bars` |
| `margins` | `margins/ARCH.csv`, `margins/ARCH_margins.csv`, `margins/ARCH_margins.npy` | `margins/curve` |

`ARCH.csv` has a line for each run: `architecture`, `direction` or `set`, its parts as `kind`, `index`, `k1` and `k2`, `seed`,
`train_accuracy` and `test_accuracy` in percent, `train_loss` and `test_loss` in nats, `epochs`, `seconds`, `diverged_at`. A run
that diverged has the step there and no accuracy.
`ARCH_margins.csv` has the quartiles of each block of NADs, `ARCH_margins.npy` all margins, runs x blocks x images.
"""


if __name__ == "__main__":
    repository = DOCS.parent
    chosen = sys.argv[1] if len(sys.argv) > 1 else repository / "target" / "debug" / "nadgrid"
    (DOCS / "spec.md").write_text(page(chosen))
