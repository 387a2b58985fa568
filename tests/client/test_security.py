"""TLS, mutual TLS and token headers against a real server that demands them, accepted and refused."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_client import AccessDenied, InvalidConfig, ServerGone, TlsConfig

from asrloop.tritonserver.install import TritonInstallation
from tests.client.stand_in import StandIn

Connect = Callable[..., Any]
ONES = np.ones(160, np.float32)


class Authority:
    """A certificate authority made for one test run, with the openssl command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.root = folder / "root.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test root",
                      "-keyout", "root.key", "-out", "root.pem")  # fmt: skip

    def issue(self, name: str) -> tuple[Path, Path]:
        """Key and certificate for `name`, valid for 127.0.0.1."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
                      "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
        return self.folder / f"{name}.key", self.folder / f"{name}.pem"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is missing")
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def mutual_tls(authority: Authority, installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Any:
    key, certificate = authority.issue("server")
    arguments = ["--grpc-use-ssl=true", "--grpc-use-ssl-mutual=true", f"--grpc-server-cert={certificate}",
                 f"--grpc-server-key={key}", f"--grpc-root-cert={authority.root}"]  # fmt: skip
    server = StandIn(installation, tmp_path_factory.mktemp("mutual") / "log", arguments)
    yield server.start()
    server.kill()


@pytest.fixture(scope="module")
def restricted(installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Any:
    argument = "--grpc-restricted-protocol=inference,health,model-repository:token=s3cret"
    server = StandIn(installation, tmp_path_factory.mktemp("restricted") / "log", [argument])
    yield server.start()
    server.kill()


def test_tls_is_accepted_with_the_right_root_and_refused_without(
    connect: Connect, authority: Authority, make_stand_in: Callable[..., StandIn], tmp_path: Path
) -> None:
    key, certificate = authority.issue("plain")
    server = make_stand_in("--grpc-use-ssl=true", f"--grpc-server-cert={certificate}", f"--grpc-server-key={key}")
    client = connect(server.address, tls=TlsConfig(root_certificates=authority.root))
    assert client.transcribe(ONES).text == "160 160 16000"
    stranger = Authority(tmp_path / "stranger")
    with pytest.raises(ServerGone, match="`tls`"):
        connect(server.address, tls=TlsConfig(root_certificates=stranger.root))
    with pytest.raises(ServerGone):
        connect(server.address)


def test_mutual_tls_wants_the_clients_certificate(
    connect: Connect, authority: Authority, mutual_tls: StandIn, tmp_path: Path
) -> None:
    key, chain = authority.issue("client")
    good = TlsConfig(root_certificates=authority.root, private_key=key, certificate_chain=chain)
    assert connect(mutual_tls.address, tls=good).transcribe(ONES).text == "160 160 16000"
    with pytest.raises(ServerGone):
        connect(mutual_tls.address, tls=TlsConfig(root_certificates=authority.root))
    key, chain = Authority(tmp_path / "stranger").issue("client")
    bad = TlsConfig(root_certificates=authority.root, private_key=key, certificate_chain=chain)
    with pytest.raises(ServerGone):
        connect(mutual_tls.address, tls=bad)


def test_a_certificate_that_cannot_be_read_is_named(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"tls\.root_certificates .*none\.pem cannot be read"):
        connect("127.0.0.1:1", tls=TlsConfig(root_certificates=tmp_path / "none.pem"))
    with pytest.raises(InvalidConfig, match="give both or neither"):
        TlsConfig(private_key=tmp_path / "key.pem")


@pytest.mark.parametrize(
    "right", [{"token": "s3cret"}, {"headers": {"triton-grpc-protocol-token": "s3cret"}}], ids=["token", "headers"]
)
def test_the_right_token_is_accepted(connect: Connect, restricted: StandIn, right: dict[str, Any]) -> None:
    client = connect(restricted.address, **right)
    assert client.transcribe(ONES).text == "160 160 16000"
    assert client.health()[0].ready


@pytest.mark.parametrize("wrong", [{}, {"token": "guess"}], ids=["none", "wrong"])
def test_no_token_or_a_wrong_one_is_refused_at_once(
    connect: Connect, restricted: StandIn, wrong: dict[str, str]
) -> None:
    client = connect(restricted.address, **wrong)
    with pytest.raises(AccessDenied, match="Give the token"):
        client.transcribe(ONES)
    assert client.stats()[0].calls == 1, "retried"
    assert client.stats()[0].live
