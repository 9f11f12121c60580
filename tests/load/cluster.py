"""A Ray cluster of one or two nodes on this machine, with the service on it: what it costs, and what happens when parts die.

    with Cluster(Path("ray/bin/python")) as cluster:
        cluster.start()
        cluster.serve(export, replicas=2)
        cluster.port, cluster.cpu_seconds, cluster.replicas()

The second node lives in a network name space of its own, with an address of its own: that needs root. Ray's agents are given
minutes to start, for a machine that does other things too.
"""

import asyncio
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvloop
import yaml  # mkdocs brings it
from tests.load.cases import Case
from tests.load.clients import Outcome, closed_loop

from sfumato.core.errors import SfumatoError

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "cloud" / "deploy"
SOURCES = ("train", "export", "cloud", "benchmarks")
MARK = "SFUMATO_RAY_NODE"
"""A variable that every process of a node inherits: by it they are counted and ended, and no others."""
TOKEN = "0123456789abcdef-app"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
PATIENCE = 240.0
"""Seconds until a node or the service has started."""
PATIENT = {
    "RAY_raylet_start_wait_time_s": "200",
    "RAY_agent_register_timeout_ms": "200000",
    "RAY_worker_register_timeout_seconds": "200",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "200",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
}
HEAD, SECOND = "head", "second"


