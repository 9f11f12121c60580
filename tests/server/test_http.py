"""What `sfumato.server.http` takes from uvicorn, and what the package gives to Python."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import sfumato.server
from sfumato.server import http
from sfumato.server.auth import Tokens
from sfumato.server.http import UVICORN


def test_uvicorn_is_the_version_whose_internals_are_used() -> None:
    found = version("uvicorn")
    assert found == UVICORN, (
        f"uvicorn {found} is installed, but sfumato.server.http extends the HttpToolsProtocol of {UVICORN}: read that class "
        "again (connection_made, data_received, on_headers_complete, on_message_complete, on_response_complete, "
        "connection_lost), run tests/server, then change UVICORN and the pin in pyproject.toml together"
    )


@pytest.mark.parametrize("name", sfumato.server.__all__)
def test_public_names_are_found(name: str) -> None:
    assert getattr(sfumato.server, name).__module__.startswith("sfumato.server.")


def test_the_package_loads_nothing_before_it_is_asked() -> None:
    code = (
        "import sys, sfumato.server as server\n"
        "assert 'create_app' in dir(server)\n"
        "heavy = {'starlette', 'uvicorn', 'httpx', 'numpy', 'pydantic', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "server.Client\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'onnxruntime'} & set(sys.modules)))\n"
        "server.create_app, server.run\n"
        "print('fastapi' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["[]", "[]", "False"]), done.stderr


def test_a_system_without_limits_on_files_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    http._raise_file_limit(10**9)


def test_a_token_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"\xef\xbb\xbfmetrics %b\napp %b\n" % (b"m" * 24, b"a" * 24))
    tokens = Tokens.read(tmp_path / "tokens")
    assert tokens is not None
    assert tokens.holder("Bearer " + "m" * 24) == "metrics"
