"""What sfumato is made of, and what is known against it: an SBOM in CycloneDX, and pip-audit over the lock.

    python scripts/supply_chain.py sbom dist/sfumato.cdx.json       # make sbom
    python scripts/supply_chain.py audit                            # make pip-audit; needs a network

The SBOM has every package of uv.lock and the npm packages that the wheel carries (LiteRT.js for the browser page), each with
its version, its hashes and where it is from. uv writes the first part. pip-audit asks the advisories of the package index about
exactly the locked versions; it installs nothing of them. Standard library only.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NPM_LOCK = ROOT / "cloud" / "package-lock.json"
UV = Path(sys.executable).with_name("uv")
PIP_AUDIT = "pip-audit==2.10.1"
LOCKED = ("--quiet", "--frozen", "--no-emit-project")
SIDES = (("--all-extras", "--no-extra=npu"), ("--extra=npu",))
"""What can be installed together: the extra npu has another ONNX Runtime."""


def main() -> None:
    """Run what the command line asks for."""
    match sys.argv[1:]:
        case ["sbom", out]:
            target = Path(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            found = sbom()
            target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(f"{out}: {len(found['components'])} components")
        case ["audit"]:
            sys.exit(audit())
        case _:
            sys.exit("usage: supply_chain.py sbom FILE | audit")


def sbom() -> dict[str, Any]:
    """The document, of all that uv.lock pins and of what the wheel carries from npm."""
    documents = (uv("export", *LOCKED, *side, "--format=cyclonedx1.5") for side in SIDES)
    found: dict[str, Any]
    found, *others = map(json.loads, documents)
    known = {(one["name"], one["version"]) for one in found["components"]}
    more = [one for other in others for one in other["components"]]
    found["components"] += [one for one in more if (one["name"], one["version"]) not in known]
    lock = json.loads(NPM_LOCK.read_text(encoding="utf-8"))
    found["components"] += [
        npm_component(path.rpartition("node_modules/")[2], package)
        for path, package in sorted(lock["packages"].items())
        if path and not package.get("dev")
    ]
    return found


def npm_component(name: str, package: dict[str, Any]) -> dict[str, Any]:
    """One package of package-lock.json, whose `integrity` is an algorithm and a hash in base64."""
    algorithm, _, value = package["integrity"].partition("-")
    purl = f"pkg:npm/{name.replace('@', '%40')}@{package['version']}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": package["version"],
        "purl": purl,
        "hashes": [
            {"alg": algorithm.upper().replace("SHA", "SHA-"), "content": base64.b64decode(value).hex()}
        ],
        "licenses": [{"license": {"id": package["license"]}}],
    }


def audit() -> int:
    """pip-audit's exit code: 1 where a locked version has a known vulnerability."""
    command = [str(UV), "tool", "run", "--from", PIP_AUDIT, "pip-audit", "--require-hashes", "--disable-pip"]
    with tempfile.TemporaryDirectory() as folder:
        codes = []
        for side in SIDES:  # a file has one version of a package
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(
                uv("export", *LOCKED, *side, "--format=requirements.txt"), encoding="utf-8"
            )
            codes.append(subprocess.run([*command, "-r", str(requirements)], check=False).returncode)
        return max(codes)


def uv(*arguments: str) -> str:
    """Standard output of uv, run on this project."""
    command = [str(UV), *arguments, "--project", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
