"""`sfumato bench phone`: every model, delegate and number of threads on one phone, by the demo app's benchmark activity.

A configuration that fails is written down and the next one is tried. When the phone itself is gone, what was measured until
then is kept.

    results = bench_phone(choose(devices(), None), subjects, PhoneConfig(delegates=("cpu", "nnapi")))
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from sfumato.bench.phone.adb import Phone, PhoneGoneError
from sfumato.bench.phone.app import check_app, clean_up, run_configuration, send, stop_app
from sfumato.bench.phone.config import PhoneConfig
from sfumato.bench.phone.device import describe
from sfumato.bench.phone.energy import NONE, measure_energy
from sfumato.bench.phone.measurement import make_measurement, make_stages
from sfumato.bench.phone.protocol import PhoneResult
from sfumato.bench.results import Failure, Measurement, Results, Stage
from sfumato.bench.subjects import OURS, Subject
from sfumato.core.errors import SfumatoError
from sfumato.core.provenance import provenance


def bench_phone(
    phone: Phone,
    subjects: Sequence[Subject],
    config: PhoneConfig,
    *,
    export: Path | None = None,
    watch: Callable[[str], None] = lambda title: None,
) -> Results:
    """Measure models on a phone.

    Args:
        phone: which.
        subjects: the models.
        config: how.
        export: whose contract goes along, so that the app also times the way from photo to upload; None leaves that out.
        watch: called with the name of each configuration as it begins.

    Raises:
        SfumatoError: the app is missing or a debug build, or the phone was gone before anything was measured.
    """
    device = describe(phone)
    check_app(phone)
    rows: list[Measurement] = []
    stages: list[Stage] = []
    failures: list[Failure] = []
    without_rails = False
    try:
        send(phone, subjects, config, export)
        for subject, delegate, threads in configurations(subjects, config):
            what = f"{subject.name} {subject.variant}, {delegate}, {threads} threads"
            watch(what)
            # The steps between photo and upload are timed once, with the model that ships.
            ships = subject.name == OURS and subject.int8 and delegate == "cpu"
            photo = export is not None and ships and not stages
            try:
                result = run_configuration(phone, subject, delegate, threads, config, photo=photo)
            except PhoneGoneError:
                raise
            except SfumatoError as error:
                failures.append(Failure(what=what, reason=str(error)))
                stop_app(phone)
                continue
            row = make_measurement(subject, delegate, threads, result)
            stages += make_stages(result)
            rows.append(row)
            if not config.energy or without_rails:
                continue
            watch(f"{what}, energy")

            def again(
                longer: PhoneConfig,
                subject: Subject = subject,
                delegate: str = delegate,
                threads: int = threads,
            ) -> PhoneResult:
                return run_configuration(phone, subject, delegate, threads, longer, photo=False)

            try:
                rows[-1] = row.model_copy(update={"energy": measure_energy(phone, config, again)})
            except PhoneGoneError:
                raise
            except SfumatoError as error:
                without_rails = str(error) == NONE  # one line, not one for every row
                failures.append(
                    Failure(what="energy" if without_rails else f"{what}, energy", reason=str(error))
                )
                stop_app(phone)
        clean_up(phone, config)
    except PhoneGoneError as error:
        if not rows:
            raise
        failures.append(Failure(what="everything after that", reason=str(error)))
    return Results(
        target="phone",
        environment={**provenance(), **device},
        rows=tuple(rows),
        stages=tuple(stages),
        failures=tuple(failures),
        settings=config.model_dump(mode="json"),
    )


def configurations(subjects: Sequence[Subject], config: PhoneConfig) -> list[tuple[Subject, str, int]]:
    """All combinations; threads only matter to the CPU."""
    cases = [
        (delegate, threads)
        for delegate in config.delegates
        for threads in (config.threads if delegate == "cpu" else config.threads[:1])
    ]
    return [(subject, *case) for subject, case in itertools.product(subjects, cases)]
