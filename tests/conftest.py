"""What all tests share: one thread a worker, caches inside the clone, the real data sets where there are any.

`SFUMATO_TEST_THREADS` sets another number of threads (`make test-matrix` does).
The environment is set before torch or TensorFlow is imported: both read it only once.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
THREADS = os.environ.get("SFUMATO_TEST_THREADS", "1")

os.environ.update(
    OMP_NUM_THREADS=THREADS,
    MKL_NUM_THREADS=THREADS,
    OPENBLAS_NUM_THREADS=THREADS,
    TF_NUM_INTRAOP_THREADS=THREADS,
    TF_NUM_INTEROP_THREADS=THREADS,
    TF_CPP_MIN_LOG_LEVEL="3",
    # Nothing is written into the home folder of whoever runs the tests.
    SFUMATO_CACHE=str(ROOT / ".cache" / "sfumato"),
    XDG_CONFIG_HOME=str(ROOT / ".cache" / "config"),
    MPLCONFIGDIR=str(ROOT / ".cache" / "matplotlib"),
    MPLBACKEND="Agg",
)

# After the environment is set: these import torch.
pytest_plugins = ["tests.fixtures.runs", "tests.fixtures.answer_runs"]


LONG = ("tests/test_wheel.py", "tests/test_examples.py", "tests/cli/test_demo.py")
"""Files of a few long tests. Started last, one of them would run alone for minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: with `--no-loadscope-reorder` workers take files in this order."""
    items.sort(key=lambda item: item.nodeid.split("::")[0] not in LONG)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the public data sets; the test is skipped where it is not."""
    folder = Path(os.environ.get("SFUMATO_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}: set SFUMATO_TEST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session", autouse=True)
def converters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exports convert in forks of a process that has TensorFlow loaded; `started_converter` is for those that must not."""
    from tests.fixtures.converter import Converters

    from sfumato.export import tflite

    waiting = Converters(tmp_path_factory.mktemp("converters"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "run_child", waiting.run_child)
        yield
    waiting.close()


@pytest.fixture
def started_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions of this test start a process of their own, as outside of the tests."""
    from tests.fixtures.converter import run_child

    from sfumato.export import tflite

    monkeypatch.setattr(tflite, "run_child", run_child)


@pytest.fixture(scope="session")
def answer_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """`answer_export(randomised)`: an answer bundle of `tests.fixtures.answer`; without a table it has words of two bytes."""

    @cache
    def build(randomised: bool) -> Path:
        from tests.fixtures.answer import MANY, build_answer_bundle

        out = tmp_path_factory.mktemp("answer") / "export"
        if randomised:
            build_answer_bundle(out, randomised=True)
        else:
            build_answer_bundle(out, MANY)
        return out

    return build


@pytest.fixture(scope="session")
def sound_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An answer bundle of `tests.fixtures.answer` that takes recordings. It must not be changed."""
    from tests.fixtures.answer import build_answer_bundle
    from tests.fixtures.shared import made_once

    words = {"digit": tuple("0123456789")}
    return made_once(
        tmp_path_factory, "sound", lambda out: build_answer_bundle(out, words, variants=["int8"], sound=True)
    )


@pytest.fixture(scope="session")
def small_export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`small_export("float32")`: `sealed` of `tests.fixtures.runs` with fewer models, for tests to which that matters."""

    def build(*variants: str) -> Path:
        from tests.fixtures.runs import build_run
        from tests.fixtures.shared import made_once

        from sfumato.export.pipeline import export

        def make(out: Path) -> None:
            export(build_run("dither"), out, variants=variants)

        return made_once(tmp_path_factory, "-".join(("small", *variants)), make)

    return build
