"""TLS and tokens on a real connection: a TLS door in front of a real server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentmodel.cache import Valkey
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side has gone: so does the other
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):  # it was shut already
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def door(valkey_url: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """``host:port`` where the server is reached over TLS only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    target = urlsplit(valkey_url).port
    opened: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                plain, _ = listener.accept()
                opened.append(plain)
                with contextlib.suppress(ssl.SSLError, ConnectionError):  # a client that does not trust us
                    client = context.wrap_socket(plain, server_side=True)
                    server = socket.create_connection(("127.0.0.1", target or 0))
                    opened.extend((client, server))
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=_pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    for one in opened:
        one.close()


def settings(url: str) -> Settings:
    return Settings(valkey_url=url, valkey_timeout=5.0, valkey_connect_timeout=5.0)


def test_trusted(door: str, certificate: tuple[Path, Path]) -> None:
    """A server whose certificate is trusted is reached over TLS."""
    with Valkey(settings(f"valkeys://{door}/0?ssl_ca_certs={certificate[0]}")) as valkey:
        assert [b"v"] == valkey.execute_many([("SET", "k", "v"), ("GET", "k")])[1:]


def test_untrusted(door: str) -> None:
    """A certificate that nobody vouches for is refused, with the reason."""
    with Valkey(settings(f"valkeys://{door}/0")) as valkey, pytest.raises(CacheUnavailable, match=r"(?i)certificate"):
        valkey.execute(("PING",))


def test_token(door: str, certificate: tuple[Path, Path], valkey_url: str) -> None:
    """User and password come from a callback, which is asked anew for each connection: an old token is not kept."""
    with Valkey(settings(valkey_url)) as admin:
        admin.execute(("ACL", "SETUSER", "app", "reset", "on", ">first", "~*", "+@all"))
        tokens = iter(["first", "second"])
        url = f"valkeys://{door}/0?ssl_ca_certs={certificate[0]}"
        with Valkey(settings(url), credentials=lambda: ("app", next(tokens))) as valkey:
            assert b"app" == valkey.execute(("ACL", "WHOAMI"))

            admin.execute(("ACL", "SETUSER", "app", "resetpass", ">second"))
            admin.execute(("CLIENT", "KILL", "USER", "app"))

            assert b"app" == valkey.execute(("ACL", "WHOAMI"))
        admin.execute(("ACL", "DELUSER", "app"))
