"""The page explains itself, and nothing of it lies beside a narrow screen."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.audit.simulation import audit as simulated

from sfumato.audit import report
from sfumato.audit.attack_data import AttackData
from sfumato.audit.bounds import mixture_bounds, photo_bounds, worst_groups
from sfumato.audit.pass_rule import DEFAULT, judge
from sfumato.audit.runner import rate_bits
from sfumato.audit.schema import (
    Audit,
    Composition,
    DesiredResult,
    ExactLeak,
    Goal,
    PositiveControl,
    Recognition,
    Reconstruction,
    Reidentification,
    UploadBytes,
    read_audit,
)
from sfumato.audit.statements import statements

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NARROW = 390


@pytest.fixture(scope="module")
def whole(make: Any, attack_data: Callable[[str], AttackData]) -> Audit:
    """An audit with every part that a page can show."""
    data = attack_data("planted")
    hidden = simulated((0.9, 0.1), [0.0, 0.5], validation=300, test=500)[0].model_copy(
        update={"name": "an_attribute_with_a_name_that_is_too_long_for_any_phone_of_this_world"}
    )
    kept = DesiredResult(name="shape", classes=2, accuracy=0.97, clean_accuracy=0.99, ci95=(0.96, 0.98))
    goal = Goal(beyond_target_bits=0.03, beyond_reached_bits=1.0, met=False)
    judged = judge([kept], [hidden], images=500, goal=goal)
    photos = photo_bounds(data)
    rate, bounds = rate_bits(data), mixture_bounds(photos)
    common: dict[str, Any] = {
        "accuracy": 0.6,
        "balanced_accuracy": 0.6,
        "auc": 0.64,
        "floor": 0.5,
        "nag": 0.2,
    }
    return Audit(
        artifact="int8",
        n_test=500,
        desired=(kept,),
        rate_bits=rate,
        information_bounds=bounds,
        upload_bytes=UploadBytes(mean=96, raw_jpeg90_mean=900, encoding="png"),
        attributes=(hidden,),
        attacks=(),
        verdict=judged.verdict,
        reasons=judged.reasons,
        rule=DEFAULT,
        more_images=3400,
        goal=goal,
        worst_groups=worst_groups(make("planted").dataset, photos[0]),
        statements=statements([hidden], rate, bounds),
        positive_controls=(
            PositiveControl(
                attribute="coin",
                planted_nag=0.08,
                found_nag=0.07,
                found_upper=0.09,
                passed=True,
                attack="probe, cnn",
                images=900,
            ),
        ),
        compositions=(
            Composition(
                what="same photo, two releases",
                attribute="tone",
                uploads=2,
                nag_upper=0.3,
                bits=0.02,
                **common,
            ),
        ),
        exact=(
            ExactLeak(
                attribute="tone",
                gains=hidden.gains,
                words=2,
                images=500,
                nag_upper=0.3,
                bits=0.02,
                bits_upper=0.03,
                entropy_bits=1.0,
                **common,
            ),
        ),
        reconstructions=(
            Reconstruction(
                method="decoder",
                pairs=400,
                psnr=18.0,
                ssim=0.4,
                reidentification=Reidentification(
                    persons=30,
                    queries=60,
                    clean=0.3,
                    reconstructed=0.1,
                    likelihood=0.2,
                    recognition=(
                        Recognition(images="clean photos", rank_one=0.912, auc=0.987),
                        Recognition(images="uploads", rank_one=0.034, auc=0.512),
                    ),
                    recogniser="fr_feature.onnx",
                ),
            ),
        ),
        keep=("shape",),
        channel="dither",
        plan="quick",
        date="2026-11-28T12:00:00+00:00",
        command="sfumato audit exports/a-folder-with-a-very-long-name/and-another-one --attacks quick --folds 3",
        provenance={"sfumato": "9.9.9", "git_commit": "0123456789abcdef"},
    )


@pytest.fixture(scope="module")
def page(
    whole: Audit, attack_data: Callable[[str], AttackData], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "metrics.jsonl").write_text(
        '{"stage": "cotrain", "epoch": 1, "val_accuracy": 0.5, "rate_bits": 9.0}\n'
    )
    report.write(whole, attack_data("planted"), folder, folder / "report.html")
    return folder / "report.html"


def test_the_page_says_by_what_and_when_it_was_made(page: Path, whole: Audit) -> None:
    text = page.read_text(encoding="utf-8")
    for shown in (
        "sfumato 9.9.9, commit 0123456789",
        "2026-11-28T12:00:00",
        "--attacks quick --folds 3",
        "at most 1.5 points under the clean network",
        "About 3,400 more test images",
        "at most 0.03 bits beyond the answer, 1.000 reached. Missed.",
        "What the columns mean",
        "Would these attackers have found a leak?",
        "same photo, two releases",
        "What a word tells, counted",
        "from the word",
        "counted, the\n      measure by which it may be largest",
        "91.2 %",
        "0.512",
        "By fr_feature.onnx, against one clean photo",
        "Whose photos an upload may tell most about",
        "99th percentile",
        "on an even yes-or-no attribute",
    ):
        assert shown in text, shown
    assert whole.verdict.replace("_", " ") in text
    assert text.count("<td") == text.count("<td data-column=")


def test_a_page_of_an_older_audit_shows_what_its_rule_saw(
    whole: Audit, attack_data: Callable[[str], AttackData], tmp_path: Path
) -> None:
    old: dict[str, Any] = whole.to_json()
    old["exact"] = [
        {key: value for key, value in one.items() if key not in ("gains", "asked")} for one in old["exact"]
    ]
    (tmp_path / "audit.json").write_text(json.dumps(old), encoding="utf-8")
    audit = read_audit(tmp_path / "audit.json")
    assert audit.exact[0].gains == ()
    assert audit.exact[0].worst is None
    text = report.render(audit, attack_data("planted"), tmp_path)
    assert "gain on tone in accuracy, counted" in text
    assert "from the word</th>" not in text


def test_a_flat_noise_map_is_left_out(attack_data: Callable[[str], AttackData]) -> None:
    (_, photo), (caption, noise), (_, upload) = report.image_strips(attack_data("noise"))
    assert photo.startswith("data:image/png")
    assert upload.startswith("data:image/png")
    assert noise == ""
    assert caption.startswith("No noise map: every pixel is equally random, 1.000 bits")
    caption, noise = report.image_strips(attack_data("planted"))[1]
    assert noise
    assert "bright yellow" in caption


@pytest.fixture
def narrow() -> Iterator[Any]:
    """A browser as narrow as a phone."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # The proxy leads nowhere: the page fetches nothing, and the browser shall not either.
        browser = running.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu"],
            proxy={"server": "http://127.0.0.1:9"},
        )
        yield browser.new_page(viewport={"width": NARROW, "height": 800})
        browser.close()


def test_nothing_lies_beside_a_narrow_screen(page: Path, narrow: Any) -> None:
    narrow.goto(page.as_uri())
    narrow.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    beside = narrow.evaluate(
        """width => [...document.querySelectorAll('body *')]
            .filter(one => one.getClientRects().length && !one.closest('defs'))
            .filter(one => one.getBoundingClientRect().right > width + 1 || one.getBoundingClientRect().left < -1)
            .map(one => one.outerHTML.slice(0, 100))""",
        NARROW,
    )
    assert beside == []
    assert narrow.evaluate("document.documentElement.scrollWidth") <= NARROW
    hidden = narrow.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert hidden == 0
    # A cell says which column it belongs to.
    assert (
        narrow.evaluate("getComputedStyle(document.querySelector('td'), '::before').content") == '"attribute"'
    )
