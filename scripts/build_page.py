"""Fetch what the browser page needs beyond its own modules: LiteRT.js, by `cloud/package-lock.json`, into `web/vendor/`.

`npm ci` puts the packages, checked against the lock file's hashes, into `cloud/node_modules`; from there the few files that a
browser loads are copied, the large ones compressed. A finished build leaves `build.json`, which names the lock file it was made
from; the same lock file again means nothing to do. Where there is no npm, or no network, the page is left out and one line says
so: everything else works without it.

Usage: `python3.11 scripts/build_page.py` (or `make setup`). Standard library only.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLOUD = ROOT / "cloud"
LOCK = CLOUD / "package-lock.json"
MODULES = CLOUD / "node_modules"
VENDOR = CLOUD / "sfumato" / "server" / "web" / "vendor"
STAMP = VENDOR / "build.json"

FILES = {
    "litert.js": "@litertjs/core/dist/index.js",
    "wasm-utils.js": "@litertjs/wasm-utils/dist/index.js",
    "wasm/litert_wasm_internal.js": "@litertjs/core/wasm/litert_wasm_internal.js",
    "wasm/litert_wasm_internal.wasm": "@litertjs/core/wasm/litert_wasm_internal.wasm",
    "wasm/litert_wasm_compat_internal.js": "@litertjs/core/wasm/litert_wasm_compat_internal.js",
    "wasm/litert_wasm_compat_internal.wasm": "@litertjs/core/wasm/litert_wasm_compat_internal.wasm",
}
"""Name below vendor/ -> file of a package. The second pair is for browsers without relaxed SIMD."""


def main() -> None:
    """Bring vendor/ up to date, or say in one line why the page is left out."""
    wanted = {"lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(), "files": sorted(FILES)}
    if read_stamp() == wanted and (MODULES / ".package-lock.json").exists():
        return
    shutil.rmtree(VENDOR, ignore_errors=True)
    if shutil.which("npm") is None:
        leave_out("there is no npm (install nodejs 20 or newer and npm, then make setup)")
    print("set-up: browser page, LiteRT.js by cloud/package-lock.json ...", flush=True)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(CLOUD)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[0]
        leave_out(f"npm ci failed ({said}); make setup tries again")
    for name, source in FILES.items():
        place(MODULES / source, VENDOR / name)
    scratch = STAMP.with_suffix(".tmp")
    scratch.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    scratch.replace(STAMP)


def read_stamp() -> object:
    """What the last finished build was made from; None when there is none."""
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def place(source: Path, target: Path) -> None:
    """Compress a file as `NAME.gz`: every browser takes that, and a phone pays for 3 MB instead of 10."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target = target.with_name(target.name + ".gz")
    with gzip.GzipFile(target, "wb", compresslevel=9, mtime=0) as stream:
        stream.write(source.read_bytes())


def leave_out(reason: str) -> None:
    """End well, without the page."""
    print(f"set-up: the browser page is left out: {reason}", file=sys.stderr)
    sys.exit(0)


if __name__ == "__main__":
    main()
