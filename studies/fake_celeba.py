"""`python -m studies.fake_celeba OUT`: drawn pictures in CelebA's layout, and one epoch on them within a bound of memory.

    python -m studies.fake_celeba /data/fake                                # 202,599 pictures, as many as CelebA has
    python -m studies.fake_celeba /data/fake --count 5000 --out large.json

`img_align_celeba/000001.jpg` and so on are drawn faces of 218x178, `list_attr_celeba.txt` has CelebA's 40 columns, of which
seven are true (`TRUE`) and the rest chance, and `list_eval_partition.txt` has the makers' shares. Then `sfumato train` runs in
a process of its own at each size, one epoch a stage. Its largest resident memory counts shared pages of the decoded pictures
too. Pictures that are there already are kept, so an interrupted command goes on. Decoded pictures lie in OUT/cache.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from studies.run_command import run_command

from sfumato.core.console import note, progress
from sfumato.core.errors import DataError, SfumatoError
from sfumato.core.files import write_json
from sfumato.core.provenance import provenance
from sfumato.data.dataset import Ints
from sfumato.data.loaders.synthetic import load_synthetic
from sfumato.data.spec import Spec

COUNT = 202_599
"""Pictures of CelebA."""
HEIGHT, WIDTH = 218, 178
PARTS = (162_770, 182_637)
"""The first pictures of CelebA are its training part; from these numbers on follow validation and test."""
ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]
TRUE = {
    "Smiling": ("smiling", 1),
    "Eyeglasses": ("glasses", 1),
    "Pale_Skin": ("skin", 0),
    "Black_Hair": ("hair", 0),
    "Brown_Hair": ("hair", 1),
    "Blond_Hair": ("hair", 2),
    "Wavy_Hair": ("hair", 3),
}
"""Column -> factor of the drawn faces, and its value where the column is 1."""
AT_ONCE = 64


def names(count: int) -> list[str]:
    """File names, as CelebA has them."""
    return [f"{number:06d}.jpg" for number in range(1, count + 1)]


def table(factors: dict[str, Ints], count: int) -> NDArray[np.int64]:
    """(count, 40) of 1 and -1."""
    chance = np.random.Generator(np.random.PCG64(40)).integers(0, 2, (count, len(ATTRIBUTES)))
    for column, name in enumerate(ATTRIBUTES):
        if name in TRUE:
            factor, value = TRUE[name]
            chance[:, column] = factors[factor][:count] == value
    return 2 * chance - 1


def make(folder: Path, count: int) -> None:
    """Draw what is missing, and write the lists last.

    Args:
        folder: of the data set.
        count: pictures, at most those of CelebA.
    """
    source = load_synthetic(Spec(kind="synthetic", extra=(("count", str(count)),)))
    pictures, files = folder / "img_align_celeba", names(count)
    pictures.mkdir(parents=True, exist_ok=True)
    with progress() as bar:
        task = bar.add_task("drawing", total=count, figures="")
        for first in range(0, count, AT_ONCE):
            span = range(first, min(first + AT_ONCE, count))
            if not all((pictures / files[row]).exists() for row in span):
                # Half the size, enlarged: the time goes to pixels, and JPEGs of photos are as smooth.
                for row, pixels in zip(
                    span, source.pictures.read(span, HEIGHT // 2, WIDTH // 2), strict=True
                ):
                    assert not isinstance(pixels, DataError)
                    image = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                    scratch = pictures / f"{files[row]}.part"
                    image.save(scratch, "JPEG", quality=90)
                    scratch.replace(pictures / files[row])
            bar.update(task, completed=span.stop)
    lines = [
        f"{file} {' '.join(map(str, row))}"
        for file, row in zip(files, table(dict(source.labels), count).tolist(), strict=True)
    ]
    parts = [f"{file} {part_of(row, count)}" for row, file in enumerate(files)]
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(count), " ".join(ATTRIBUTES), *lines]) + "\n")


def part_of(row: int, count: int) -> int:
    """Of the makers' partition, at the same shares where there are fewer pictures: 0 training, 1 validation, 2 test."""
    return sum(row >= border * count // COUNT for border in PARTS)


def train(folder: Path, size: int, limit: float) -> dict[str, Any]:
    """One epoch of each stage, in a process of its own.

    Args:
        folder: of the data set.
        size: height and width of the images in pixels.
        limit: gigabytes that the process may take at most.

    Raises:
        SfumatoError: training failed, or took more.
    """
    config = folder / "one-epoch.toml"
    config.write_text("clean_epochs = 1\npretrain_epochs = 1\nepochs = 1\n")
    options = [
        "--data",
        f"celeba:{folder},size={size}",
        "--keep",
        "Smiling",
        "--mode",
        "picture",
        "--bits",
        "8",
    ]
    options += ["--config", str(config), "--out", str(folder / f"run-{size}"), "--overwrite"]
    note(f"sfumato train {' '.join(options)}")
    # The user's own cache has a bound, which 30 GB of decoded pictures would sweep empty.
    environment = {**os.environ, "SFUMATO_CACHE": str(folder / "cache"), "SFUMATO_CACHE_GB": "100"}
    started = time.monotonic()
    code = "from sfumato.cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "train", *options], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SfumatoError(f"training at {size}x{size} ended with {process.returncode}")
    found = {
        "size": size,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "largest_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
    }
    note(f"{size}x{size}: {found['largest_gb']} GB, {found['processor_seconds']} s of processor time")
    if found["largest_gb"] > limit:
        raise SfumatoError(f"training at {size}x{size} took {found['largest_gb']} GB, more than {limit:g}")
    return found


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the data set, made if it is not there.")
    ],
    count: Annotated[int, typer.Option(min=1000, max=COUNT, help="Pictures.")] = COUNT,
    sizes: Annotated[str, typer.Option(help="Sizes to train at, with commas.")] = "64,224",
    limit: Annotated[float, typer.Option(help="Gigabytes that training may take.")] = 12.0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Draw pictures in CelebA's layout and train one epoch on them at each size."""
    started = time.process_time()
    make(folder, count)
    drawn = round(time.process_time() - started, 1)
    rows = [train(folder.resolve(), int(size), limit) for size in sizes.split(",")]
    if out is not None:
        write_json(out, {"environment": provenance(), "count": count, "drawing_seconds": drawn, "rows": rows})
    typer.echo(json.dumps(rows, indent=2))


if __name__ == "__main__":
    run_command(command)
