"""Exports from folders and from a web server that is broken, slow or hostile: whole and as the index says, or not at all."""

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.zoo import fetch, index, places
from sfumato.zoo.checking import check
from sfumato.zoo.fetch import get
from sfumato.zoo.index import FILE, SHIPPED, SIGNATURE, sign_index

NAME = "drawn-faces"
BROKEN = "local_int8.tflite"
"""The file at which the server misbehaves."""

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def changed(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """As long, one byte another."""
    whole(handler, content[:-1] + bytes([content[-1] ^ 1]))


def longer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    whole(handler, content + b"!")


def truncated(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def silent_end(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """No length is told, and the line closes early."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def endless(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(2**16))


def lost(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_error(404)


def nonsense(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.wfile.write(b"\0\1\2 no answer of HTTP\r\n\r\n")


def to(address: str, handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", address)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def drip(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for at in range(len(content)):
        handler.wfile.write(content[at : at + 1])
        handler.wfile.flush()
        time.sleep(0.1)


class Server:
    """A zoo's folder by HTTP; `answers` says how one file is answered."""

    def __init__(self) -> None:
        """Serve the wheel's zoo."""
        self.folder = SHIPPED
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                name = self.path.removeprefix("/zoo/").removeprefix("/moved/")
                path = server.folder / name
                answer = server.answers.get(self.path.rpartition("/")[2], whole)
                if self.path.startswith("/moved/"):
                    answer = whole
                if not path.is_file():
                    answer = lost
                with contextlib.suppress(OSError):  # the client has left
                    answer(self, path.read_bytes() if path.is_file() else b"")

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/zoo"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.folder, running.answers, running.asked = SHIPPED, {}, []
    return running


def left(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_web_server_gives_the_same_export_as_the_wheel(server: Server, tmp_path: Path) -> None:
    get(NAME, tmp_path / "wheel")
    get(NAME, tmp_path / "web", source=server.url + "/")
    names = left(tmp_path / "wheel")
    assert names == left(tmp_path / "web")
    for name in names:
        one, other = tmp_path / "wheel" / name, tmp_path / "web" / name
        assert one.is_dir() or one.read_bytes() == other.read_bytes()
    assert [one.state for one in check(tmp_path / "web")] == ["ok"]
    assert "/zoo/index.json" not in server.asked  # the wheel's index is the one that counts


def test_a_folder_and_a_file_address_give_it_too(tmp_path: Path) -> None:
    for at, source in enumerate((str(SHIPPED), SHIPPED.as_uri())):
        get(NAME, tmp_path / str(at), source=source)
        assert [one.state for one in check(tmp_path / str(at))] == ["ok"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (changed, "is not the file of the index: its sha256 differs"),
        (longer, "is larger than it may be"),
        (truncated, "broke off after"),
        (silent_end, "bytes where the index says"),
        (endless, "is larger than it may be"),
        (lost, "HTTP 404"),
        (nonsense, "cannot be fetched"),
        (partial(to, "file:///etc/hostname"), "cannot be fetched (HTTP 302)"),
        (partial(to, "ftp://127.0.0.1/x"), "leads to another kind of address (ftp)"),
        (partial(to, f"/zoo/{NAME}/{BROKEN}"), "cannot be fetched (HTTP 302)"),
    ],
    # Two processes that share the tests must find the same names: that of a partial has its address.
    ids=[
        "changed",
        "longer",
        "truncated",
        "silent",
        "endless",
        "lost",
        "nonsense",
        "to a file",
        "to ftp",
        "in a ring",
    ],
)
def test_a_broken_transfer_is_one_line_and_leaves_nothing(
    answer: Answer, said: str, server: Server, tmp_path: Path
) -> None:
    server.answers[BROKEN] = answer
    with pytest.raises(SfumatoError) as error:
        get(NAME, tmp_path / "below" / "faces", source=server.url)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert left(tmp_path) in ([], ["below"])
    assert server.asked.count(f"/zoo/{NAME}/{BROKEN}") <= 11
    server.answers.clear()
    get(NAME, tmp_path / "below" / "faces", source=server.url)
    assert [one.state for one in check(tmp_path / "below" / "faces")] == ["ok"]


def test_a_redirect_within_the_web_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers[BROKEN] = partial(to, f"/moved/{NAME}/{BROKEN}")
    get(NAME, tmp_path / "faces", source=server.url)
    assert f"/moved/{NAME}/{BROKEN}" in server.asked
    assert [one.state for one in check(tmp_path / "faces")] == ["ok"]


def test_no_redirect_leads_from_an_encrypted_line_to_an_open_one() -> None:
    request = urllib.request.Request("https://models.example/zoo/index.json")
    with pytest.raises(SfumatoError, match="another kind of address"):
        places._Redirects().redirect_request(request, None, 302, "", None, "http://models.example/")  # type: ignore[arg-type]


def test_a_server_that_drips_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "DEADLINE", 0.3)
    monkeypatch.setattr(places, "CHUNK", 1)
    server.answers[BROKEN] = drip
    with pytest.raises(SfumatoError, match="took longer than"):
        get(NAME, tmp_path / "faces", source=server.url)
    assert left(tmp_path) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"cannot be fetched \(.*refused"):
        get(NAME, tmp_path / "faces", source="http://127.0.0.1:9/zoo")


@pytest.mark.parametrize(
    "source",
    [
        "ftp://127.0.0.1/zoo",
        "http://",
        "https://user:word@host/zoo",
        "http://host/zoo?x=1",
        "http://host/#a",
        "http://[::1/zoo",
        "file://elsewhere/zoo",
    ],
)
def test_addresses_that_are_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--from"):
        get(NAME, tmp_path / "faces", source=source)
    assert left(tmp_path) == []


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        get(NAME, tmp_path / "faces", source="https://user:hidden@host/zoo")
    assert "hidden" not in str(error.value)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    get(NAME, tmp_path / "faces")
    with pytest.raises(SfumatoError, match="pass --overwrite"):
        get(NAME, tmp_path / "faces")
    (tmp_path / "faces" / BROKEN).write_bytes(b"")
    get(NAME, tmp_path / "faces", overwrite=True)
    assert [one.state for one in check(tmp_path / "faces")] == ["ok"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(SfumatoError, match=r"holds no contract\.json"):
        get(NAME, other, overwrite=True)
    assert left(other) == ["letter.txt"]


def test_an_overwrite_that_breaks_off_keeps_the_old_one(server: Server, tmp_path: Path) -> None:
    get(NAME, tmp_path / "faces")
    server.answers[BROKEN] = truncated
    with pytest.raises(SfumatoError, match="broke off"):
        get(NAME, tmp_path / "faces", source=server.url, overwrite=True)
    assert [one.state for one in check(tmp_path / "faces")] == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_unknown_names_are_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"unknown export '\.\./drawn-faces': known are drawn-faces"):
        get("../drawn-faces", tmp_path / "x")


def test_an_export_that_is_only_elsewhere(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index names it, and its files are too large for the wheel."""
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    shutil.copyfile(SHIPPED / FILE, wheel / FILE)
    for module in (fetch, index):
        monkeypatch.setattr(module, "SHIPPED", wheel)
    with pytest.raises(SfumatoError, match="is not in the wheel: give --from"):
        get(NAME, tmp_path / "faces")
    get(NAME, tmp_path / "faces", source=server.url)
    assert [one.state for one in check(tmp_path / "faces")] == ["ok"]


# A zoo of somebody else: its index is signed.


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ed25519PrivateKey, Path, Path]:
    """A maker's key, its public half in a file, and the public half of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    own, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    for name, key in (("maker.pub", own), ("other.pub", other)):
        content = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / name).write_bytes(content)
    return own, folder / "maker.pub", folder / "other.pub"


@pytest.fixture
def theirs(tmp_path: Path, keys: tuple[Ed25519PrivateKey, Path, Path]) -> Path:
    """Their zoo: one export under a name that the wheel does not know."""
    zoo = tmp_path / "theirs"
    shutil.copytree(SHIPPED / NAME, zoo / "their-faces")
    listed = json.loads((SHIPPED / FILE).read_text())
    listed["entries"] = [{**one, "name": "their-faces"} for one in listed["entries"] if one["name"] == NAME]
    (zoo / FILE).write_text(json.dumps(listed))
    sign_index(zoo, keys[0])
    return zoo


def test_a_signed_index_is_believed(
    theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], server: Server, tmp_path: Path
) -> None:
    server.folder = theirs
    get("their-faces", tmp_path / "faces", source=server.url, public_key=keys[1])
    assert (tmp_path / "faces" / BROKEN).read_bytes() == (SHIPPED / NAME / BROKEN).read_bytes()
    assert [one.state for one in check(theirs, public_key=keys[1])] == ["ok"]


