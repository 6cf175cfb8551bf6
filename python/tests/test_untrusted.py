"""What a hostile coordinator sends is made harmless where it enters, and what an honest one sends stays as it is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import nadgrid
from nadgrid._text import clean
from nadgrid._untrusted import MOST_ENTRIES, bounded, clean_message, is_plain_id, plain_path, refuse_links
from nadgrid.v1 import nadgrid_pb2 as pb

PAINT = "\x1b]52;c;cm0gLXJm\x07\r\nerror: forged\u202e\x9b2J"


def test_no_text_is_obeyed_by_a_terminal() -> None:
    sweep = pb.Sweep(
        id=PAINT,
        name=PAINT,
        spec=PAINT + "\n\tx",
        message=PAINT,
        notices=[PAINT],
        numerics_class=pb.NumericsClass(device=PAINT),
        jobs=[pb.Job(experiment=PAINT)],
        failures=[pb.ShardFailure(workers=[PAINT], message="x" * 100_000)],
        artifacts=[pb.Artifact(name=PAINT, size=7)],
    )
    clean_message(sweep)
    texts = [sweep.id, sweep.name, sweep.message, *sweep.notices, sweep.numerics_class.device, sweep.jobs[0].experiment]
    for text in [*texts, sweep.failures[0].workers[0], sweep.artifacts[0].name]:
        assert "error: forged" in text
        assert text == clean(text)
        assert not any(letter in text for letter in "\x1b\x07\r\n\x9b\u202e")
    assert sweep.spec.endswith("\n\tx")
    assert "\x1b" not in sweep.spec
    assert len(sweep.failures[0].message) == 4_096
    assert sweep.artifacts[0].size == 7


def test_numbers_are_finite_and_moments_of_this_era() -> None:
    sweep = pb.Sweep(progress=math.nan, seconds_left=math.inf, weight=-1.0, jobs=[pb.Job(progress=7, seconds_left=-1)])
    sweep.submitted_at.seconds = 2**62
    sweep.ended_at.seconds = 1
    clean_message(sweep)
    assert (sweep.progress, sweep.weight, sweep.jobs[0].progress) == (0, 0, 1)
    assert math.isfinite(sweep.seconds_left)
    assert not sweep.jobs[0].HasField("seconds_left")
    assert not sweep.HasField("submitted_at")
    assert sweep.HasField("ended_at")


def test_lists_end_and_honest_messages_stay() -> None:
    listed = pb.ListResponse(notices=["x"] * (MOST_ENTRIES + 5))
    clean_message(listed)
    assert len(listed.notices) == MOST_ENTRIES
    honest = pb.Sweep(id="019a", name="é", spec="name = 'ü'\n", progress=0.5, notices=["no worker"], weight=1.0)
    honest.jobs.add(architecture="lenet", members=2**62, members_per_second=0.25, slot_seconds=0.0)
    same = pb.Sweep()
    same.CopyFrom(honest)
    clean_message(same)
    assert same == honest
    get = pb.ReadArtifactResponse(get=pb.PresignedRequest(url="http://x/" + "y" * 1_000, headers={"a": "b" * 1_000}))
    same_get = pb.ReadArtifactResponse()
    same_get.CopyFrom(get)
    clean_message(same_get)
    assert same_get == get


def test_names_and_ids_are_plain() -> None:
    for name in ("a\x1b[2J", "a\x00b", "a\u202eb", "-x", "a b", "a//b", "x" * 129, "x/" * 200 + "x"):
        with pytest.raises(nadgrid.CoordinatorError, match="accepted is a relative path"):
            plain_path(name)
    assert is_plain_id("0199b6f0-7d2c-7000-8000-000000000000")
    assert not any(map(is_plain_id, ("", "-x", "--out", "a b", "a/b", "x" * 65)))


def test_a_linked_folder_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "nads").symlink_to(tmp_path / "outside")
    refuse_links(tmp_path, "margins/lenet.csv")
    with pytest.raises(OSError, match=r"nads is a symbolic link"):
        refuse_links(tmp_path, "nads/lenet/nads.npy")


def test_entries_without_bytes_are_not_decoded_by_the_million() -> None:
    decode = bounded(pb.Sweep.FromString)
    honest = pb.Sweep(spec="name = 'x'\n" * 10_000, jobs=[pb.Job(architecture="lenet", members=7)] * 1_000)
    assert decode(honest.SerializeToString()) == honest
    # The last has a group at its end, which a decoder passes over.
    jobs = b"\x3a\x00" * (1 << 18)
    for bomb in (jobs, pb.SubmitResponse().SerializeToString() + jobs, jobs + b"\xa3\x06\xa4\x06", b"\x07" * (1 << 17)):
        assert isinstance(decode(bomb), nadgrid.CoordinatorError)
    # Within a message of its own, which is longer than one byte can say.
    within = b"\x0a\x80\x80\x20" + jobs
    assert len(jobs) == 1 << 19
    assert isinstance(bounded(pb.SubmitResponse.FromString)(within), nadgrid.CoordinatorError)
    # Bytes take no more than their length, whatever they look like.
    for data in (bytes(1 << 17), b"\n" * (1 << 20), bytes(range(256)) * 1_000, jobs + b"\xa3\x06\xa4\x06"):
        chunk = pb.ReadArtifactResponse(data=data)
        assert bounded(pb.ReadArtifactResponse.FromString)(chunk.SerializeToString()) == chunk
