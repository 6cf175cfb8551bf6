"""Addresses, tokens and certificates: what is sent where, and what is said when it is of no use."""

from __future__ import annotations

from pathlib import Path

import pytest
from authority import LOOPBACK, Authority
from cluster import Cluster
from conftest import NADS
from cryptography import x509

import nadgrid

# Of a network for documentation: nothing is ever sent there.
ELSEWHERE = "http://192.0.2.1:7400"


def test_a_token_goes_in_the_clear_to_this_machine_only() -> None:
    with pytest.raises(nadgrid.SettingsError, match=r"192\.0\.2\.1.*insecure_token") as error:
        nadgrid.connect(ELSEWHERE, token="secret-word")
    assert error.value.field == "token"
    assert "secret-word" not in str(error.value)


def test_a_token_in_the_clear_can_be_allowed(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    from nadgrid._connection import Settings

    def settings(insecure_token: bool | None) -> Settings:
        return Settings(ELSEWHERE, "word", None, None, None, None, None, insecure_token)

    assert settings(True).token == "word"
    monkeypatch.setenv("NADGRID_INSECURE_TOKEN", "1")
    assert settings(None).token == "word"
    assert "word" not in repr(settings(None))
    with pytest.raises(nadgrid.SettingsError):
        settings(False)
    # A coordinator without access control takes any.
    with nadgrid.connect(cluster.url, token="word") as grid:
        assert isinstance(grid.sweeps(), nadgrid.Sweeps)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host",
        "http://",
        "http://a b",
        "http://host:port",
        "http://user@host",
        "http://host/path",
        "https://?x",
    ],
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    # An empty argument is one, too: only a missing one stands for the usual address.
    with pytest.raises(nadgrid.SettingsError, match="no address") as error:
        nadgrid.connect(url)
    assert error.value.field == "url"


def test_nobody_there_is_unreachable_at_once() -> None:
    with pytest.raises(nadgrid.Unreachable, match=r"127\.0\.0\.1:9 cannot be reached.*refused") as error:
        nadgrid.connect("127.0.0.1:9")
    assert isinstance(error.value, ConnectionError)


def test_the_variables_are_those_of_the_command_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NADGRID_COORDINATOR", cluster.url)
    with nadgrid.connect() as grid:
        assert grid.url == cluster.url
        assert cluster.url in repr(grid)
    for name, field in [("TOKEN_FILE", "token_file"), ("TLS_CA", "ca"), ("TLS_KEY", "key")]:
        with monkeypatch.context() as only:
            only.setenv("NADGRID_COORDINATOR", "https://127.0.0.1:9")
            only.setenv(f"NADGRID_{name}", "/no/such/file")
            with pytest.raises(nadgrid.SettingsError) as error:
                nadgrid.connect()
            assert error.value.field == field, name


def test_what_is_wrong_with_a_file_is_told_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("hush hush\n")
    with pytest.raises(nadgrid.SettingsError, match="token_file: a token is one word") as error:
        nadgrid.connect(token_file=file)
    assert "hush" not in str(error.value)
    with pytest.raises(nadgrid.SettingsError, match="token: a token is one word"):
        nadgrid.connect(token="")
    with pytest.raises(nadgrid.SettingsError, match=r"ca: .* contains no certificate in PEM"):
        nadgrid.connect("https://127.0.0.1:9", ca=file)
    with pytest.raises(nadgrid.SettingsError, match="certificate requires key"):
        nadgrid.connect("https://127.0.0.1:9", certificate=file)


def test_tokens_roles_and_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(tokens=["ada"]) as cluster:
        with pytest.raises(nadgrid.Unauthenticated) as missing:
            nadgrid.connect(cluster.url)
        assert missing.value.reason == "TOKEN_MISSING"
        with pytest.raises(nadgrid.Unauthenticated) as unknown:
            nadgrid.connect(cluster.url, token="nadgrid_0")
        assert unknown.value.reason == "TOKEN_UNKNOWN"
        with pytest.raises(nadgrid.AccessDenied) as role:
            nadgrid.connect(cluster.url, token_file=cluster.token("tests", role="worker"))
        assert role.value.reason == "ROLE_WRONG"
        assert not isinstance(role.value, nadgrid.Unauthenticated)
        assert isinstance(role.value, PermissionError)

        with nadgrid.connect(cluster.url, token=cluster.token("tests").read_text()) as admin:
            sweep = admin.submit(NADS)
            assert sweep.owner == "tests"
        monkeypatch.setenv("NADGRID_TOKEN_FILE", str(cluster.token("ada")))
        with nadgrid.connect(cluster.url) as ada, pytest.raises(nadgrid.AccessDenied) as other:
            ada.sweep(sweep.id)
        assert other.value.reason == "NOT_YOURS"


def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.sign("grid", LOOPBACK)
    with Cluster("--tls-certificate", certificate, "--tls-key", key, tokens=True) as cluster:
        assert cluster.url.startswith("https://")
        cluster.access = ["--tls-ca", str(authority.file)]
        cluster.add_worker()
        token = cluster.token("tests")
        with nadgrid.connect(cluster.url, token_file=token, ca=authority.file) as grid:
            assert grid.submit(NADS).wait(timeout=60).state == "complete"
        # The system does not trust it, and plain http is not spoken there.
        with pytest.raises(nadgrid.Unreachable, match=r"(?i)handshake|certificate"):
            nadgrid.connect(cluster.url, token_file=token)
        with pytest.raises(nadgrid.Unreachable):
            nadgrid.connect(cluster.url.replace("https", "http"), token_file=token)


def test_mutual_tls_and_a_certificate_of_another_name(tmp_path: Path) -> None:
    authority, clients = Authority(tmp_path, "authority"), Authority(tmp_path, "clients")
    certificate, key = authority.sign("grid", x509.DNSName("grid.example"))
    own, own_key = clients.sign("ada", x509.DNSName("ada.example"))
    with Cluster("--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", clients.file) as cluster:
        with nadgrid.connect(
            cluster.url, ca=authority.file, certificate=own, key=own_key, domain="grid.example"
        ) as grid:
            assert not grid.sweeps()
            # The page, too.
            assert b"sweeps" in grid._connection.page.get("api", "sweeps")
        with pytest.raises(nadgrid.Unreachable):
            nadgrid.connect(cluster.url, ca=authority.file, domain="grid.example")
        with pytest.raises(nadgrid.Unreachable):
            nadgrid.connect(cluster.url, ca=authority.file, certificate=own, key=own_key)
