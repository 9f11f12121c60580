"""Pictures of an audit: what the phone does to an image, and plots that read in light and in dark.

Plots are SVG text in `currentColor`, so they take the colours of the page they stand on. Image strips are
PNG.

    figure(images, noise_maps(channel, parameters), uploads, Path("faces.png"))
"""

import base64
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.special import entr

from sfumato.audit.schema import AttributeResult
from sfumato.channels import Channel, Parameters
from sfumato.channels.dither import CLOSED
from sfumato.core.files import atomic_write

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
ACCENT, CALM, SOFT = "#d9572b", "#3b82c4", "#9aa3ad"
Floats = NDArray[np.float64]


def noise_maps(channel: Channel, parameters: Parameters) -> Floats:
    """How uncertain each pixel of the upload is, (N, H, W) in 0..1.

    Dither: mean over the bits of a pixel of the binary entropy in bits; 1 in closed blocks, of which nothing is sent. Gaussian:
    mean scale over the largest one.
    """
    if channel.name == "dither":
        p = parameters["p"].double().numpy()
        maps = np.asarray((entr(p) + entr(1 - p)).mean(axis=1) / np.log(2))
        maps = maps.repeat(channel.subsample, axis=1).repeat(channel.subsample, axis=2)
        return np.where(p.max(axis=1) < CLOSED, 1.0, maps) if channel.settings.get("gates") else maps
    largest = float(channel.settings["largest_scale"])
    return np.asarray((parameters["scale"].double().numpy() / largest).clip(0, 1).mean(axis=1))


def stretch(maps: Floats) -> tuple[Floats, float, float]:
    """Spread maps over 0..1; returns also the values that became 0 and 1.

    At a low rate nearly every sample is close to uniform, and unstretched maps would show nothing.
    """
    low, high = float(np.quantile(maps, 0.002)), float(maps.max())
    return (maps - low).clip(0, high - low) / max(high - low, 1e-9), low, high


def tint(maps: Floats) -> NDArray[np.uint8]:
    """Values 0..1 -> colours (..., 3): dark where the image survives, bright where there is only noise."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["magma"](maps)[..., :3] * 255).round().astype(np.uint8)


def strip(rows: Sequence[NDArray[np.uint8]], *, scale: int = 2, gap: int = 8) -> NDArray[np.uint8]:
    """Images as a grid with transparent gaps, (H, W, 4): one row of the grid per entry (N, H, W, 3 or 1)."""
    count, height, width = rows[0].shape[:3]
    canvas = np.zeros(
        (len(rows) * (height * scale + gap) - gap, count * (width * scale + gap) - gap, 4), dtype=np.uint8
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height * scale + gap), j * (width * scale + gap)
            large = image.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas[top : top + height * scale, left : left + width * scale, :3] = large
            canvas[top : top + height * scale, left : left + width * scale, 3] = 255
    return canvas


def as_bytes(uploads: NDArray[Any]) -> NDArray[np.uint8]:
    """Uploads (N, 3, H, W) in 0..1 -> images (N, H, W, 3)."""
    return (uploads.astype(np.float32) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def figure(images: NDArray[np.uint8], maps: Floats, uploads: NDArray[Any], path: Path) -> None:
    """Write originals, noise maps and uploads one above the other as a PNG with transparent gaps.

    Args:
        images: (N, H, W, 3) bytes.
        maps: (N, H, W) in 0..1, from `noise_maps`.
        uploads: (N, 3, H, W) in 0..1.
        path: the PNG, written atomically.
    """
    grid = strip([images, tint(stretch(maps)[0]), as_bytes(uploads)], scale=max(1, 128 // images.shape[2]))
    with atomic_write(path) as scratch:
        Image.fromarray(grid, "RGBA").save(scratch, "PNG", optimize=True)


def png_uri(images: NDArray[np.uint8]) -> str:
    """Images (N, H, W, 3) side by side as a `data:` URI; (rows, N, H, W, 3) as rows below one another."""
    stream = io.BytesIO()
    rows = list(images) if images.ndim == 5 else [images]
    Image.fromarray(strip(rows, scale=1, gap=4), "RGBA").save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """An empty plot in page ink: no frame but the lower axis, faint grid."""
    plot = Figure(figsize=(width, height), layout="constrained")
    axes = plot.add_subplot()
    axes.set_facecolor("none")
    axes.tick_params(which="both", colors=INK, length=3, labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.grid(axis="both", color=SOFT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return plot, axes


def svg(plot: Figure) -> str:
    """The plot as inline SVG text that follows the colour and font of the page."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sfumato"}):
        plot.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    # Two plots on one page must not share the ids of their clip paths and markers.
    mark = f"p{zlib.crc32(text.encode()):x}-"
    return re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}", text)


def attack_plot(attributes: Sequence[AttributeResult]) -> str:
    """Per attribute: the span from the label-only floor to clean accuracy, and the best attack on uploads."""
    plot, axes = canvas(7.4, 0.9 + 0.55 * len(attributes))
    for y, one in enumerate(reversed(attributes)):
        axes.plot([one.label_only, one.clean], [y, y], color=SOFT, linewidth=7, alpha=0.35)
        axes.plot(one.label_only, y, "|", color=INK, markersize=15, markeredgewidth=2)
        axes.plot(one.clean, y, "|", color=CALM, markersize=15, markeredgewidth=2)
        axes.plot(one.best.ci95, [y, y], color=ACCENT, linewidth=1.6)
        axes.plot(one.best.accuracy, y, "o", color=ACCENT, markersize=7)
        axes.plot(one.strongest_on_test.accuracy, y, "o", markersize=7, markerfacecolor="none", color=ACCENT)
    names = [one.name if one.declared else f"{one.name} *" for one in reversed(attributes)]
    axes.set_yticks(range(len(attributes)), names, color=INK)
    axes.set_ylim(-0.6, len(attributes) - 0.4)
    axes.set_xlim(0, 1.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("accuracy on test images", color=INK, fontsize=9)
    return svg(plot)


def rate_plot(bits: Floats) -> str:
    """Histogram of the rates of the test images, in bits."""
    plot, axes = canvas(7.4, 2.3)
    axes.hist(bits, bins=min(40, max(8, len(bits) // 10)), color=CALM, alpha=0.8)
    axes.axvline(float(bits.mean()), color=ACCENT, linewidth=1.6)
    axes.set_xlabel("rate of an upload (bits); the line is the mean", color=INK, fontsize=9)
    axes.set_ylabel("images", color=INK, fontsize=9)
    return svg(plot)


def curve_plot(records: Sequence[Mapping[str, Any]], names: Sequence[str], label: str, *, log: bool) -> str:
    """Some figures of a training log over its epochs; figures that no record has are left out."""
    plot, axes = canvas(7.4, 2.5)
    for name, colour, style in zip(names, (ACCENT, CALM, SOFT), ("-", "-", "--"), strict=False):
        points = [(r["epoch"], r[name]) for r in records if isinstance(r.get(name), (int, float))]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=name.replace("_", " "))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.set_ylabel(label, color=INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return svg(plot)
