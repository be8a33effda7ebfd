"""TLS as a connection's extras want it, and one context per process and settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from airflow_chat_provider.errors import InvalidConnection
from airflow_chat_provider.hooks import ChatCompletionHook
from airflow_chat_provider.testing import ChatServer
from airflow_chat_provider.transport import pools
from airflow_chat_provider.transport.async_network import AsyncBackend
from airflow_chat_provider.transport.pools import pool_for
from tests.support.calling import KEY, Create, acreate, both, create, failure, mute_port, outcome, transport_error
from tests.support.certs import Certificates, make_certificates

Connect = Callable[..., str]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of another CA."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[ChatServer]:
    with ChatServer(tls=certificates.server_tls) as server:
        yield server


@pytest.fixture
def mutual(certificates: Certificates) -> Iterator[ChatServer]:
    with ChatServer(tls=certificates.mutual_tls) as server:
        yield server


def context_of(hook: ChatCompletionHook) -> Any:
    return hook.session.client._transport._pool._ssl_context


@both
def test_a_server_of_the_given_ca_is_trusted(
    secure: ChatServer, connect: Connect, certificates: Certificates, create: Create
) -> None:
    connect(secure.url, extra={"verify": str(certificates.ca)})
    assert create(ChatCompletionHook()).text == "Hello"


@both
def test_a_folder_of_cas_is_read(
    secure: ChatServer, connect: Connect, certificates: Certificates, create: Create, tmp_path: Path
) -> None:
    connect(secure.url, extra={"verify": str(tmp_path), "max_attempts": 1})
    assert "CERTIFICATE_VERIFY_FAILED" in failure(create, ChatCompletionHook()).message


@pytest.mark.parametrize("verify", [None, True, "another CA"])
def test_an_unknown_ca_is_the_same_error_for_both_clients_and_no_key_is_sent(
    secure: ChatServer, connect: Connect, strangers: Certificates, verify: Any
) -> None:
    verify = str(strangers.ca) if verify == "another CA" else verify
    connect(secure.url, password=KEY, extra={"verify": verify, "max_attempts": 1})
    first, second = outcome(create, ChatCompletionHook()), outcome(acreate, ChatCompletionHook())
    assert first == second
    assert (first["error"], first["sent"]) == ("TransportError", False)
    assert "proxy and TLS extras" in first["message"]
    assert "CERTIFICATE_VERIFY_FAILED" in first["message"]
    assert secure.requests == []


@both
@pytest.mark.parametrize("verify", [False, "false"])
def test_verify_false_trusts_every_server(secure: ChatServer, connect: Connect, create: Create, verify: Any) -> None:
    connect(secure.url, extra={"verify": verify})
    assert create(ChatCompletionHook()).text == "Hello"


@both
@pytest.mark.parametrize("verify", [None, True])
def test_the_authorities_that_the_environment_names_are_trusted(
    *,
    secure: ChatServer,
    connect: Connect,
    certificates: Certificates,
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
    verify: Any,
) -> None:
    """Both HTTP libraries read it, whatever they trust without it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    monkeypatch.setattr(pools, "_context", pools._context.__wrapped__)  # no context that this process has made already
    connect(secure.url, extra={"verify": verify})
    assert create(ChatCompletionHook()).text == "Hello"


@both
def test_a_certificate_for_another_name_is_refused(connect: Connect, create: Create, tmp_path: Path) -> None:
    other = make_certificates(tmp_path, "other.example")
    with ChatServer(tls=other.server_tls) as server:
        connect(server.url, extra={"verify": str(other.ca), "max_attempts": 1})
        assert "Hostname mismatch" in transport_error(create, ChatCompletionHook()).message


