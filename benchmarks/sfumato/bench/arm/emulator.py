"""One program on one emulated core: the counts between its marks.

The emulated core decides which kernels run: XNNPACK asks the kernel's hardware flags and /proc/cpuinfo, so the guest sees a
/proc/cpuinfo that fits its core. Counts are executed A64 instructions. Time under an emulator says nothing about any
processor and is not even measured here.

    counts = run_guest(toolbox, "cortex-a76", ["model", ...])
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.bench.arm.toolbox import Toolbox
from sfumato.bench.results import Stage
from sfumato.core.errors import SfumatoError

CLASSES = ("all", "load_store", "simd", "float_fma", "widening_mac", "dot_product")
"""As count.c writes them. `simd` holds the three behind it; `load_store` is apart from `simd`."""
LIMIT_S = 900

Counts = dict[str, int]


@dataclass(frozen=True)
class Core:
    """What /proc/cpuinfo says about a core (Arm's Main ID register and Linux's hardware flags)."""

    variant: str
    part: str
    revision: str
    features: str


_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CORES = {
    "cortex-a53": Core("0x0", "0xd03", "4", _V8),
    "cortex-a72": Core("0x0", "0xd08", "3", _V8),
    "cortex-a76": Core("0x4", "0xd0b", "1", f"{_V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"),
}
"""Name for qemu -> core. Only the last has dot products. qemu's `max` has instructions that no phone has."""


def cpuinfo(core: Core) -> str:
    """The text of /proc/cpuinfo on a phone with one such core."""
    return (
        f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {core.features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: {core.variant}\nCPU part\t: {core.part}\n"
        f"CPU revision\t: {core.revision}\n\n"
    )


def make_root(toolbox: Toolbox, core: str, folder: Path) -> None:
    """What the guest takes for its root: the shared libraries, and files that describe the core."""
    for path in toolbox.root.iterdir():
        (folder / path.name).symlink_to(path)
    for name, content in (
        ("proc/cpuinfo", cpuinfo(CORES[core])),
        ("sys/devices/system/cpu/possible", "0\n"),
        ("sys/devices/system/cpu/present", "0\n"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def run_guest(toolbox: Toolbox, core: str, arguments: Sequence[str | Path]) -> list[Counts]:
    """Run the guest program; the counts of each of its marked steps, the cost of a mark taken off.

    Raises:
        SfumatoError: the guest failed; its last line is quoted.
    """
    with tempfile.TemporaryDirectory(prefix="sfumato-guest-") as name:
        root, out = Path(name) / "root", Path(name) / "counts"
        root.mkdir()
        make_root(toolbox, core, root)
        plugin = ["-plugin", f"{toolbox.plugin},out={out}"]
        command = [*toolbox.qemu, *plugin, "-cpu", core, "-L", root, toolbox.guest, *arguments]
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env={"PATH": os.defpath, "HOME": name},
                capture_output=True,
                errors="replace",
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SfumatoError(f"the emulated {core} took longer than {LIMIT_S} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise SfumatoError(f"the program on the emulated {core} failed: {lines[-1]}")
        return steps(out.read_text())


def steps(text: str) -> list[Counts]:
    """Counts between every second mark and the next; the first pair has nothing between and is what a mark costs.

    >>> steps("0 0 0 0 0 0\\n5 1 0 0 0 0\\n9 1 0 0 0 0\\n24 4 2 0 0 1\\n")[0]["all"]
    10
    """
    marks = [[int(word) for word in line.split()] for line in text.splitlines()]
    pairs = [
        [after - before for before, after in zip(*pair, strict=True)]
        for pair in zip(marks[::2], marks[1::2], strict=True)
    ]
    empty, *found = pairs
    return [
        dict(zip(CLASSES, (count - cost for count, cost in zip(pair, empty, strict=True)), strict=True))
        for pair in found
    ]


def agreed(found: Sequence[Counts]) -> tuple[Counts, tuple[str, ...]]:
    """The counts of several runs, which must be equal; otherwise those of the middle run, and a note."""
    ordered = sorted(found, key=lambda counts: counts["all"])
    if ordered[0] == ordered[-1]:
        return ordered[0], ()
    low, high = ordered[0]["all"], ordered[-1]["all"]
    return ordered[len(ordered) // 2], (f"the runs differ: {low:,} to {high:,} instructions",)


def make_stage(name: str, core: str, found: Sequence[Counts]) -> Stage:
    """The row of a step from the counts of its runs, which must be equal.

    Raises:
        SfumatoError: they differ.
    """
    counts, notes = agreed(found)
    if notes:
        raise SfumatoError(f"{name} on {core}: {notes[0]}")
    return Stage(name=name, cpu=core, runs=len(found), instructions=counts["all"], classes=counts)
