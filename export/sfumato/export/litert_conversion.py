"""The second back-end: PyTorch -> LiteRT by litert-torch, in an environment of its own.

litert-torch needs a protobuf that onnx2tf and TensorFlow cannot live with. This file is therefore run as a script by another
Python, named in `SFUMATO_LITERT_PYTHON`, and imports nothing of ours:

    python3.11 -m venv litert && litert/bin/pip install -r requirements/litert.txt
    SFUMATO_LITERT_PYTHON=litert/bin/python sfumato export RUN --out EXPORT --backend litert-torch

It finds the job as `tflite_conversion` leaves it: `job.json`, `local.pt2`, `calibration.npy` in the working folder.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE, FLOAT32 = "local.pt2", "local_float32.tflite"


def main() -> None:
    """Read the job, write the variants and the report."""
    started = time.monotonic()
    import litert_torch  # type: ignore[import-not-found]
    import numpy as np
    import torch

    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    images = np.load("calibration.npy")
    imported = time.monotonic()
    network = torch.export.load(SOURCE).module()
    litert_torch.convert(network, (torch.zeros(1, *images.shape[1:]),)).export(FLOAT32)
    for variant in job["variants"]:
        if variant != "float32":
            Path(f"local_{variant}.tflite").write_bytes(quantized(variant, images))
    report = {
        "backend": job["backend"],
        "seconds_import": round(imported - started, 2),
        "seconds": round(time.monotonic() - imported, 2),
    }
    Path("conversion.json").write_text(json.dumps(report), encoding="utf-8")


def quantized(variant: str, images: Any) -> bytes:
    """The float32 model, quantized by ai-edge-quantizer."""
    from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-not-found]

    recipes = {"dynamic": recipe.dynamic_wi8_afp32, "int8": recipe.static_wi8_ai8}
    if variant not in recipes:
        raise SystemExit(f"litert-torch makes float32, dynamic and int8, not {variant}: choose --variants")
    work = quantizer.Quantizer(FLOAT32)
    work.load_quantization_recipe(recipes[variant]())
    ranges = work.calibrate({"serving_default": list(samples(images))}) if variant == "int8" else None
    return bytes(work.quantize(ranges).quantized_model)


def samples(images: Any) -> Iterator[dict[str, Any]]:
    """Calibration images one by one, under the name that litert-torch gives the first input.

    The calibrator averages the extremes of the images instead of keeping them, so every image gets a black and a white pixel:
    then the average is exact as well, and a byte of the image is a pixel.
    """
    for image in images:
        pixels = (image[None] / 255).astype("float32")
        pixels[0, 0, 0], pixels[0, 0, 1] = 0, 1
        yield {"args_0": pixels}


if __name__ == "__main__":
    main()