@both
def test_a_server_without_tls_is_an_error_that_says_so(connect: Connect, create: Create) -> None:
    with mute_port() as listener, ThreadPoolExecutor(1) as pool:
        connect(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", extra={"max_attempts": 1})
        under_way = pool.submit(transport_error, create, ChatCompletionHook())
        taken, _ = listener.accept()
        with taken:
            taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            error = under_way.result(30)
    assert not error.sent
    assert "WRONG_VERSION_NUMBER" in error.message


@both
@pytest.mark.parametrize("separate", [True, False], ids=["key beside it", "key in one file"])
def test_a_client_certificate_is_shown(
    *, mutual: ChatServer, connect: Connect, certificates: Certificates, create: Create, tmp_path: Path, separate: bool
) -> None:
    extra = {"verify": str(certificates.ca), "client_cert": str(certificates.client_cert)}
    if separate:
        extra["client_key"] = str(certificates.client_key)
    else:
        joined = tmp_path / "both.pem"
        joined.write_bytes(certificates.client_key.read_bytes() + certificates.client_cert.read_bytes())
        extra["client_cert"] = str(joined)
    connect(mutual.url, extra=extra)
    assert create(ChatCompletionHook()).text == "Hello"


@both
def test_a_server_that_wants_a_client_certificate_refuses_without_one(
    mutual: ChatServer, connect: Connect, certificates: Certificates, create: Create
) -> None:
    """With TLS 1.3 the refusal comes after the handshake, as a read or a write."""
    connect(mutual.url, extra={"verify": str(certificates.ca), "max_attempts": 1})
    assert transport_error(create, ChatCompletionHook()).status is None
    assert mutual.requests == []


def encrypted(key: Path, target: Path) -> Path:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    form = serialization.BestAvailableEncryption(b"secret")
    target.write_bytes(
        loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, form)
    )
    return target


@both
@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"verify": "{tmp}/missing.pem"}, "verify", "No such file"),
        ({"verify": "{tmp}/text.pem"}, "verify", "no usable PEM"),
        ({"client_cert": "{tmp}/missing.pem"}, "client_cert", "No such file"),
        ({"client_cert": "{tmp}/text.pem"}, "client_cert", "no usable PEM"),
        ({"client_key": "{tmp}/missing.pem"}, "client_key", "No such file"),
        ({"client_key": "{tmp}/strange.key"}, "client_cert", "not that of client_key"),
        ({"client_key": "{tmp}/encrypted.key"}, "client_cert", "the key is encrypted"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_names_the_field(
    *,
    connect: Connect,
    certificates: Certificates,
    strangers: Certificates,
    create: Create,
    tmp_path: Path,
    wrong: dict[str, str],
    field: str,
    words: str,
) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    shutil.copy(strangers.client_key, tmp_path / "strange.key")
    encrypted(certificates.client_key, tmp_path / "encrypted.key")
    good = {
        "verify": str(certificates.ca),
        "client_cert": str(certificates.client_cert),
        "client_key": str(certificates.client_key),
    }
    connect("https://127.0.0.1:9/v1", extra=good | {name: text.format(tmp=tmp_path) for name, text in wrong.items()})
    error = failure(create, ChatCompletionHook())
    assert isinstance(error, InvalidConnection)
    assert error.field == field
    assert words in error.message
    assert error.message.startswith(f"Correct connection 'chat_default': {field}")


def test_a_context_is_made_once_per_process_and_settings(connect: Connect, certificates: Certificates) -> None:
    def context(**extra: Any) -> Any:
        connect("https://127.0.0.1:9/v1", extra=extra)
        return context_of(ChatCompletionHook())

    default, trusting = context(), context(verify=str(certificates.ca))
    assert context() is default
    assert context(verify=str(certificates.ca)) is trusting
    assert len({id(context(verify=verify)) for verify in (True, False, str(certificates.ca))}) == 3


def test_a_context_is_made_again_when_its_file_was_written_anew(
    connect: Connect, certificates: Certificates, strangers: Certificates, secure: ChatServer, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    shutil.copy(strangers.ca, bundle)
    os.utime(bundle, (1, 1))
    connect(secure.url, extra={"verify": str(bundle), "max_attempts": 1})
    assert "CERTIFICATE_VERIFY_FAILED" in failure(create, ChatCompletionHook()).message
    shutil.copy(certificates.ca, bundle)
    assert create(ChatCompletionHook()).status == 200


def test_both_clients_share_the_context_and_plain_http_has_none(connect: Connect) -> None:
    connect("https://127.0.0.1:9/v1")
    hook = ChatCompletionHook()
    assert pool_for(hook.settings, AsyncBackend())._ssl_context is context_of(hook)
    connect("http://127.0.0.1:9/v1", "plain")
    assert context_of(ChatCompletionHook("plain")) is None


def test_get_conn_uses_the_tls_of_the_connection(
    mutual: ChatServer, connect: Connect, certificates: Certificates
) -> None:
    extra = {
        "verify": str(certificates.ca),
        "client_cert": str(certificates.client_cert),
        "client_key": str(certificates.client_key),
    }
    connect(mutual.url, extra=extra)
    with ChatCompletionHook().get_conn() as client:
        assert client.get("models").status_code == 200
    assert ChatCompletionHook().test_connection()[0]
