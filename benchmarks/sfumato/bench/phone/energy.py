"""What a run costs in energy, by the phone's own power rails (ODPM), where adb's shell may read them.

    rails = read_rails(phone)                   # joules since the phone started, by rail; None: it shows none
    energy = measure_energy(phone, config, run) # of one configuration

A rail feeds whatever hangs on it. So the same configuration runs twice, for a short and for a long time without a pause. The
difference of the two is divided by the runs that the second made more: what starting, loading and the timed runs take is in
both. What the phone takes while nothing runs is measured before, and stated with and without.

Source of the text formats: Pixel's power stats HAL (hardware/google/pixel/powerstats, AOSP), versions 2.0 and 1.0. androidx's
benchmark library gives the same commands.
"""

import re
import time
from collections.abc import Callable, Mapping

from sfumato.bench.phone.adb import Phone
from sfumato.bench.phone.config import PhoneConfig
from sfumato.bench.phone.protocol import PhoneResult
from sfumato.bench.results import Energy
from sfumato.core.errors import SfumatoError

COMMANDS = {
    "PowerStats HAL 2.0": "dumpsys android.hardware.power.stats.IPowerStats/default",
    "PowerStats HAL 1.0": "lshal debug android.hardware.power.stats@1.0::IPowerStats/default",
}
"""What the source is called -> the command that prints it."""
METERS = re.compile(
    r"=+ PowerStats HAL (?:2\.0 energy meter|1\.0 rail energy data) =+\n(.*?)^=+ End of PowerStats",
    re.DOTALL | re.MULTILINE,
)
RAIL = re.compile(r"^\s+(\S.*?)\s+(\d+\.\d+) mWs\s*$", re.MULTILINE)
"""Rail and milliwatt seconds; of version 1.0 the subsystem stands before the rail."""
COMPUTING = re.compile(r"CPU|GPU|TPU|NPU", re.IGNORECASE)
"""In the name of a rail that feeds a processor: these are added up. Memory has rails of its own, which are listed beside."""
NONE = "no power rails that adb can read: most phones show none (Pixels from the 6 on do), so energy is not measured"


def read_rails(phone: Phone) -> tuple[str, dict[str, float]] | None:
    """Source, and joules by rail since some time in the past; None: the phone shows none."""
    for source, command in COMMANDS.items():
        found = parse_rails(phone.script(command).stdout.decode("utf-8", "replace"))
        if found:
            return source, found
    return None


def parse_rails(text: str) -> dict[str, float]:
    """Joules by rail, in what the service prints; empty where it prints none.

    >>> parse_rails("==== PowerStats HAL 2.0 energy meter ====\\n   Channel   Cumulative Energy\\n"
    ...             "   [S2M_VDD_CPUCL2]:CPU(BIG)      1500.00 mWs\\n==== End of PowerStats HAL 2.0 energy meter ====\\n")
    {'[S2M_VDD_CPUCL2]:CPU(BIG)': 1.5}
    """
    meters = METERS.search(text.replace("\r\n", "\n"))
    if meters is None:
        return {}
    return {" ".join(name.split()): float(value) / 1000 for name, value in RAIL.findall(meters[1])}


def measure_energy(
    phone: Phone,
    config: PhoneConfig,
    run: Callable[[PhoneConfig], PhoneResult],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """The energy of one run of a configuration.

    Args:
        phone: which.
        config: how, with the seconds without a pause.
        run: measures the configuration under another config.
        sleep: waits some seconds.

    Raises:
        SfumatoError: the phone shows no rails, they went backwards, or the longer time had no more runs.
    """
    source, before = _rails(phone)
    begun = time.monotonic()
    sleep(config.idle_seconds)
    idle = _spent(before, _rails(phone)[1])
    idle_watts = _computing(idle) / (time.monotonic() - begun)
    spent, runs, seconds = [], [], []
    for length in config.energy_seconds:
        first = _rails(phone)[1]
        result = run(config.model_copy(update={"sustained": length}))
        spent.append(_spent(first, _rails(phone)[1]))
        windows = result.sustained.windows if result.sustained is not None else ()
        runs.append(sum(window.runs for window in windows))
        seconds.append(result.sustained.seconds if result.sustained is not None else 0.0)
    more, longer = runs[1] - runs[0], seconds[1] - seconds[0]
    if more <= 0 or longer <= 0:
        raise SfumatoError(
            f"energy: {runs[1]} runs in the longer time and {runs[0]} in the shorter: nothing to compare"
        )
    rails = {name: 1000 * (spent[1][name] - spent[0][name]) / more for name in spent[0] if name in spent[1]}
    run_mj = _computing(rails)
    return Energy(
        source=source,
        run_mj=run_mj,
        above_idle_mj=run_mj - 1000 * idle_watts * longer / more,
        idle_mw=1000 * idle_watts,
        rails_mj={name: value for name, value in rails.items() if value > 0},
        runs=more,
        seconds=longer,
    )


def _rails(phone: Phone) -> tuple[str, dict[str, float]]:
    found = read_rails(phone)
    if found is None:
        raise SfumatoError(NONE)
    return found


def _spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Joules between two readings.

    Raises:
        SfumatoError: a rail went backwards: the phone was started anew.
    """
    spent = {name: after[name] - value for name, value in before.items() if name in after}
    if wrong := [name for name, value in spent.items() if value < 0]:
        raise SfumatoError(f"energy: the rail {wrong[0]} went backwards, as after a restart of the phone")
    return spent


def _computing(rails: Mapping[str, float]) -> float:
    """The sum over the rails of processors.

    Raises:
        SfumatoError: there are none.
    """
    found = [value for name, value in rails.items() if COMPUTING.search(name)]
    if not found:
        raise SfumatoError(
            f"energy: none of {len(rails)} rails names a processor: {', '.join(list(rails)[:4])}"
        )
    return sum(found)
