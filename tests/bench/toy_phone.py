"""The programs of a phone that `sfumato bench phone` calls, and an app that keeps the protocol of docs/benchmarks.md.

    python toy_phone.py ROOT getprop ro.product.model

ROOT holds `props.json`, `data/PACKAGE/` (the app), `shared/` (what app and shell both write) and `behaviour.json`: delegate ->
what the app does with it, `good` if nothing is said. `thermal.txt` is what the thermal service says, with a number for STATUS
that rises with every question; without the file there is no such service, as before Android 10. `app.json` names another app: a
command, to which the folder `shared` and the extras are added. `rails.txt` names the phone's power rails; without it there are
none.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT, PROGRAM, *ARGUMENTS = sys.argv[1:] if len(sys.argv) > 2 else ("", "")
HOME = Path(ROOT)
PACKAGE = "dev.sfumato.demo"
APP, SHARED = HOME / "data" / PACKAGE, HOME / "shared"


def getprop(name: str) -> None:
    print(json.loads((HOME / "props.json").read_text(encoding="utf-8")).get(name, ""))


def pm(verb: str, package: str) -> None:
    if verb == "path" and (HOME / "data" / package).exists():
        print(f"package:/data/app/{package}/base.apk")


def am(verb: str, *words: str) -> None:
    if verb == "force-stop":
        stop()
        return
    stop()
    kinds: dict[str, Callable[[str], object]] = {"--es": str, "--ei": int}
    extras = {words[i + 1]: kinds[word](words[i + 2]) for i, word in enumerate(words) if word in kinds}
    component = words[words.index("-n") + 1]
    if (APP / "release").exists() or component != f"{PACKAGE}/.BenchmarkActivity":
        print(
            f"Starting: Intent {{ cmp={component} }}\nError: Activity class {{{component}}} does not exist."
        )
        return
    app = [sys.executable, __file__, ROOT, "app"]
    if (HOME / "app.json").exists():
        app = [*json.loads((HOME / "app.json").read_text(encoding="utf-8")), str(SHARED)]
    app.append(json.dumps(extras))
    with open(os.devnull, "r+b") as nothing:
        process = subprocess.Popen(app, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    (HOME / "pid").write_text(str(process.pid))
    print("Status: ok\nComplete")


def pid() -> int | None:
    file = HOME / "pid"
    number = int(file.read_text(encoding="utf-8")) if file.exists() else None
    return number if number and Path(f"/proc/{number}/cmdline").exists() and alive(number) else None


def alive(number: int) -> bool:
    return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def stop() -> None:
    if number := pid():
        os.kill(number, signal.SIGKILL)


def pidof(_: str) -> None:
    if number := pid():
        print(number)
    else:
        sys.exit(1)


def logcat(*words: str) -> None:
    if "-c" in words:
        (HOME / "log").write_text("")
    else:
        name = HOME / ("crash" if "crash" in words else "log")
        print(name.read_text(encoding="utf-8") if name.exists() else "")


def dumpsys(service: str, *words: str) -> None:
    if service == "package":
        kind = "DEBUGGABLE " if (APP / "debuggable").exists() else ""
        print(
            f"Packages:\n  Package [{words[0]}] (e8a1):\n    flags=[ {kind}HAS_CODE ALLOW_CLEAR_USER_DATA ]"
        )
        return
    if service == "android.hardware.power.stats.IPowerStats/default" and (HOME / "rails.txt").exists():
        meters()
        return
    file = HOME / "thermal.txt"
    if service != "thermalservice" or not file.exists():
        sys.exit(f"Can't find service: {service}")
    asked = HOME / "asked"
    with asked.open("a") as log:
        log.write("x")
    print(file.read_text(encoding="utf-8").replace("STATUS", str(asked.stat().st_size - 1)))


def meters() -> None:
    """What Pixel's service prints: residencies and consumers before the rails. A rail has taken so many watts since the phone
    started, and so many joules for every run of the app in `ran`."""
    watts = json.loads((HOME / "rails.txt").read_text(encoding="utf-8"))
    ran = (HOME / "ran").stat().st_size if (HOME / "ran").exists() else 0
    up = time.time() - (HOME / "props.json").stat().st_mtime
    print("\n============= PowerStats HAL 2.0 state residencies ==============")
    print(f"  {'Entity':>16}   {'State':>18}   {'Total time':>16}")
    print("========== End of PowerStats HAL 2.0 state residencies ==========")
    print("\n============= PowerStats HAL 2.0 energy consumers ==============")
    print(f"{'GPU':<12} : {12345.0:14.2f} mWs\n  {10042:10d} - {12.0:14.2f} mWs")
    print("========== End of PowerStats HAL 2.0 energy consumers ==========")
    print("\n============= PowerStats HAL 2.0 energy meter ==============")
    print(f"  {'Channel':>32}   {'Cumulative Energy':>18}")
    for name, (idle, run) in watts.items():
        print(f"  {name:>32}   {1000 * (idle * up + run * ran):14.2f} mWs")
    print("========== End of PowerStats HAL 2.0 energy meter ==========")


# ---- the app ----


def app(text: str) -> None:
    extras = json.loads(text)
    behaviour = json.loads((HOME / "behaviour.json").read_text(encoding="utf-8")).get(
        extras["delegate"], "good"
    )
    result: dict[str, Any] = {"schema": "sfumato-phone/1", "id": extras["id"]}
    if behaviour == "crash":
        (HOME / "crash").write_text(
            f"E AndroidRuntime: FATAL EXCEPTION: main\nE AndroidRuntime: Process: {PACKAGE}, PID: 7\n"
            "E AndroidRuntime: java.lang.IllegalStateException: no surface\n"
        )
        return
    if behaviour == "hang":
        time.sleep(60)
    if behaviour == "unplug":
        os.kill(int(os.environ["DAEMON"]), signal.SIGKILL)
        return
    if behaviour == "stale":
        finish({**result, "id": "of yesterday", "status": "done", "runs_ns": [1]})
        time.sleep(60)
    if behaviour == "failed":
        finish({**result, "status": "failed", "error": "GPU delegate: not supported on this device"})
    elif behaviour == "other schema":
        finish({**result, "schema": "sfumato-phone/9"})
    elif extras["model"] not in os.listdir(SHARED / "bench"):
        finish({**result, "status": "failed", "error": "no such model"})
    else:
        finish({**result, **measure(extras, behaviour), "foreground": behaviour != "background"})


def finish(result: dict[str, Any]) -> None:
    part = SHARED / "bench.json.part"
    part.write_text(json.dumps(result))
    part.rename(SHARED / "bench.json")


def log_lines(delegate: str, behaviour: str) -> list[str]:
    """What TensorFlow Lite logs on a real phone: XNNPACK follows every other delegate and takes what that one left.

    A delegate that takes no node (`silent`) has no line of its own; on a phone whose NNAPI has no driver, NNAPI is one. A model
    that is compiled for an accelerator alone (`whole`, and the NPU) has none at all.
    """
    if behaviour == "whole" or (delegate == "npu" and behaviour == "good"):
        return []
    head = "11-29 20:15:01.123  4242  4260 I tflite  : "
    line = "Replacing {} node(s) with delegate ({}) node, yielding {} partitions"
    lines = [head + "Created TensorFlow Lite XNNPACK delegate for CPU."]
    if behaviour in ("silent", "none taken", "leaks") or delegate == "cpu":
        return [*lines, head + line.format("4 out of 4", "TfLiteXNNPackDelegate", 1) + " for subgraph 0."]
    if delegate == "nnapi":
        lines += [head + line.format("3 out of 4", "TfLiteNnapiDelegate", 2) + " for subgraph 0."]
        return [*lines, head + line.format("1 out of 2", "TfLiteXNNPackDelegate", 2) + " for subgraph 0."]
    return [*lines, head + line.format("1", "TfLiteGpuDelegateV2", 1) + "."]


def measure(extras: dict[str, Any], behaviour: str) -> dict[str, Any]:
    import numpy as np

    from sfumato.runtime.interpreter import open_model

    content = (SHARED / "bench" / extras["model"]).read_bytes()
    clock = time.perf_counter_ns
    begun = clock()
    session = open_model(content, threads=extras["threads"])
    ready = clock()
    (entry,) = session.inputs.values()
    count = int(np.prod(entry["shape"]))
    picture = np.array([(i * 2654435761 % 2**32) >> 24 for i in range(count)], np.uint8)
    image: Any
    if np.dtype(entry["dtype"]) == np.int8:
        image = (picture ^ 0x80).view(np.int8).reshape(entry["shape"])
    else:
        image = (picture / np.float32(255)).astype(np.float32).reshape(entry["shape"])

    def run() -> int:
        before = clock()
        session.run(image)
        return clock() - before

    first = run()
    for _ in range(extras["warmup"]):
        run()
    runs = [run() for _ in range(extras["runs"])]
    windows = [[run() for _ in range(20)] for _ in range(extras["sustained"])]
    outputs = session.run(image)
    with (HOME / "ran").open("a") as tally:  # for the rails: one byte a run
        tally.write("x" * (len(runs) + sum(map(len, windows))))
    with (HOME / "log").open("a") as log:
        log.writelines(f"{line}\n" for line in log_lines(extras["delegate"], behaviour))
    taken = 0 if behaviour == "none taken" else 1 if extras["delegate"] == "cpu" else None
    promised = behaviour in ("whole", "leaks") or (extras["delegate"] == "npu" and behaviour == "good")
    steps = ("decode", "resize", "network", "noise", "sampler", "encode")
    return {
        "status": "done",
        "error": None,
        "model": extras["model"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "runtime": "toy 1.0",
        "nodes": None if taken is None else 1,
        "delegated_nodes": taken,
        "partitions": taken,
        "fully_accelerated": promised,
        "init_ms": (ready - begun) / 1e6,
        "first_ms": first / 1e6,
        "warmup": extras["warmup"],
        "runs_ns": runs,
        "sustained": {
            "seconds": float(extras["sustained"]),
            "windows": [
                {"runs": len(w), "p50_ns": sorted(w)[len(w) // 2], "p90_ns": sorted(w)[-2], "thermal": 1}
                for w in windows
            ],
        }
        if windows
        else None,
        "stages": {f"{name}_ns": [1000, 2000, 3000] for name in steps} | {"runs": 3}
        if "photo" in extras
        else None,
        "output_sha256": hashlib.sha256(b"".join(outputs[n].tobytes() for n in sorted(outputs))).hexdigest(),
        "thermal": {"before": 0, "after": 2},
        "battery": {"percent": 80, "charging": True, "celsius": 30.5},
        "peak_kb": 1234,
        "app": "0.1.0",
        "something new": [],
    }


PROGRAMS: dict[str, Callable[..., None]] = {
    "getprop": getprop,
    "pm": pm,
    "am": am,
    "pidof": pidof,
    "logcat": logcat,
    "dumpsys": dumpsys,
    "app": app,
}

if __name__ == "__main__":
    PROGRAMS[PROGRAM](*ARGUMENTS)
