"""Debian's real adb against a small adb daemon and an app that keeps the protocol; and everything that can go wrong."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

from sfumato.bench.arm import debian
from sfumato.bench.peak import product_model
from sfumato.bench.phone import config as phone_config
from sfumato.bench.phone.adb import Device, Phone, choose, devices, parse_devices
from sfumato.bench.phone.benchmark import bench_phone
from sfumato.bench.phone.config import PhoneConfig
from sfumato.bench.phone.energy import NONE, measure_energy, parse_rails
from sfumato.bench.phone.protocol import PACKAGE, PhoneResult, parse_result
from sfumato.bench.results import Results
from sfumato.bench.subjects import Subject
from sfumato.bench.tables import tables
from sfumato.cli.main import app
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.files import atomic_folder
from sfumato.runtime.contract import ChannelPart, Contract, File, LabelPart, Model, Tensor, UploadPart

HERE = Path(__file__).parent
PRIVATE = HERE.parent.parent / ".cache" / "adb"
INT8 = Subject("sfumato", "int8", product_model(8, 16, "int8"))
PROPERTIES = {
    "ro.product.manufacturer": "Toys",
    "ro.product.model": "Toy Phone",
    "ro.build.version.release": "16",
    "ro.build.version.sdk": "36",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.soc.model": "T1000",
}


@pytest.fixture(scope="session")
def adb() -> Path:
    """The adb on the path, else Debian's, unpacked without root into the clone's cache."""
    found = shutil.which("adb")
    if found is not None:
        return Path(found)
    program = PRIVATE / "adb"
    if not program.exists():
        try:
            with atomic_folder(PRIVATE) as made, tempfile.TemporaryDirectory() as scratch:
                debian.install("amd64", ["adb"], made, Path(scratch))
                (made / "adb").write_text(wrapper(PRIVATE))
                (made / "adb").chmod(0o755)
        except (SfumatoError, OSError) as error:
            pytest.skip(
                f"no adb: install it (sudo apt-get install -y adb); it cannot be fetched either: {error}"
            )
    return program


def wrapper(folder: Path) -> str:
    """A script that runs the private adb with its own loader."""
    loader, option, path, program = debian.loader(folder, "usr/lib/android-sdk/platform-tools/adb")
    path += f":{folder}/usr/lib/x86_64-linux-gnu/android"
    return f'#!/bin/sh\nexec "{loader}" {option} "{path}" "{program}" "$@"\n'


@pytest.fixture
def server(adb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An adb server of this test alone, with keys and port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("ADB", str(adb))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    with (tmp_path / "adb.log").open("w") as log:
        command = [str(adb), "-P", str(port), "nodaemon", "server"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < until:
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait()


@dataclass
class Toy:
    """A phone made of this computer."""

    root: Path
    process: subprocess.Popen[str]
    port: int

    @property
    def app(self) -> Path:
        return self.root / "data" / PACKAGE

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def behave(self, **by_delegate: str) -> None:
        (self.root / "behaviour.json").write_text(json.dumps(by_delegate))

    def install(self, program: list[str]) -> None:
        """Another app: a command, to which its folder `files` and the intent's extras are added."""
        (self.root / "app.json").write_text(json.dumps(program))

    def connect(self) -> str:
        done = subprocess.run(
            [os.environ["ADB"], "connect", self.serial],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout


@pytest.fixture
def plug_in(server: None, tmp_path: Path) -> Iterator[Callable[..., Toy]]:
    """Connects toy phones; an unready one with `--reject`."""
    toys: list[Toy] = []

    def start(*options: str) -> Toy:
        root = tmp_path / f"phone{len(toys)}"
        (root / "data" / PACKAGE).mkdir(parents=True)
        (root / "bin").mkdir()
        (root / "props.json").write_text(json.dumps(PROPERTIES))
        for name in ("getprop", "pm", "am", "pidof", "logcat", "dumpsys"):
            script = root / "bin" / name
            script.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "toy_phone.py"}" "{root}" {name} "$@"\n'
            )
            script.chmod(0o755)
        command = [sys.executable, str(HERE / "adbd.py"), "--path", str(root / "bin"), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        toy = Toy(root, process, int(process.stdout.readline()))
        toys.append(toy)
        toy.behave()
        toy.connect()
        return toy

    yield start
    for toy in toys:
        toy.process.kill()
        toy.process.wait()
        if (toy.root / "pid").exists():
            subprocess.run(
                ["kill", "-9", (toy.root / "pid").read_text(encoding="utf-8")],
                capture_output=True,
                check=False,
            )


def config(toy: Toy, **values: object) -> PhoneConfig:
    quick = {"threads": (1, 2), "warmup": 1, "runs": 20, "patience": 20.0, "poll": 0.05}
    return PhoneConfig(**{**quick, "shared": str(toy.root / "shared"), **values})  # type: ignore[arg-type]


def bench(toy: Toy, *subjects: Subject, **values: object) -> Results:
    return bench_phone(choose(devices(), None), subjects or (INT8,), config(toy, **values))


def test_a_phone_is_measured_with_every_delegate_and_left_clean(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    results = bench(toy, INT8, delegates=("cpu", "nnapi", "gpu", "npu"), sustained=2)
    assert results.failures == ()
    values = results.to_json()
    rows = {(row["delegate"], row["threads"]): row for row in values["rows"]}
    assert set(rows) == {("xnnpack", 1), ("xnnpack", 2), ("nnapi", 1), ("gpu", 1), ("npu", 1)}
    for row in rows.values():
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert (row["runs"], row["valid"], row["thermal"]) == (20, True, [0, 2])
        assert [window["runs"] for window in row["sustained"]] == [20, 20]
        assert row["init_ms"] > 0
    # What the app cannot know comes from the runtime's log.
    assert [rows["xnnpack", 1][key] for key in ("nodes", "delegated_nodes", "partitions")] == [
        1,
        1,
        1,
    ]
    assert [rows["nnapi", 1][key] for key in ("nodes", "delegated_nodes", "partitions")] == [4, 3, 2]
    # An older runtime's line does not say of how many: those of the file.
    assert [rows["gpu", 1][key] for key in ("nodes", "delegated_nodes", "partitions")] == [1, 1, 1]
    # Compiled for the NPU alone: every node of the file, in pieces that nobody counts.
    assert [rows["npu", 1][key] for key in ("nodes", "delegated_nodes", "partitions")] == [1, 1, None]
    # The toy's own arithmetic of the documented input gives this computer's bytes.
    assert all(row["same_as_host"] for row in rows.values())
    assert values["environment"]["device"] == "Toys Toy Phone, Android 16"
    assert values["environment"]["properties"]["api"] == "36"
    assert all(row["app"] for row in rows.values())
    assert list((toy.root / "shared").iterdir()) == []
    assert [grid.title for grid in tables(results)][1:] == ["who ran it", "without a pause, ms"]


def make_export(folder: Path) -> Path:
    """As much of an export as a phone gets to see: a contract and an int8 model."""
    content = product_model(16, 3, "int8")
    digest = hashlib.sha256(content).hexdigest()
    scale = 1 / 256
    shape: tuple[Literal[1], int, int, int] = (1, 16, 16, 3)
    contract = Contract(
        mode="picture",
        files=(File(name="local_int8.tflite", sha256=digest, bytes=len(content), role="phone"),),
        input=Tensor(name="image", shape=shape, range=(0, 1), int8_scale=1 / 255, int8_zero_point=-128),
        outputs=(Tensor(name="p", shape=shape, range=(0, 1), int8_scale=scale, int8_zero_point=-128),),
        models=(Model(variant="int8", file="local_int8.tflite", input="int8", output="int8"),),
        channel=ChannelPart(name="dither", levels=2),
        upload=UploadPart(
            bit_depth=1, colour="grey, planes red, green, blue one below the other", width=16, height=48
        ),
        keep=(LabelPart(name="smiling", classes=("no", "yes")),),
        hide=(),
        cost={},
        gates=(),
        figures={},
        conversion={},
        provenance={},
    )
    folder.mkdir()
    (folder / "local_int8.tflite").write_bytes(content)
    (folder / "contract.json").write_text(contract.to_json())
    return folder


def test_the_command_lists_phones_and_measures_an_export(
    plug_in: Callable[..., Toy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = plug_in()
    runner, out = CliRunner(), tmp_path / "phone.json"
    listed = runner.invoke(app, ["bench", "phone", "--json"])
    assert json.loads(listed.stdout) == [{"serial": toy.serial, "model": "Toy Phone", "state": "device"}]
    # A real phone has its own folder for this.
    monkeypatch.setattr(phone_config, "make_config", lambda kind, values: config(toy, **values))
    options = ["--variant", "int8", "--delegates", "cpu", "--threads", "1", "--runs", "10", "--out", str(out)]
    done = runner.invoke(app, ["bench", "phone", str(make_export(tmp_path / "export")), *options, "--json"])
    assert done.exit_code == 0, done.output
    values = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == values
    (row,) = values["rows"]
    assert row["same_as_host"]
    assert {stage["name"]: stage["p50_ms"] for stage in values["stages"]}["resize"] == 0.002


def test_a_configuration_that_fails_is_written_down_and_the_next_one_runs(
    plug_in: Callable[..., Toy],
) -> None:
    toy = plug_in()
    toy.behave(nnapi="crash", gpu="failed")
    results = bench(toy, delegates=("nnapi", "gpu", "cpu"), threads=(1,))
    assert [(failure.what, failure.reason) for failure in results.failures] == [
        ("sfumato int8, nnapi, 1 threads", "the app crashed: java.lang.IllegalStateException: no surface"),
        ("sfumato int8, gpu, 1 threads", "the app: GPU delegate: not supported on this device"),
    ]
    assert [row.delegate for row in results.rows] == ["xnnpack"]


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [("silent", "TensorFlow Lite's log has no line of {}"), ("none taken", "0 of 1 nodes")],
)
def test_a_delegate_that_takes_nothing_is_refused_though_xnnpack_took_all(
    plug_in: Callable[..., Toy], behaviour: str, why: str
) -> None:
    toy = plug_in()
    toy.behave(nnapi=behaviour, gpu=behaviour, npu=behaviour)
    results = bench(toy, delegates=("nnapi", "gpu", "cpu"), threads=(1,))
    assert [row.delegate for row in results.rows] == ["xnnpack"]
    names = {"nnapi": "TfLiteNnapiDelegate", "gpu": "TfLiteGpuDelegate"}
    assert [(failure.what, failure.reason) for failure in results.failures] == [
        (
            f"sfumato int8, {delegate}, 1 threads",
            f"{delegate} took no node of this model ({why.format(name)}): the time is the CPU's, and is not kept",
        )
        for delegate, name in names.items()
    ]
    (npu,) = bench(toy, delegates=("npu",), threads=(1,)).failures
    assert npu.reason.startswith("npu took no node of this model (")


def test_a_model_compiled_for_an_accelerator_alone_is_kept_unless_the_log_names_the_cpu(
    plug_in: Callable[..., Toy],
) -> None:
    toy = plug_in()
    toy.behave(gpu="whole", npu="leaks")
    results = bench(toy, delegates=("gpu", "npu"), threads=(1,))
    assert [(row.delegate, row.nodes, row.delegated_nodes) for row in results.rows] == [("gpu", 1, 1)]
    assert [failure.reason for failure in results.failures] == [
        "npu is not alone: the log says that the CPU took 4 of 4 nodes"
    ]


def test_no_result_an_old_one_or_one_of_another_schema_is_none(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    toy.behave(cpu="hang", nnapi="stale", gpu="other schema")
    results = bench(toy, delegates=("cpu", "nnapi", "gpu"), threads=(1,), patience=1.5)
    assert results.rows == ()
    assert [failure.reason for failure in results.failures] == [
        "no result after 2 s",
        "no result after 2 s",
        "the app's bench.json has schema 'sfumato-phone/9', expected is sfumato-phone/1: update the app",
    ]


def test_a_phone_that_is_unplugged_leaves_what_was_measured(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    toy.behave(nnapi="unplug")
    results = bench(toy, delegates=("cpu", "nnapi", "gpu"), threads=(1,))
    assert [row.delegate for row in results.rows] == ["xnnpack"]
    assert f"the phone {toy.serial} is gone" in results.failures[-1].reason


def test_a_phone_that_is_unplugged_at_once_is_an_error(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    toy.behave(cpu="unplug")
    with pytest.raises(SfumatoError, match=f"the phone {toy.serial} is gone"):
        bench(toy, delegates=("cpu",), threads=(1,))


RAILS = {
    "[S4M_VDD_CPUCL0]:CPU(LITTLE)": (0.0, 0.002),
    "[S2M_VDD_CPUCL2]:CPU(BIG)": (0.5, 0.005),
    "[S10M_VDD_TPU]:TPU": (0.0, 0.0),
    "[L9M_VDD_DDR]:Memory(DDR)": (0.0, 0.001),
    "[VSYS_PWR_DISPLAY]:Display": (2.0, 0.0),
}
"""Rail -> watts while nothing runs, and joules a run."""


def test_energy_of_a_run_is_what_the_rails_took_more_in_the_longer_time(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    (toy.root / "rails.txt").write_text(json.dumps({name: (0.0, run) for name, (_, run) in RAILS.items()}))
    options = {"energy": True, "energy_seconds": (1, 3), "idle_seconds": 0.1, "threads": (1,)}
    results = bench(toy, INT8, delegates=("cpu",), **options)
    assert results.failures == ()
    (row,) = results.rows
    energy = row.energy
    assert energy is not None
    assert (energy.source, energy.runs, energy.seconds) == ("PowerStats HAL 2.0", 40, 2.0)
    # The toy's rails know no idle here, so a run is to the rounding of the text what it is said to be.
    assert energy.run_mj == pytest.approx(7.0, abs=0.01)
    assert energy.above_idle_mj == pytest.approx(7.0, abs=0.01)
    assert energy.idle_mw == pytest.approx(0.0, abs=1e-6)
    assert set(energy.rails_mj) == {name for name, (_, run) in RAILS.items() if run}
    assert energy.rails_mj["[L9M_VDD_DDR]:Memory(DDR)"] == pytest.approx(1.0, abs=0.01)
    assert row.runs == 20  # the times are those of the run before
    assert "energy of a run by the phone's power rails, mJ" in [grid.title for grid in tables(results)]


def test_a_phone_without_power_rails_is_one_line_whatever_is_measured(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    results = bench(toy, INT8, delegates=("cpu",), energy=True)
    assert [row.energy for row in results.rows] == [None, None]
    assert [(one.what, one.reason) for one in results.failures] == [("energy", NONE)]


def test_rails_are_read_as_each_version_of_the_service_prints_them() -> None:
    """After the format strings of AOSP's sources, with what stands around the rails."""
    two = (
        "\n============= PowerStats HAL 2.0 energy consumers ==============\nCPUCL2      :       99999.00 mWs\n"
        "========== End of PowerStats HAL 2.0 energy consumers ==========\n"
        "\n============= PowerStats HAL 2.0 energy meter ==============\n"
        "                           Channel    Cumulative Energy\n"
        "     [S2M_VDD_CPUCL2]:CPU(BIG)      123456.78 mWs\r\n"
        "     [VSYS_PWR_MODEM]:Modem                0.00 mWs\n"
        "========== End of PowerStats HAL 2.0 energy meter ==========\n"
    )
    assert parse_rails(two) == {"[S2M_VDD_CPUCL2]:CPU(BIG)": 123.45678, "[VSYS_PWR_MODEM]:Modem": 0.0}
    one = (
        "\n============= PowerStats HAL 1.0 rail energy data ==============\n"
        "          Subsys                 Rail    Cumulative Energy\n"
        "             CPU     VPH_PWR_S5C_S6C          1000.00 mWs\n"
        "========== End of PowerStats HAL 1.0 rail energy data ==========\n"
    )
    assert parse_rails(one) == {"CPU VPH_PWR_S5C_S6C": 1.0}
    for nothing in ("", "Can't find service: android.hardware.power.stats.IPowerStats/default", two[:150]):
        assert parse_rails(nothing) == {}


class Rails:
    """A phone whose service prints one text after the other."""

    def __init__(self, *values: tuple[float, ...]) -> None:
        self.values = iter(values)

    def script(self, text: str) -> subprocess.CompletedProcess[bytes]:
        lines = "".join(f"  rail{at}:CPU  {value:.2f} mWs\n" for at, value in enumerate(next(self.values)))
        content = f"=== PowerStats HAL 2.0 energy meter ===\n{lines}=== End of PowerStats HAL 2.0 energy meter ===\n"
        return subprocess.CompletedProcess([text], 0, content.encode())


@pytest.mark.parametrize(
    ("values", "runs", "reason"),
    [
        ([(1.0,), (2.0,), (3.0,), (2.0,)], (10, 20), "went backwards"),
        ([(1.0,), (2.0,), (3.0,), (4.0,), (5.0,), (6.0,)], (20, 20), "nothing to compare"),
    ],
)
def test_rails_that_say_nothing_give_no_energy(
    values: list[tuple[float, ...]], runs: tuple[int, int], reason: str
) -> None:
    made = iter(runs)

    def run(longer: PhoneConfig) -> PhoneResult:
        windows = [{"runs": next(made), "p50_ns": 1, "p90_ns": 1}]
        return PhoneResult(id="a", status="done", sustained={"seconds": longer.sustained, "windows": windows})  # type: ignore[arg-type]

    with pytest.raises(SfumatoError, match=reason):
        measure_energy(Rails(*values), PhoneConfig(), run, sleep=lambda _: None)  # type: ignore[arg-type]


def test_what_is_taken_while_nothing_runs_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 110.0))
    monkeypatch.setattr("sfumato.bench.phone.energy.time.monotonic", lambda: next(clock))
    # 10 s idle: 20 J. Short: 30 J for 100 runs; long: 110 J for 500 runs in 20 s more.
    readings = [(0.0,), (20_000.0,), (20_000.0,), (50_000.0,), (50_000.0,), (160_000.0,)]
    made = iter((100, 500))

    def run(longer: PhoneConfig) -> PhoneResult:
        windows = [{"runs": next(made), "p50_ns": 1, "p90_ns": 1}]
        return PhoneResult(id="a", status="done", sustained={"seconds": longer.sustained, "windows": windows})  # type: ignore[arg-type]

    energy = measure_energy(Rails(*readings), PhoneConfig(), run, sleep=lambda _: None)  # type: ignore[arg-type]
    assert energy.run_mj == pytest.approx(1000 * (110 - 30) / 400)
    assert energy.idle_mw == pytest.approx(2000)
    assert energy.above_idle_mj == pytest.approx(200 - 2000 * 20 / 400)


def test_the_app_has_to_be_there_and_of_the_benchmark_build(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    install = r"build the benchmark type of android_demo and `adb install` it"
    (toy.app / "debuggable").touch()
    with pytest.raises(SfumatoError, match=f"is a debug build, whose times say little: {install}$"):
        bench(toy)
    (toy.app / "debuggable").unlink()
    (toy.app / "release").touch()
    results = bench(toy, delegates=("cpu",), threads=(1,))
    assert results.rows == ()
    reason = results.failures[0].reason
    assert (
        "Activity class {dev.sfumato.demo/.BenchmarkActivity} does not exist. Build the benchmark type"
        in reason
    )
    shutil.rmtree(toy.app)
    with pytest.raises(SfumatoError, match=f"not on the phone: {install}, or use --no-app$"):
        bench(toy)


def test_a_row_measured_in_the_background_is_not_valid(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in()
    toy.behave(cpu="background")
    (row,) = bench(toy, delegates=("cpu",), threads=(1,)).rows
    assert not row.valid
    assert "keep the phone unlocked" in row.notes[0]


def test_a_phone_that_has_not_allowed_this_computer(plug_in: Callable[..., Toy]) -> None:
    toy = plug_in("--reject")
    until = time.monotonic() + 120  # adb offers one key after another
    while devices()[0].state == "authorizing" and time.monotonic() < until:
        time.sleep(0.2)
    with pytest.raises(SfumatoError, match=f"{toy.serial} (has not allowed|is still asking).*: unlock it"):
        choose(devices(), None)


def test_one_of_several_phones_has_to_be_chosen(plug_in: Callable[..., Toy]) -> None:
    first, second = plug_in(), plug_in()
    with pytest.raises(UsageError, match=f"choose one with --serial: .*{second.serial} \\(Toy Phone\\)"):
        choose(devices(), None)
    assert choose(devices(), first.serial) == Phone(first.serial)
    with pytest.raises(SfumatoError, match="adb sees no phone XYZ"):
        choose(devices(), "XYZ")


def test_commands_keep_their_words_and_their_exit_status(plug_in: Callable[..., Toy]) -> None:
    plug_in()
    phone = choose(devices(), None)
    assert phone.shell("printf", "%s|", "two words", "$HOME", "a'b") == "two words|$HOME|a'b|"
    assert phone.read("printf", r"\000\r\n\377") == b"\0\r\n\xff"
    with pytest.raises(SfumatoError, match=r"`shell ls .*` failed: .*nowhere"):
        phone.shell("ls", "/nowhere")


def test_states_of_phones_are_told_apart() -> None:
    text = (
        "* daemon started successfully\nList of devices attached\n"
        "A1 device product:x model:Pixel_8 device:x\nB2\toffline transport_id:2\n"
        "C3 no permissions (user in plugdev group; are your udev rules wrong?); see [http://x] usb:1-1\n"
    )
    found = parse_devices(text)
    assert found == [
        Device("A1", "device", "Pixel 8"),
        Device("B2", "offline", "unknown"),
        Device("C3", "no permissions", "unknown"),
    ]
    assert choose(found, None) == Phone("A1")
    for serial, reason in (("B2", "does not answer: plug it in again"), ("C3", "udev rules are missing")):
        with pytest.raises(SfumatoError, match=reason):
            choose(found, serial)
    with pytest.raises(SfumatoError, match="adb sees no phone: connect one and allow USB debugging"):
        choose([], None)


def test_without_adb_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADB", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SfumatoError, match="adb is not on the path: sudo apt-get install -y adb"):
        devices()


def test_a_result_without_runs_or_of_a_wrong_form_is_refused() -> None:
    done = {"schema": "sfumato-phone/1", "id": "a", "status": "done", "runs_ns": [1]}
    assert parse_result(json.dumps(done).encode()).runs_ns == (1,)
    for change, reason in (
        ({"runs_ns": []}, "says done and holds no runs"),
        ({"status": "fine"}, "status: Input should be 'done' or 'failed'"),
        ({"runs_ns": ["fast"]}, r"runs_ns\.0: Input should be a valid integer"),
    ):
        with pytest.raises(SfumatoError, match=reason):
            parse_result(json.dumps({**done, **change}).encode())
    with pytest.raises(SfumatoError, match="is not valid JSON"):
        parse_result(b"{")
