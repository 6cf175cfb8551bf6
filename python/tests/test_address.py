"""Addresses mean what they mean to the programs: all read one table."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import REPOSITORY, Cluster

import nadgrid
from nadgrid import _toml
from nadgrid._address import Address
from nadgrid._connection import Settings

TABLE: dict[str, Any] = _toml.read((REPOSITORY / "tests" / "data" / "addresses.toml").read_text(encoding="utf-8"))


def settings(url: str, token: str | None = None, **variables: str) -> Settings:
    return Settings(url, token, None, None, None, None, None, None, variables)


@pytest.mark.parametrize(("text", "url"), TABLE["accepted"])
def test_what_is_accepted_means_the_same_to_all(text: str, url: str) -> None:
    assert Address.of(text).url == url
    # An address in full is itself.
    assert Address.of(url) == Address.of(text)


@pytest.mark.parametrize("text", TABLE["refused"])
def test_what_is_refused_is_refused_by_all(text: str) -> None:
    with pytest.raises(nadgrid.SettingsError, match="no address of a coordinator") as error:
        Address.of(text)
    assert error.value.field == "url"
    assert "word@" not in str(error.value)


def test_what_is_wrong_is_told() -> None:
    for text, words in [
        ("grid.example:99999", "a port is a number from 1 to 65535"),
        ("http://grid.example:" + "9" * 5000, "a port is a number from 1 to 65535"),
        ("::1:7400", "an IPv6 address stands in brackets"),
        ("http://[::zz]", "expected http://HOST:PORT"),
        ("http://[1::2::3]", "1::2::3 is no IPv6 address"),
    ]:
        with pytest.raises(nadgrid.SettingsError, match=words) as error:
            Address.of(text)
        assert len(str(error.value)) < 500


def test_this_machine_has_several_names() -> None:
    for local in ("localhost", "LOCALHOST:1", "127.0.0.2", "[::1]:7400"):
        assert settings(local, "word").address.is_local, local
    for other in ("localhost.example", "127.0.0.1.example", "192.0.2.1", "[2001:db8::1]"):
        with pytest.raises(nadgrid.SettingsError, match="would be sent unencrypted"):
            settings(other, "word")


@pytest.mark.parametrize(("word", "told"), [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("no", False)])
def test_a_flag_is_a_word_for_yes_or_no(word: str, told: bool) -> None:
    if told:
        assert settings("192.0.2.1", "word", NADGRID_INSECURE_TOKEN=word).token == "word"
    else:
        with pytest.raises(nadgrid.SettingsError, match="would be sent unencrypted"):
            settings("192.0.2.1", "word", NADGRID_INSECURE_TOKEN=word)


def test_another_word_is_not_taken_for_no() -> None:
    with pytest.raises(nadgrid.SettingsError, match=r"NADGRID_INSECURE_TOKEN = 'ture': expected 1, true or yes"):
        settings("192.0.2.1", "word", NADGRID_INSECURE_TOKEN="ture")


def test_upper_case_leads_to_the_coordinator(cluster: Cluster) -> None:
    with nadgrid.connect(cluster.url.upper()) as grid:
        assert grid.url == cluster.url
