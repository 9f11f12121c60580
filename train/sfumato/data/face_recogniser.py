"""Where the audit expects a face recogniser, which is no part of sfumato (`sfumato.audit.attacks.recognise`).

recogniser_path().is_file()
"""

import os
from pathlib import Path

from sfumato.data.cache import cache_folder

FILE = "fr_feature.onnx"


def recogniser_path() -> Path:
    """`$SFUMATO_FACE_MODEL`, else the file in the user's cache folder."""
    chosen = os.environ.get("SFUMATO_FACE_MODEL")
    return Path(chosen) if chosen else cache_folder() / "face-recogniser" / FILE
