"""Re-identification: which person is on a test photo, given one other photo of everybody.

The gallery holds one clean photo of every person who is on at least two test photos; their other photos are the queries.
Three ways to match: by the pixels of the clean query, of the reconstructed one, and by the likelihood of its upload under
each gallery photo. Comparing pixels is a weak way to recognise faces, even clean ones, so the clean figure is reported too.
Where a face recogniser is installed (`recognise`), it looks at clean photos, uploads and reconstructed photos.

    figures = reidentify(data, reconstructed)          # None where nobody is labelled or seen twice
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.audit.attack_data import BATCH, AttackData
from sfumato.audit.attacks import posterior
from sfumato.audit.attacks.recognise import MISSING, find_recogniser, recognise
from sfumato.audit.predictions import Ints
from sfumato.audit.rows import Kept
from sfumato.audit.schema import Recognition, Reidentification
from sfumato.data.face_recogniser import recogniser_path

QUERIES = 4_000
"""Queries at most."""


def gallery_and_queries(persons: Ints) -> tuple[Ints, Ints]:
    """Rows of the first photo of everybody with two or more, and of all their others.

    >>> [rows.tolist() for rows in gallery_and_queries(np.array([5, 7, 5, 8, 5, 8]))]
    [[0, 3], [2, 4, 5]]
    """
    names, first, counts = np.unique(persons, return_index=True, return_counts=True)
    gallery = np.sort(first[counts > 1])
    others = np.isin(persons, names[counts > 1])
    others[gallery] = False
    return gallery, np.flatnonzero(others)


def by_pixels(queries: Tensor, gallery: Tensor, middle: Tensor) -> Ints:
    """For every query the most similar of the gallery (g, 3, H, W), by cosine around the mean photo.

    Queries are (q, 3, H, W), or (k, q, 3, H, W) with k photos of each, whose cosines are averaged.
    """
    known = F.normalize((gallery - middle).flatten(1), dim=1)

    def cosines(photos: Tensor) -> Tensor:
        parts = torch.split(photos, BATCH)
        return torch.cat([F.normalize((part - middle).flatten(1), dim=1) @ known.T for part in parts])

    each = queries if queries.dim() == 5 else queries[None]
    return np.asarray(torch.stack([cosines(photos) for photos in each]).mean(0).argmax(1).numpy())


def by_likelihood(data: AttackData, queries: Ints, gallery: Ints) -> Ints:
    """For every query the gallery photo under which its upload is most likely."""
    candidates: Kept = {
        name: value[torch.from_numpy(gallery)] for name, value in data.test.parameters.items()
    }

    def best() -> Iterator[Ints]:
        for start in range(0, len(queries), posterior.ROWS):
            uploads = data.test_uploads[queries[start : start + posterior.ROWS]]
            yield posterior.likelihoods(data.channel, uploads, candidates, data.device).argmax(1)

    return np.concatenate(list(best()))


def reidentify(data: AttackData, reconstructed: Tensor) -> Reidentification | None:
    """Shares of right first matches, or None where persons are not labelled or nobody is seen twice.

    Args:
        data: gives the test photos, their uploads and who is on them.
        reconstructed: the reconstructed test photos, (n_test, 3, H, W), or several of each, (k, n_test, 3, H, W).
    """
    if data.persons is None:
        return None
    persons = np.asarray(data.persons)
    gallery, queries = gallery_and_queries(persons)
    queries = queries[:QUERIES]
    if len(gallery) < 2:
        return None
    known, asked = (data.test.clean(torch.from_numpy(rows)) for rows in (gallery, queries))
    middle, drawn = known.mean(0), reconstructed[..., queries, :, :, :]
    matches = {
        "clean": by_pixels(asked, known, middle),
        "reconstructed": by_pixels(drawn, known, middle),
        "likelihood": by_likelihood(data, queries, gallery),
    }
    right = {
        name: float((persons[gallery[rows]] == persons[queries]).mean()) for name, rows in matches.items()
    }
    recogniser = find_recogniser()
    recognition: tuple[Recognition, ...] = ()
    if recogniser is not None:
        shown = {"reconstructed photos": drawn}
        if reconstructed.dim() == 4:  # beside drawings stands a decoder, whose row has these already
            uploads = data.test_uploads[queries].float()
            seen = {"uploads": uploads} if data.upload_shape == data.photo_shape else {}
            shown = {"clean photos": asked, **seen, **shown}
        recognition = recognise(recogniser, known, persons[gallery], shown, persons[queries])
    return Reidentification(
        persons=len(gallery),
        queries=len(queries),
        recognition=recognition,
        recogniser=MISSING if recogniser is None else recogniser_path().name,
        **right,
    )
