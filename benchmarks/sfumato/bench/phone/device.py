"""What kind of phone it is, how its cores are clocked, and how warm it is: from system properties, /sys, /proc and dumpsys.

describe(phone)["cores"]
read_heat(phone).status
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.bench.phone.adb import Phone

PROPERTIES = {
    "maker": "ro.product.manufacturer",
    "model": "ro.product.model",
    "chip": "ro.soc.model",
    "chip_maker": "ro.soc.manufacturer",
    "board": "ro.board.platform",
    "android": "ro.build.version.release",
    "api": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
    "build": "ro.build.fingerprint",
}
"""What is asked about a phone -> its system property."""
CORES = r"""
for core in /sys/devices/system/cpu/cpu[0-9]*; do
    echo "core:${core##*/cpu}:$(cat "$core/cpufreq/cpuinfo_max_freq"):$(cat "$core/cpufreq/scaling_governor")"
done 2>/dev/null
cat /proc/cpuinfo
grep Cpus_allowed_list /proc/self/status
"""
"""Prints core:NUMBER:KILOHERTZ:GOVERNOR, what a phone keeps to itself left empty."""
ZONES = r"""
for zone in /sys/class/thermal/thermal_zone*; do
    echo "zone:$(cat "$zone/type"):$(cat "$zone/temp")"
done 2>/dev/null
"""
CURRENT = "Current temperatures from HAL:"
"""What stands above the sensors in dumpsys; the cached ones further up may be old."""
CPU_TYPE = "0"
"""android.os.Temperature.TYPE_CPU."""
PLAUSIBLE = (0.0, 150.0)
"""Degrees; a sensor that is off says -99.9 or 0."""


def describe(phone: Phone) -> dict[str, Any]:
    """Name, properties, cores; null what the phone does not say."""
    found = {name: phone.shell("getprop", key).strip() or None for name, key in PROPERTIES.items()}
    name = " ".join(part for part in (found["maker"], found["model"]) if part)
    text = phone.script(CORES).stdout.decode("utf-8", "replace")
    cores = parse_cores(text)
    allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)", text, re.MULTILINE)
    return {
        "device": f"{name}, Android {found['android']}",
        "properties": found,
        "cores": cores,
        "governor": ", ".join(sorted({core["governor"] for core in cores if core["governor"]})) or None,
        "allowed_cores": allowed[1] if allowed else None,
    }


def parse_cores(text: str) -> list[dict[str, Any]]:
    """Cores from what `CORES` printed: number, Arm's part number, largest clock, governor.

    >>> parse_cores("core:0:1803000:schedutil\\nprocessor\\t: 0\\nCPU part\\t: 0xd05\\n")
    [{'core': 0, 'part': '0xd05', 'max_mhz': 1803, 'governor': 'schedutil'}]
    """
    parts: dict[int, str] = {}
    number = -1
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor" and value.isdecimal():
            number = int(value)
        elif name == "CPU part":
            parts[number] = value
    found = re.findall(r"^core:(\d+):(\d*):(\w*)\r?$", text, re.MULTILINE)
    return [
        {
            "core": int(core),
            "part": parts.get(int(core)),
            "max_mhz": int(clock) // 1000 if clock else None,
            "governor": governor or None,
        }
        for core, clock, governor in sorted(found, key=lambda values: int(values[0]))
    ]


@dataclass(frozen=True)
class Heat:
    """How warm a phone is, as far as it says."""

    status: int | None
    """0 none .. 6 shutdown."""
    celsius: float | None
    """Of the hottest sensor of the processor."""
    source: str | None
    """What said so."""


def read_heat(phone: Phone) -> Heat:
    """Ask Android's thermal service (Android 10 and later), then the kernel's zones, which many phones keep to themselves."""
    text = phone.script("dumpsys thermalservice").stdout.decode("utf-8", "replace")
    status, celsius = parse_status(text), parse_temperatures(text)
    sources = ["dumpsys thermalservice"] if status is not None or celsius is not None else []
    if celsius is None:
        celsius = parse_zones(phone.script(ZONES).stdout.decode("utf-8", "replace"))
        sources += [] if celsius is None else ["/sys/class/thermal"]
    return Heat(status, celsius, ", ".join(sources) or None)


def parse_status(text: str) -> int | None:
    """The status that `dumpsys thermalservice` prints.

    >>> parse_status("ThermalStatusListeners:\\nThermal Status: 2\\n")
    2
    """
    found = re.search(r"^\s*Thermal Status: (\d+)\s*$", text, re.MULTILINE)
    return int(found[1]) if found else None


def parse_temperatures(text: str) -> float | None:
    """The hottest sensor of the processor among those that `dumpsys thermalservice` has just read; None: there is none."""
    _, _, current = text.partition(CURRENT)
    current = current.partition("Current cooling devices")[0]
    found = re.findall(r"Temperature\{mValue=([-\d.]+), mType=(-?\d+), mName=([^,}]*)", current)
    return hottest([float(value) for value, kind, name in found if kind == CPU_TYPE or "cpu" in name.lower()])


def parse_zones(text: str) -> float | None:
    """The hottest zone of the processor; kernels count in thousandths, tenths or whole degrees.

    >>> parse_zones("zone:cpu-0-0-usr:45600\\nzone:mtktscpu:47000\\nzone:battery:301\\n")
    47.0
    """
    found = re.findall(r"^zone:([^:]*):(-?\d+)\r?$", text, re.MULTILINE)
    return hottest([degrees(int(value)) for name, value in found if "cpu" in name.lower()])


def degrees(value: int) -> float:
    """A zone's number in degrees."""
    return value / (1000 if abs(value) > 1500 else 10 if abs(value) > 150 else 1)


def hottest(values: Sequence[float]) -> float | None:
    """The largest that can be true."""
    return max((value for value in values if PLAUSIBLE[0] < value < PLAUSIBLE[1]), default=None)
