"""Pieces of work as tasks of a Ray cluster: as many at a time as it has processors for.

    for part, outcome in on_ray("auto", work, parts, what="rows"): ...

`work` is called with one part in a process of a node, so every node sees files at the same paths. A task that dies with its
node runs again elsewhere.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, which ends with the command."""
RETRIES = 3
"""How often a part begins again whose process died."""
VARIABLES = ("OMP_NUM_THREADS", "SFUMATO_REFERENCES_GB")
"""Handed on to the tasks. Without a number of threads Ray gives a task one."""

Part = TypeVar("Part")
Outcome = TypeVar("Outcome")


def check_ray() -> None:
    """Look for Ray before any work.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("ray") is None:
        raise UsageError("--ray needs Ray beside this program: pip install ray==2.60.0")


def on_ray(
    address: str,
    work: Callable[[Part], Outcome],
    parts: Sequence[Part],
    *,
    what: str,
    gpus: float = 0,
    further: Callable[[Part, Outcome], Sequence[Part]] = lambda part, outcome: (),
) -> Iterator[tuple[Part, Outcome]]:
    """Each part with its outcome, as they finish.

    Args:
        address: of a cluster, `auto` for the one that was started here, or `local`.
        work: what a task does; it is pickled, and so are part and outcome.
        parts: what is to be done; `str(part)` names one in errors.
        what: the parts are, for a note: `rows`.
        gpus: that a task takes.
        further: parts that can be done once another is.

    Raises:
        SfumatoError: Ray is not installed, there is no cluster, or what a part raised.
    """
    check_ray()
    import ray
    from ray.exceptions import RayError, RayTaskError

    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    try:
        ray.init(
            address, include_dashboard=False, runtime_env={"env_vars": variables}, logging_level="warning"
        )
    except Exception as error:  # Ray raises that itself where a node of its own does not start in time
        raise SfumatoError(f"no Ray cluster at {address}: {error}") from None
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_run)
        waiting: dict[Any, Part] = {task.remote(work, part): part for part in parts}
        note(
            f"{len(waiting)} {what} on {len(ray.nodes())} node(s), "
            f"{ray.cluster_resources().get('CPU', 0):.0f} processors"
        )
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            part = waiting.pop(done)
            try:
                outcome = ray.get(done)
            except RayTaskError as error:
                cause = error.cause
                raise (
                    cause if isinstance(cause, SfumatoError) else SfumatoError(f"{part}: {cause!r}")
                ) from None
            except RayError as error:
                raise SfumatoError(f"{part} was lost {RETRIES + 1} times: {error}") from None
            waiting |= {task.remote(work, one): one for one in further(part, outcome)}
            yield part, outcome
    finally:
        ray.shutdown()


def _run(work: Callable[[Part], Outcome], part: Part) -> Outcome:
    return work(part)