def test_no_other_index_is(theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], tmp_path: Path) -> None:
    own, maker, other = keys
    out = tmp_path / "faces"
    with pytest.raises(UsageError, match="needs --from"):
        get("their-faces", out, public_key=maker)
    with pytest.raises(SfumatoError, match="unknown export"):  # without a key the wheel's index counts
        get("their-faces", out, source=str(theirs))
    for work in (
        partial(get, "their-faces", out, source=str(theirs), public_key=other),
        partial(check, theirs, public_key=other),
    ):
        with pytest.raises(SfumatoError, match="is not signed with this key"):
            work()
    (theirs / FILE).write_bytes((theirs / FILE).read_bytes() + b" ")
    with pytest.raises(SfumatoError, match="is not signed with this key"):
        get("their-faces", out, source=str(theirs), public_key=maker)
    sign_index(theirs, own)
    (theirs / SIGNATURE).write_bytes(b"no signature\n")
    with pytest.raises(SfumatoError, match="is not signed with this key"):
        get("their-faces", out, source=str(theirs), public_key=maker)
    (theirs / SIGNATURE).unlink()
    with pytest.raises(SfumatoError, match="missing"):
        get("their-faces", out, source=str(theirs), public_key=maker)
    assert not out.exists()


def changed_index(zoo: Path, key: Ed25519PrivateKey, change: Callable[[Any], None]) -> None:
    listed = json.loads((zoo / FILE).read_text())
    change(listed)
    (zoo / FILE).write_text(json.dumps(listed))
    sign_index(zoo, key)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "audit/../../evil.json",
        "/evil.json",
        "a/b/c.json",
        "..",
        ".",
        "",
        "audit\\evil.json",
        "c:evil.json",
        "evil.json\0.txt",
        ".hidden",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_although_it_is_signed(
    name: str, theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], tmp_path: Path
) -> None:
    def add(listed: Any) -> None:
        digest = hashlib.sha256(b"evil").hexdigest()
        listed["entries"][0]["files"].append({"name": name, "sha256": digest, "bytes": 4})

    changed_index(theirs, keys[0], add)
    (theirs / "evil.json").write_bytes(b"evil")
    before = left(tmp_path)
    with pytest.raises(SfumatoError, match="is no index of a zoo"):
        get("their-faces", tmp_path / "a" / "faces", source=str(theirs), public_key=keys[1])
    assert left(tmp_path) == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("name", "../their-faces", "entries.0.name"),
        ("name", "Their Faces", "entries.0.name"),
        ("files", [], "entries.0.files"),
        ("unknown", 1, "entries.0.unknown"),
        ("schema", "sfumato-zoo/2", "schema"),
    ],
)
def test_an_index_of_another_kind_is_refused(
    key: str, value: Any, said: str, theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], tmp_path: Path
) -> None:
    def change(listed: Any) -> None:
        (listed if key == "schema" else listed["entries"][0])[key] = value

    changed_index(theirs, keys[0], change)
    with pytest.raises(SfumatoError, match=f"is no index of a zoo: {said}"):
        get("their-faces", tmp_path / "faces", source=str(theirs), public_key=keys[1])


