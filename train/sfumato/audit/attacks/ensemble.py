"""Ensemble: the mean scores of the best attacks, which is often better than each of them.

    P(s | x')  ~  P(s) exp( mean_k t_k f_k(x', s) )      over the k predictions of least validation cross entropy

It costs nothing once the others have run, and it averages out the chance of a single fit.

    prediction = combine([prediction for prediction in predictions if prediction.attribute == "race"], data)
"""

from collections.abc import Sequence

import numpy as np

from sfumato.audit.attack_data import AttackData
from sfumato.audit.predictions import Prediction, cross_entropy, fit_temperature, log_posterior

MEMBERS = 5


def combine(predictions: Sequence[Prediction], data: AttackData, members: int = MEMBERS) -> Prediction:
    """One prediction from the best few on uploads; all predictions must be about the same attribute.

    Raises:
        ValueError: none of the predictions is an attack on uploads.
    """
    # Averages of keyed uploads say what a single upload says: they would only count twice.
    usable = [a for a in predictions if a.input == "uploads" and a.averaged is None and a.calibrate]
    if not usable:
        raise ValueError("an ensemble needs at least one attack on uploads")
    name = usable[0].attribute
    prior, truth = data.prior(name), data.validation_labels(name)
    ranked = []
    for index, prediction in enumerate(usable):
        t = fit_temperature(prediction.validation, truth, prior)
        loss = cross_entropy(log_posterior(prediction.validation, prior, t), truth)
        ranked.append((loss, index, t))
    chosen = [(usable[index], t) for _, index, t in sorted(ranked)[:members]]
    return Prediction(
        attack="ensemble",
        architecture=f"best {len(chosen)}",
        attribute=name,
        validation=np.asarray(np.mean([t * prediction.validation for prediction, t in chosen], axis=0)),
        test=np.asarray(np.mean([t * prediction.test for prediction, t in chosen], axis=0)),
    )
