"""A face recogniser of the field: who is on a photo, on its upload, on what was reconstructed from it.

Comparing pixels recognises faces badly, even clean ones; a network that was trained for it (112 x 112, 512 features, MIT
licence) does it well. It is no part of sfumato: `python scripts/fetch_face_recogniser.py` fetches it through npm into the
user's cache folder, and `$SFUMATO_FACE_MODEL` may name another ONNX file of the same kind. No audit fetches anything.

    recogniser = find_recogniser()                       # None if it is not there
    features = embed(recogniser, photos)                 # (n, F), of length 1
    rank_one(features, persons, gallery, gallery_persons), verification_auc(...)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from sfumato.audit.predictions import Floats, Ints
from sfumato.audit.schema import Recognition
from sfumato.core.onnx_session import open_session
from sfumato.data.face_recogniser import recogniser_path

SIDE = 112
FACES = 400
"""Queries at most: a face takes some 20 ms."""
GALLERY = 1_000
"""Persons in the gallery at most."""
MISSING = "no face recogniser is installed: python scripts/fetch_face_recogniser.py"


def find_recogniser() -> Any:
    """A session of the recogniser, or None where its file is missing.

    Raises:
        SfumatoError: the file is there and cannot be loaded, or onnxruntime is not installed.
    """
    path = recogniser_path()
    return open_session(path) if path.is_file() else None


def embed(recogniser: Any, images: Tensor) -> Floats:
    """Features (n, F) of length 1 of faces (n, 3, H, W) in 0..1, RGB, which fill the picture.

    Of several pictures of each face, (k, n, 3, H, W), the features are averaged.
    """
    if images.dim() == 5:
        return _unit(np.mean([embed(recogniser, one) for one in images], axis=0))
    name = recogniser.get_inputs()[0].name
    found = []
    for image in images:  # the file takes one face at a time
        face = F.interpolate(image[None].float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        pixels = ((255 * face - 127) / 128).numpy()
        found.append(np.asarray(recogniser.run(None, {name: pixels})[0], dtype=np.float64).ravel())
    return _unit(np.stack(found))


def _unit(features: Floats) -> Floats:
    """Rows of length 1."""
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def rank_one(queries: Floats, persons: Ints, gallery: Floats, known: Ints) -> float:
    """Share of queries whose nearest gallery photo shows the same person.

    >>> eye = np.eye(3)
    >>> rank_one(eye[[0, 1, 1]], np.array([7, 8, 9]), eye, np.array([7, 8, 9]))
    0.6666666666666666
    """
    return float((known[(queries @ gallery.T).argmax(1)] == persons).mean())


def verification_auc(queries: Floats, persons: Ints, gallery: Floats, known: Ints) -> float:
    """AUC of "is this the same person?" over all pairs of query and gallery photo; .5 is chance."""
    same = persons[:, None] == known
    return float(roc_auc_score(same.ravel(), (queries @ gallery.T).ravel()))


def recognise(
    recogniser: Any, gallery: Tensor, known: Ints, queries: Mapping[str, Tensor], persons: Ints
) -> tuple[Recognition, ...]:
    """How well persons are recognised, for each kind of query.

    Args:
        recogniser: from `find_recogniser`.
        gallery: one clean photo of everybody, (g, 3, H, W).
        known: (g,) who they are.
        queries: kind -> images (q, 3, H, W) of the same photos in the same order, or several of each, (k, q, 3, H, W).
        persons: (q,) who is on them; all are in the gallery.
    """
    gallery, known = gallery[:GALLERY], known[:GALLERY]
    rows = np.flatnonzero(np.isin(persons, known))[:FACES]
    features = embed(recogniser, gallery)
    out = []
    for kind, images in queries.items():
        asked = embed(recogniser, images[..., rows, :, :, :])
        figures = (asked, persons[rows], features, known)
        out.append(Recognition(images=kind, rank_one=rank_one(*figures), auc=verification_auc(*figures)))
    return tuple(out)
