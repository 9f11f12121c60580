"""Do the page and the Android library compute the pictures of recordings that Python does? Counts the bytes that differ.

The command that is asked reads a case a line, as `cloud/vectors_cli.js sound` and the Kotlin `CrossLanguage sound` do.

    python -m studies.sound_alike spoken_digits/recordings
    python -m studies.sound_alike spoken_digits/recordings --command "java -cp CLASSES dev.sfumato.core.CrossLanguage sound"
"""

import argparse
import base64
import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfumato.core.errors import DataError
from sfumato.core.sound import SIZE, load_sound

PAGE = f"node {shlex.quote(str(Path(__file__).parent.parent / 'cloud' / 'vectors_cli.js'))} sound"


def compare(files: Sequence[Path], command: str) -> dict[str, int]:
    """Recordings, bytes of their pictures, bytes that differ, and the largest difference.

    Raises:
        DataError: a file is read by one and refused by the other.
        CalledProcessError: the command fails.
    """
    height, width = SIZE
    pictures = [load_sound(path, height, width)[:, :, 0] for path in files]
    lines = [
        json.dumps({"wav": base64.b64encode(path.read_bytes()).decode(), "height": height, "width": width})
        for path in files
    ]
    done = subprocess.run(
        shlex.split(command), input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    differ = largest = 0
    for path, picture, line in zip(files, pictures, done.stdout.splitlines(), strict=True):
        found = json.loads(line)
        if "picture" not in found:
            raise DataError(f"{path}: read here, and refused there: {found.get('refusal')}")
        other = np.frombuffer(bytes.fromhex(found["picture"]), np.uint8).reshape(picture.shape)
        gap = np.abs(picture.astype(int) - other)
        differ, largest = differ + int((gap > 0).sum()), max(largest, int(gap.max()))
    return {
        "recordings": len(files),
        "bytes": len(files) * height * width,
        "differ": differ,
        "largest": largest,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="WAV files")
    parser.add_argument(
        "--command", default=PAGE, help="what is compared with Python; by default the page's modules"
    )
    given = parser.parse_args(arguments)
    print(json.dumps(compare(sorted(given.folder.glob("*.wav")), given.command)))


if __name__ == "__main__":
    main()
