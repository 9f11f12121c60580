"""Which setting stands for a method, and which row of ours beside it: chosen on validation, shown on test.

    chosen = best_points(rows, clean_validation_accuracy)
    match_comparisons(rows, chosen)[0].result     # "less": ours leak less, and the intervals are apart

Accuracy on validation is that of the frozen method; the leak on validation is the accuracy of the best attack there. Test
images take no part in either, so the figures and intervals of a chosen row are not flattered by the choice.
"""

from collections.abc import Sequence

from sfumato.compare.schema import BestPoint, ComparisonRow, MatchedComparison, MatchResult

DROP = 0.015
"""How far under the clean network a method may be, as in the pass rule."""
MARGIN = 0.005
"""Accuracies this close count as equal: half a point."""
RULE = (
    f"Of the settings within {100 * DROP:g} points of the clean network on validation, the one whose best attack is the least "
    "accurate there; without any, the most accurate setting. Beside it, of our rows as accurate on validation within "
    f"{100 * MARGIN:g} points, the one whose best attack is the least accurate there. All figures are of test images."
)


def is_ours(row: ComparisonRow) -> bool:
    """The literal scheme is trained by our trainer, but it is the paper's method."""
    return row.ours and row.method != "literal"


def on_validation(row: ComparisonRow) -> float:
    """Accuracy on validation; rows of earlier releases have none and are never chosen."""
    return -1.0 if row.validation_accuracy is None else row.validation_accuracy


def leak_on_validation(row: ComparisonRow, index: int | None = None) -> float:
    """Accuracy on validation of the attack that is best there: on one hidden attribute, or the mean over all.

    Not that of `best`: which attack that is depends on test images as well.
    """
    attributes = row.attributes if index is None else row.attributes[index : index + 1]
    best = [
        max(a.val_accuracy for a in row.attacks if a.attribute == one.name and a.input == "uploads")
        for one in attributes
    ]
    return sum(best) / max(1, len(best))


def best_points(rows: Sequence[ComparisonRow], clean: float) -> tuple[BestPoint, ...]:
    """One row for each method.

    Args:
        rows: of one comparison.
        clean: accuracy of the clean network on validation, mean over the desired attributes.
    """
    found = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        near = [row for row in own if on_validation(row) >= clean - DROP - 1e-9]
        if near and near[0].attributes:
            best = min(near, key=lambda row: (leak_on_validation(row), -on_validation(row)))
        else:
            best = max(own, key=lambda row: (on_validation(row), -leak_on_validation(row)))
        found.append(BestPoint(method=method, row=best.id, accurate=bool(near)))
    return tuple(found)


def match_comparisons(
    rows: Sequence[ComparisonRow], chosen: Sequence[BestPoint]
) -> tuple[MatchedComparison, ...]:
    """The best point of each other method beside a row of ours, for every hidden attribute.

    A difference counts when the 95 % intervals of NAG over the label-only floor are apart.
    """
    by_id = {row.id: row for row in rows}
    ours = [row for row in rows if is_ours(row)]
    others = [by_id[one.row] for one in chosen if not is_ours(by_id[one.row])]
    return tuple(_match(other, ours, index) for other in others for index in range(len(other.attributes)))


def _match(other: ComparisonRow, ours: Sequence[ComparisonRow], index: int) -> MatchedComparison:
    """One method and one attribute."""
    attribute = other.attributes[index]
    candidates = [row for row in ours if on_validation(row) >= on_validation(other) - MARGIN]
    if not candidates:
        return MatchedComparison(method=other.id, attribute=attribute.name, ours=None, result="unmatched")
    best = min(candidates, key=lambda row: (leak_on_validation(row, index), -on_validation(row)))
    ours_low, ours_high = best.attributes[index].nag_label_only_ci95
    low, high = attribute.nag_label_only_ci95
    result: MatchResult = "less" if ours_high < low else "more" if ours_low > high else "inconclusive"
    return MatchedComparison(method=other.id, attribute=attribute.name, ours=best.id, result=result)