def test_an_index_cannot_ask_for_more_than_fits(
    theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], tmp_path: Path
) -> None:
    def grow(listed: Any) -> None:
        for file in listed["entries"][0]["files"]:
            file["bytes"] = 2**26

    changed_index(theirs, keys[0], grow)
    with pytest.raises(SfumatoError, match="larger than an export can be"):
        get("their-faces", tmp_path / "faces", source=str(theirs), public_key=keys[1])


def test_a_link_in_a_folder_is_refused(
    theirs: Path, keys: tuple[Ed25519PrivateKey, Path, Path], tmp_path: Path
) -> None:
    path = theirs / "their-faces" / BROKEN
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SfumatoError, match="is a link"):
        get("their-faces", tmp_path / "faces", source=str(theirs), public_key=keys[1])
    assert not (tmp_path / "faces").exists()


# Interruptions, from outside.


@pytest.fixture
def started(server: Server, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`sfumato zoo get` in the middle of a file."""
    server.answers[BROKEN] = drip
    words = ["zoo", "get", NAME, "--from", server.url, "--out", str(tmp_path / "faces")]
    script = (
        "import signal; from sfumato.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs have none
        "main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ends = time.monotonic() + 60
    while not any(path.endswith(BROKEN) for path in server.asked):
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def test_ctrl_c_leaves_nothing(started: subprocess.Popen[str], tmp_path: Path) -> None:
    started.send_signal(signal.SIGINT)
    out, errors = started.communicate(timeout=30)
    assert (started.returncode, out) == (130, "")
    assert errors.strip().startswith("sfumato: interrupted")
    assert len(errors.strip().splitlines()) == 1
    assert left(tmp_path) == []


def test_after_a_kill_the_next_call_begins_anew(
    started: subprocess.Popen[str], server: Server, tmp_path: Path
) -> None:
    started.kill()
    started.wait(30)
    assert not (tmp_path / "faces").exists()
    server.answers.clear()
    get(NAME, tmp_path / "faces", source=server.url)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]  # what was begun is gone
    assert [one.state for one in check(tmp_path / "faces")] == ["ok"]