class Cluster:
    """Runs from `start` to the end of the block; its processes are killed then.

    Args:
        python: of an environment with requirements/ray.txt.
        fast: with cloud/deploy/ray.env; else as Ray is by itself, with its proxy in Python.
    """

    def __init__(self, python: Path, *, fast: bool = True) -> None:
        self._bin, self._name = (
            python.absolute().parent,
            f"sf{secrets.token_hex(4)}",
        )  # an interface may have 15 letters
        self._folder = Path(tempfile.mkdtemp(prefix="sfr"))  # short: paths of sockets must be
        self._gcs, self.port = free_port(), free_port()
        self._address = "127.0.0.1"
        self.second_address = ""
        """Of the second node, which listens at `port` too."""
        paths = os.pathsep.join([*(str(ROOT / name) for name in SOURCES), str(ROOT)])
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **PATIENT,
            **(read_environment(DEPLOY / "ray.env") if fast else {}),
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            # Else it would hang on a token in the home folder, which some of Ray's commands leave there.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "SFUMATO_TOKENS": f"app {TOKEN}\nmetrics {TOKEN[::-1]}\n",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(2):  # who was just born inherits the mark, too
            self.kill_node(SECOND)
            self.kill_node(HEAD)
        if self.second_address:
            for line in (f"ip link delete {self._name}a", f"ip netns delete {self._name}"):
                subprocess.run(line.split(), capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, *, nodes: int = 1) -> None:
        """Start the head, and a second node if there are to be two.

        Raises:
            SfumatoError: Ray does not start; or two nodes, and this is not root on Linux.
        """
        if nodes == 2:
            self._make_name_space()
        ports = ("--ray-client-server-port", str(free_port()), "--dashboard-port", str(free_port()))
        head = ("--head", "--port", str(self._gcs), "--include-dashboard", "false", *ports)
        self._ray_start(HEAD, *head, "--node-ip-address", self._address)
        if nodes == 2:
            address = ("--address", f"{self._address}:{self._gcs}", "--node-ip-address", self.second_address)
            self._ray_start(SECOND, *address, inside=("ip", "netns", "exec", self._name))

    def serve(self, export: Path, **args: float | str) -> None:
        """Deploy the service by the configuration of cloud/deploy, with other arguments, and wait until it answers.

        Raises:
            SfumatoError: it does not start.
        """
        config = serve_configuration()
        config["http_options"]["port"] = self.port
        (application,) = config["applications"]
        application["args"] = {"export": str(export.absolute()), **args}
        file, log = self._folder / "serve.yaml", self._folder / "serve.log"
        file.write_text(json.dumps(config), encoding="utf-8")  # every JSON is YAML
        command = [str(self._bin / "serve"), "run", "--address", f"{self._address}:{self._gcs}", str(file)]
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, env={**self._environment, MARK: self._mark(HEAD)}
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.poll() is None:
            started = len(self.replicas(HEAD)) + len(self.replicas(SECOND))
            if started >= int(args.get("replicas", 2)) and all(map(self.ready, self.addresses)):
                return
            time.sleep(0.3)
        said = [log, *self._folder.glob("head/session_latest/logs/serve/controller*.log")]
        raise SfumatoError("Ray Serve did not start: " + "\n".join(path.read_text()[-3000:] for path in said))

    @property
    def addresses(self) -> list[str]:
        """Of the nodes."""
        return [self._address, self.second_address][: 2 if self.second_address else 1]

    def ready(self, address: str) -> bool:
        """Whether a node answers."""
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{address}:{self.port}/readyz", timeout=5).status_code == 200
        return False

    @property
    def cpu_seconds(self) -> float:
        """Time on a processor so far, of all processes that run now."""
        return sum(map(processor_seconds, [*self.processes(HEAD), *self.processes(SECOND)]))

    def processes(self, node: str) -> list[int]:
        """Ids of a node's processes: those with its mark, and theirs. Some write their title over their variables."""
        mark = f"{MARK}={self._mark(node)}".encode()
        parents = {pid: parent_of(pid) for pid in all_processes()}
        found = {pid for pid in parents if mark in environment_of(pid)}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def replicas(self, node: str = HEAD) -> list[int]:
        """Ids of the processes that answer."""
        return [pid for pid in self.processes(node) if b"ServeReplica" in command_of(pid)]

    def kill_node(self, node: str) -> None:
        """End all its processes at once. The second node's cable is cut before: as with a power cut, nobody is told."""
        if node == SECOND and self.second_address:
            # At its far end: else the packets for this node would leave by another way.
            line = f"ip netns exec {self._name} ip link set {self._name}b down"
            subprocess.run(line.split(), capture_output=True, check=False)
        for pid in self.processes(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def logs(self) -> Iterator[Path]:
        """Files in which processes wrote what they have to say."""
        return self._folder.glob("**/logs/**/*.*")

    def _mark(self, node: str) -> str:
        return f"{self._name}-{node}"

    def _ray_start(self, node: str, *options: str, inside: tuple[str, ...] = ()) -> None:
        command = [
            *inside, str(self._bin / "ray"), "start", *options, "--num-cpus", "2", "--object-store-memory", "80000000",
            "--include-log-monitor", "false", "--temp-dir", str(self._folder / node),
            "--dashboard-agent-listen-port", str(free_port()), "--disable-usage-stats",
        ]  # fmt: skip
        names = ("STATS_PORT", "METRICS_PORT")
        own = {f"RAY_SERVE_HAPROXY_{name}": str(free_port()) for name in names}
        own |= {"RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()), MARK: self._mark(node)}
        done = subprocess.run(
            command, env=self._environment | own, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise SfumatoError(
                f"ray start ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}"
            )

    def _make_name_space(self) -> None:
        """A name space, and a cable between it and this one."""
        number = secrets.randbelow(250)
        self._address, self.second_address = f"10.231.{number}.1", f"10.231.{number}.2"
        here, there = f"{self._name}a", f"{self._name}b"
        for line in (
            f"ip netns add {self._name}",
            f"ip link add {here} type veth peer name {there} netns {self._name}",
            f"ip address add {self._address}/30 dev {here}",
            f"ip link set {here} up",
            f"ip netns exec {self._name} ip address add {self.second_address}/30 dev {there}",
            f"ip netns exec {self._name} ip link set {there} up",
            f"ip netns exec {self._name} ip link set lo up",
        ):
            done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise SfumatoError(f"a second node needs root on Linux: {line}: {done.stderr.strip()}")


@contextmanager
def cluster_of(
    python: Path, export: Path, *, nodes: int = 1, fast: bool = True, **args: float | str
) -> Iterator[Cluster]:
    """A cluster that answers for `export`; `args` as in `RayConfig`."""
    with Cluster(python, fast=fast) as cluster:
        cluster.start(nodes=nodes)
        cluster.serve(export, **args)
        yield cluster


def serve_configuration() -> dict[str, Any]:
    """What the manifest for Kubernetes tells Ray Serve."""
    *_, service = yaml.safe_load_all((DEPLOY / "rayservice.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return found


def read_environment(path: Path) -> dict[str, str]:
    """Name -> value of a file that a shell reads, too."""
    lines = (shlex.split(line, comments=True) for line in path.read_text(encoding="utf-8").splitlines())
    return dict(part.split("=", 1) for parts in lines for part in parts)


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def all_processes() -> list[int]:
    """Ids of the machine's processes."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment_of(pid: int) -> list[bytes]:
    """NAME=VALUE of a process, as it was started; nothing where we may not look."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def parent_of(pid: int) -> int:
    """Who started a process, if it still runs."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return 0


def command_of(pid: int) -> bytes:
    """The command line, or what a process put in its place."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def processor_seconds(pid: int) -> float:
    """Of all its threads; 0 for one that has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@dataclass(frozen=True)
class Cost:
    """What uploads cost the cluster."""

    clients: int
    outcome: Outcome
    cpu_ms: float
    """Processor time for a right answer, of all processes of Ray, the clients' not counted."""


def cost(cluster: Cluster, cases: Sequence[Case], *, clients: int, seconds: float) -> Cost:
    """Ask for a while, after a second that does not count."""
    uvloop.run(closed_loop([cluster.port], cases, clients=clients, seconds=1.0))
    before = cluster.cpu_seconds
    found = uvloop.run(closed_loop([cluster.port], cases, clients=clients, seconds=seconds))
    return Cost(clients, found, 1000 * (cluster.cpu_seconds - before) / max(1, found.uploads))


def under_load(
    cluster: Cluster, cases: Sequence[Case], harm: Callable[[], None], *, seconds: float, clients: int = 16
) -> Outcome:
    """What becomes of the requests where `harm` is done after `seconds`; they go on for twice as long behind it."""

    async def go() -> Outcome:
        load = asyncio.create_task(closed_loop([cluster.port], cases, clients=clients, seconds=3 * seconds))
        await asyncio.sleep(seconds)
        await asyncio.to_thread(harm)
        return await load

    return uvloop.run(go())
