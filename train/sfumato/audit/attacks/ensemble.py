"""Ensemble: the mean opinion of the best attacks, which is often better than each of them.

    P(s | x')  ~  P(s) exp( mean_k t_k f_k(x', s) )      over the k answers of least validation cross entropy

It costs nothing once the others have run, and it averages out the luck of a single fit.

    answer = combine([answer for answer in answers if answer.attribute == "race"], evidence)
"""

from collections.abc import Sequence

import numpy as np

from sfumato.audit.attack_data import Evidence
from sfumato.audit.predictions import Answer, cross_entropy, fit_temperature, log_posterior

MEMBERS = 5


def combine(answers: Sequence[Answer], evidence: Evidence, members: int = MEMBERS) -> Answer:
    """One answer out of the best few on uploads; all answers must be about the same attribute.

    Raises:
        ValueError: none of the answers is an attack on uploads.
    """
    # Averages of keyed uploads say what a single upload says: they would only vote twice.
    usable = [a for a in answers if a.on == "uploads" and a.averaged is None and a.calibrate]
    if not usable:
        raise ValueError("an ensemble needs at least one attack on uploads")
    name = usable[0].attribute
    prior, truth = evidence.prior(name), evidence.validation_labels(name)
    ranked = []
    for index, answer in enumerate(usable):
        t = fit_temperature(answer.validation, truth, prior)
        loss = cross_entropy(log_posterior(answer.validation, prior, t), truth)
        ranked.append((loss, index, t))
    chosen = [(usable[index], t) for _, index, t in sorted(ranked)[:members]]
    return Answer(
        attack="ensemble",
        architecture=f"best {len(chosen)}",
        attribute=name,
        validation=np.asarray(np.mean([t * answer.validation for answer, t in chosen], axis=0)),
        test=np.asarray(np.mean([t * answer.test for answer, t in chosen], axis=0)),
    )
