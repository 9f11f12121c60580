"""A small adb daemon: the phone's side of adb's transport protocol on loopback, so that the real adb has something to talk to.

Speaks what `sfumato bench phone` needs (protocol.txt, services.txt and sync.txt of adb's sources): shell (v1 and v2), exec-out
and push. Commands run by /bin/sh with `--path` first on PATH. No encryption and no keys.

    python adbd.py --path BIN             # prints the port
    python adbd.py --path BIN --reject    # stays unauthorized
    python adbd.py --path BIN --arm64 FOLDER

FOLDER holds `exec.so`, built from arm64_exec.c, and `run`, which starts an ARM64 program in an emulator: the phone then runs
such programs, whatever processor this computer has.
"""

import argparse
import contextlib
import os
import queue
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import IO

CONNECT, AUTH, OPEN, OKAY, CLOSE, WRITE = (
    int.from_bytes(n, "little") for n in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
VERSION, LARGEST = 0x01000000, 256 * 1024
BANNER = b"device::ro.product.name=toy;ro.product.model=Toy_Phone;ro.product.device=toy;features=shell_v2,cmd"
STDIN, STDOUT, STDERR, EXIT = range(4)


class Stream:
    """One open service. `send` waits until the host is ready for more."""

    def __init__(self, link: "Link", mine: int, theirs: int) -> None:
        self.link, self.mine, self.theirs = link, mine, theirs
        self.inbox: queue.Queue[bytes] = queue.Queue()
        self.ready = threading.Semaphore(0)
        self.rest = b""

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), self.link.largest):
            self.ready.acquire()
            self.link.write(WRITE, self.mine, self.theirs, data[start : start + self.link.largest])

    def take(self, count: int) -> bytes:
        while len(self.rest) < count:
            part = self.inbox.get()
            if not part:
                raise EOFError
            self.rest += part
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])


class Link:
    """The connection of one adb server."""

    def __init__(self, connection: socket.socket, path: str, reject: bool, arm64: str | None) -> None:
        self.connection, self.path, self.reject, self.arm64 = connection, path, reject, arm64
        self.largest, self.lock = 4096, threading.Lock()
        self.streams: dict[int, Stream] = {}

    def write(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        head = struct.pack(
            "<6I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF
        )
        with self.lock:
            self.connection.sendall(head + data)

    def serve(self) -> None:
        stream = self.connection.makefile("rb")
        while len(head := stream.read(24)) == 24:
            command, first, second, length, _, _ = struct.unpack("<6I", head)
            self.handle(command, first, second, stream.read(length))

    def handle(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CONNECT:
            self.largest = min(second, LARGEST)
        if command in (CONNECT, AUTH):
            if self.reject:
                self.write(AUTH, 1, 0, os.urandom(20))
            else:
                self.write(CONNECT, VERSION, LARGEST, BANNER)
        elif command == OPEN:
            stream = self.streams[len(self.streams) + 1] = Stream(self, len(self.streams) + 1, first)
            name = data.rstrip(b"\0").decode()
            threading.Thread(target=self.run, args=(stream, name), daemon=True).start()
        elif second in self.streams:
            stream = self.streams[second]
            if command == OKAY:
                stream.ready.release()
            elif command == WRITE:
                stream.inbox.put(data)
                self.write(OKAY, stream.mine, stream.theirs)
            elif command == CLOSE:
                stream.inbox.put(b"")
                stream.ready.release()

    def run(self, stream: Stream, name: str) -> None:
        kind, _, argument = name.partition(":")
        service = {"shell": self.shell, "exec": self.execute, "sync": self.sync}.get(kind.split(",")[0])
        if service is not None:
            self.write(OKAY, stream.mine, stream.theirs)
            stream.ready.release()
            with contextlib.suppress(EOFError):
                service(stream, "v2" in kind.split(","), argument)
        self.write(CLOSE, stream.mine, stream.theirs)

    def start(self, command: str, errors: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}", "DAEMON": str(os.getpid())}
        if self.arm64:
            environment |= {"LD_PRELOAD": f"{self.arm64}/exec.so", "TOY_ARM64": f"{self.arm64}/run"}
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )

    def shell(self, stream: Stream, framed: bool, command: str) -> None:
        process = self.start(command, subprocess.PIPE if framed else subprocess.STDOUT)

        def forward(source: IO[bytes], kind: int) -> None:
            while data := os.read(source.fileno(), 32768):
                stream.send(struct.pack("<BI", kind, len(data)) + data if framed else data)

        sources = [(process.stdout, STDOUT), (process.stderr, STDERR)]
        threads = [threading.Thread(target=forward, args=pair, daemon=True) for pair in sources if pair[0]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status = process.wait()
        if framed:
            stream.send(struct.pack("<BIB", EXIT, 1, status & 255))

    def execute(self, stream: Stream, _: bool, command: str) -> None:
        process = self.start(command, subprocess.STDOUT)
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 32768):
            stream.send(data)
        process.wait()

    def sync(self, stream: Stream, _: bool, __: str) -> None:
        while (request := stream.take(4)) != b"QUIT":
            name = stream.take(stream.number()).decode()
            if request == b"STAT":
                there = os.path.exists(name)
                facts = os.stat(name) if there else None
                values = (facts.st_mode, facts.st_size, int(facts.st_mtime)) if facts else (0, 0, 0)
                stream.send(b"STAT" + struct.pack("<3I", *values))
            elif request == b"SEND":
                stream.send(self.receive(stream, Path(name.rpartition(",")[0])))
            else:
                return

    @staticmethod
    def receive(stream: Stream, path: Path) -> bytes:
        content = b""
        while stream.take(4) == b"DATA":
            content += stream.take(stream.number())
        stream.number()  # behind DONE: the time of the file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            reason = str(error.strerror).encode()
            return b"FAIL" + struct.pack("<I", len(reason)) + reason
        return b"OKAY" + bytes(4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", required=True)
    parser.add_argument("--reject", action="store_true")
    parser.add_argument("--arm64")
    options = parser.parse_args()
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        link = Link(connection, options.path, options.reject, options.arm64)
        threading.Thread(target=link.serve, daemon=True).start()


if __name__ == "__main__":
    main()
