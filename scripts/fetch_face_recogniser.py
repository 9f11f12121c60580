"""Fetch a face recogniser for the audit's identity rows: `fr_feature.onnx` (112 x 112, MIT licence), through npm.

npm fetches the package from the registry that it is set up for; one file and its licence go into the user's cache folder,
after the file's digest was compared. The audit itself fetches nothing: where the file is missing, its row says so.

Usage: `python scripts/fetch_face_recogniser.py`. Needs npm and 40 MB of traffic. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "faceplugin-face-recognition-js@0.0.1"
FILES = {"package/model/fr_feature.onnx": "fr_feature.onnx", "package/LICENSE": "LICENSE"}
DIGEST = "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581"


def folder() -> Path:
    """Where the audit looks for it (`sfumato.audit.attacks.recognise`)."""
    if chosen := os.environ.get("SFUMATO_CACHE"):
        return Path(chosen) / "face-recogniser"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sfumato" / "face-recogniser"


def unpack(archive: Path, into: Path) -> None:
    """Take the files out of the package, if the recogniser is the expected one.

    Raises:
        ValueError: it is another one.
    """
    with tarfile.open(archive) as package:
        contents = {}
        for name, target in FILES.items():
            member = package.extractfile(name)
            if member is None:
                raise ValueError(f"{archive.name} holds no {name}")
            contents[target] = member.read()
    digest = hashlib.sha256(contents["fr_feature.onnx"]).hexdigest()
    if digest != DIGEST:
        raise ValueError(f"fr_feature.onnx has the digest {digest[:16]}..., expected is {DIGEST[:16]}...")
    into.mkdir(parents=True, exist_ok=True)
    for target, data in contents.items():
        scratch = into / f".{target}"
        scratch.write_bytes(data)
        scratch.replace(into / target)


def main() -> int:
    """Fetch and unpack; one line says how it went."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not on the path: sfumato doctor says how to install it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=scratch, capture_output=True, text=True, check=False
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            reason = done.stderr.strip().splitlines() or ["no package came"]
            print(f"npm pack {PACKAGE} fails: {reason[-1]}", file=sys.stderr)
            return 1
        try:
            unpack(archives[0], folder())
        except (ValueError, KeyError, tarfile.TarError) as error:
            print(f"{PACKAGE}: {error}", file=sys.stderr)
            return 1
    print(f"wrote {folder() / 'fr_feature.onnx'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
