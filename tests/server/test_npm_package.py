"""The page's core as an npm package: packed, installed into an empty folder, and the same bytes as Python's drawn with it."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.server.conftest import KEY, Server

from sfumato.core.image_io import fit
from sfumato.runtime.phone_model import PhoneModel
from sfumato.runtime.test_vectors import PATTERNS
from sfumato.runtime.upload_codec import pack

ROOT = Path(__file__).resolve().parents[2]
CLOUD = ROOT / "cloud"
TSC = CLOUD / "node_modules" / ".bin" / "tsc"
PAGE = (ROOT / "docs" / "javascript.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None or not TSC.exists(), reason="install node and npm, then make setup"
)


def run(*command: str | Path, cwd: Path, given: str = "") -> str:
    """Standard output; no package manager asks a network for anything."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `npm pack` makes."""
    out = tmp_path_factory.mktemp("pack")
    run("npm", "pack", "--offline", "--silent", "--pack-destination", out, cwd=CLOUD / "npm")
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the package, and nothing else, installed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"name": "someone-elses", "private": true, "type": "module"}')
    run("npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", tarball, cwd=folder)
    return folder


def test_it_is_named_as_the_rest_and_nothing_is_left_behind(tarball: Path) -> None:
    package = json.loads((CLOUD / "npm" / "package.json").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (package["version"], package["license"]) == (project["version"], project["license"])
    assert package["description"].startswith(project["description"])
    assert tarball.name == f"sfumato-core-{project['version']}.tgz"
    assert tarball.name in PAGE
    assert not {"dependencies", "peerDependencies", "bundledDependencies"} & set(package)
    left = {path.name for path in (CLOUD / "npm").iterdir() if path.suffix != ".tgz"}
    assert left == {"package.json", "README.md", "assemble.js"}


def members(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """Name in the package and content."""
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            yield member.name.removeprefix("package/"), stream.read()


def test_it_holds_the_files_that_the_page_serves_and_what_says_so(tarball: Path) -> None:
    held = dict(members(tarball))
    modules = {name for name in held if name.endswith(".js")}
    assert [name for name in modules if held[name] != (CLOUD / name).read_bytes()] == []
    served = {path.name for path in (CLOUD / "sfumato" / "server" / "web").glob("*.js")}
    names = {Path(name).name for name in modules} - {"core.js"}
    # What is left out is the document, the storage, the microphone and the interpreter of a browser.
    assert served - names == {
        "canvas.js",
        "key_store.js",
        "ledger_store.js",
        "microphone.js",
        "model.js",
        "page.js",
        "recorder.js",
        "session.js",
    }
    assert held["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    types = {name.removeprefix("types/").replace(".d.ts", ".js") for name in held if name.endswith(".d.ts")}
    assert types == modules
    assert set(held) - modules - {f"types/{name[:-3]}.d.ts" for name in modules} == {
        "package.json",
        "README.md",
        "LICENSE",
    }


def test_no_module_of_it_knows_a_document(tarball: Path) -> None:
    """Whatever a browser alone has would fail in Node.js when it is called, not when it is imported."""
    names = r"\b(document|window|indexedDB|localStorage|navigator|HTMLCanvasElement|ImageBitmap|createImageBitmap)\b"
    for name, content in members(tarball):
        if name.endswith(".js"):
            code = re.sub(r"/\*.*?\*/|//.*", "", content.decode(), flags=re.DOTALL)
            code = re.sub(
                r'"[^"\n]*"|\.window\b|\bwindow:', "", code
            )  # a contract and its recipe for sound have a `window`
            assert re.findall(names, code) == [], name


def test_the_page_of_the_documentation_names_what_is_exported(project: Path) -> None:
    listed = run(
        "node",
        "-e",
        'import("sfumato-core").then((all) => console.log(Object.keys(all).join(" ")))',
        cwd=project,
    )
    table = PAGE.partition("## What is in it")[2]
    assert set(listed.split()) == set(
        re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    )


UPLOAD = """
import {readFileSync} from "node:fs";
import {bitsOf, checkVectors, draw, fromHex, importKey, toHex} from "sfumato-core";
import {keyedNoise, noiseBytes, pack, parameterBytes} from "sfumato-core";

const {vectors, contract, digest, key, pixels, parameters} = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify((await checkVectors(vectors, null, null)).problems));
const seen = fromHex(pixels);
const given = Object.fromEntries(Object.entries(parameters).map(([name, text]) => [name, fromHex(text)]));
const q = parameterBytes(contract.outputs.map(({name}) => name), given);
const count = noiseBytes(contract.channel, seen.length);
const noise = await keyedNoise(await importKey(fromHex(key)), fromHex(digest), q, seen, count);
console.log(toHex(pack(draw(contract.channel, given, seen, noise, null), bitsOf(contract.channel))));
"""


def test_an_upload_has_the_bytes_of_python_and_vectors(
    project: Path, bundle: Path, phone: PhoneModel, pictures: list[NDArray[np.uint8]]
) -> None:
    assert phone.digest is not None
    given = {
        "vectors": json.loads((bundle / "vectors.json").read_text(encoding="utf-8")),
        "contract": json.loads((bundle / "contract.json").read_text(encoding="utf-8")),
        "digest": phone.digest.hex(),
        "key": KEY.hex(),
        "pixels": pictures[0].tobytes().hex(),
        "parameters": {name: q.tobytes().hex() for name, q in phone.parameters(pictures[0]).items()},
    }
    (project / "upload.js").write_text(UPLOAD)
    problems, packed = run("node", "upload.js", cwd=project, given=json.dumps(given)).splitlines()
    assert problems == "[]"
    levels = phone.perturb(pictures[0], key=KEY).levels
    assert packed == pack(levels, bits=phone.contract.channel.bits).hex()


FIT = """
import {readFileSync} from "node:fs";
import {fit, fromHex, toHex} from "sfumato-core";
for (const line of readFileSync(0, "utf8").split("\\n").filter(Boolean)) {
  const {rgb, h, w, height, width} = JSON.parse(line);
  console.log(toHex(fit(fromHex(rgb), h, w, height, width)));
}
"""


def test_pictures_are_fitted_as_python_does(project: Path) -> None:
    """Tolerance: none. The largest has several bands of rows."""
    rng = np.random.default_rng(11)
    cases: list[dict[str, Any]] = []
    expected = []
    for h, w in ((1, 1), (1, 40), (40, 1), (16, 16), (17, 31), (97, 203), (300, 41), (600, 130)):
        for height, width in ((16, 16), (16, 24), (32, 20)):
            image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
            cases.append({"rgb": image.tobytes().hex(), "h": h, "w": w, "height": height, "width": width})
            expected.append(fit(image, height, width).tobytes().hex())
    (project / "fit.js").write_text(FIT)
    assert run("node", "fit.js", cwd=project, given="\n".join(map(json.dumps, cases))).split() == expected


FRAME = """
import {readFileSync} from "node:fs";
import {readFile} from "node:fs/promises";
import {createHash} from "node:crypto";
import {ask, fromHex, importKey, openPhone, perturb, toHex, travelling} from "sfumato-core";

const {folder, server, key, rgb, answers} = JSON.parse(readFileSync(0, "utf8"));
const secret = fromHex(key), pixels = fromHex(rgb), token = "";
const load = async () => ({run: async (seen) => {
  const found = answers[createHash("sha256").update(seen).digest("hex")];
  return Object.fromEntries(Object.entries(found).map(([name, text]) => [name, fromHex(text)]));
}});
EXAMPLE
console.log(toHex(perturbed.upload));
await perturb(phone, await importKey(secret), pixels, 64).catch((error) => console.log(error.message));
await perturb(phone, await importKey(secret), pixels.slice(3)).catch((error) => console.log(error.message));
await openPhone((name) => readFile(`${folder}/${name}`), async () => ({run: async (seen) => {
  const {p} = await phone.model.run(seen);
  return {p: p.map((byte) => byte ^ 0x80)};
}})).catch((error) => console.log(error.message));
"""


def test_the_example_of_the_page_runs(
    project: Path, bundle: Path, phone: PhoneModel, pictures: list[NDArray[np.uint8]], server: Server
) -> None:
    """Against a service, with the answers that Python's interpreter gives for the photo and the pictures of vectors.json."""
    found = re.search(r"^```js\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    assert found[1].count("\n") == 5
    vectors = json.loads((bundle / "vectors.json").read_text(encoding="utf-8"))
    height, width = phone.contract.size
    seen = [pictures[0], *(PATTERNS[case["pattern"]](height, width) for case in vectors["model"])]
    answers = {
        hashlib.sha256(image.tobytes()).hexdigest(): {
            name: q.tobytes().hex() for name, q in phone.parameters(image).items()
        }
        for image in seen
    }
    given = {
        "folder": str(bundle),
        "server": server.url,
        "key": KEY.hex(),
        "rgb": pictures[0].tobytes().hex(),
    }
    (project / "example.js").write_text(FRAME.replace("EXAMPLE", found[1]))
    said = run(
        "node", "example.js", cwd=project, given=json.dumps({**given, "answers": answers})
    ).splitlines()
    upload = phone.perturb(pictures[0], key=KEY)
    packed = pack(upload.levels, bits=phone.contract.channel.bits)
    figures = re.fullmatch(r"at most ([\d.]+) bits of the photo in (\d+) bytes", said[0])
    assert figures is not None
    assert float(figures[1]) == pytest.approx(upload.rate_bits, rel=1e-6)
    assert int(figures[2]) == len(packed)
    assert "label" in "".join(said[1:-4])
    assert said[-4:-1] == [
        packed.hex(),
        "this export has no point of strength 64",
        f"the model takes {height} x {width} pixels, not {height * width - 1} in all",
    ]
    assert said[-1].startswith("this machine computes something else: model, ")


TYPED = """
import {openPhone, perturb, importKey, type Ledger} from "sfumato-core";

export async function send(read: (name: string) => Promise<Uint8Array>, ledger: Ledger): Promise<number | null> {
  const phone = await openPhone(read, async () => ({run: async (pixels) => ({p: pixels})}));
  const perturbed = await perturb(phone, await importKey(new Uint8Array(32)), new Uint8Array(3));
  await ledger.spend("photos.example", perturbed.draw, perturbed.rate);
  return perturbed.rate;
}
"""


def test_the_types_hold_for_others(project: Path) -> None:
    command = ["--noEmit", "--strict", "--target", "es2023", "--module", "nodenext"]
    (project / "typed.ts").write_text(TYPED)
    run("node", TSC, *command, "typed.ts", cwd=project)
    (project / "wrong.ts").write_text(TYPED.replace("perturbed.rate;", "perturbed.bits;"))
    done = subprocess.run(
        ["node", TSC, *command, "wrong.ts"], capture_output=True, text=True, check=False, cwd=project
    )
    assert "Property 'bits' does not exist" in done.stdout
