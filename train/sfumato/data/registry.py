"""From a spec to a `Dataset`: load, check, decode, split.

Usage: `data = open_dataset("utkface:UTKFace,size=64", keep=["gender"], hide=["race"])`
"""

import difflib
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.core.console import note_once
from sfumato.core.errors import DataError, unknown
from sfumato.core.image_io import is_deep
from sfumato.data.cache import decode
from sfumato.data.classes import refuse_quantity, to_bins, to_numbers
from sfumato.data.dataset import Attribute, Dataset, Ints, Split
from sfumato.data.duplicates import duplicate_groups
from sfumato.data.loaders import scenes
from sfumato.data.loaders.celeba import load_celeba
from sfumato.data.loaders.cifar import load_cifar10, load_cifar100
from sfumato.data.loaders.fairface import load_fairface
from sfumato.data.loaders.fashion_mnist import load_fashion
from sfumato.data.loaders.folder import load_folder
from sfumato.data.loaders.huggingface import load_huggingface
from sfumato.data.loaders.medmnist import load_medmnist
from sfumato.data.loaders.sounds import load_sounds, load_spoken
from sfumato.data.loaders.synthetic import OPTIONS, REPEATABLE, load_synthetic
from sfumato.data.loaders.utkface import load_utkface
from sfumato.data.masks import MASK, asked_masks, read_cells
from sfumato.data.source import UNLABELLED, FilePictures, Source
from sfumato.data.spec import Spec
from sfumato.data.splits import (
    FEW,
    LEFT_OUT,
    check_sizes,
    choose,
    make_splits,
    sort_keys,
    stratified_order,
    without_copies,
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of data set: its loader and the options it adds to the common ones."""

    load: Callable[[Spec], Source]
    options: tuple[str, ...] = ()
    repeatable: tuple[str, ...] = ()
    drawn: bool = False
    """The pictures are drawn, so the attributes are known without reading a file."""


KINDS: Mapping[str, Kind] = {
    "synthetic": Kind(load=load_synthetic, options=OPTIONS, repeatable=REPEATABLE, drawn=True),
    "scenes": Kind(load=scenes.load_scenes, options=scenes.OPTIONS, drawn=True),
    "folder": Kind(load=load_folder),
    "imagefolder": Kind(load=load_folder),
    "imagenet": Kind(load=load_folder),
    "huggingface": Kind(load=load_huggingface),
    "fairface": Kind(load=load_fairface),
    "utkface": Kind(load=load_utkface),
    "celeba": Kind(load=load_celeba),
    "cifar10": Kind(load=load_cifar10),
    "cifar100": Kind(load=load_cifar100),
    "fashion-mnist": Kind(load=load_fashion),
    "medmnist": Kind(load=load_medmnist),
    "sounds": Kind(load=load_sounds),
    "spoken": Kind(load=load_spoken),
}


_TOLD = 3
_ASKED = 8
"""Pictures whose headers are looked at before any is read."""
BINS, NUMBER = "bins", "number"
"""Options of every kind: an attribute of numbers, and the bins that are its classes (`sfumato.data.classes`). `number` keeps
the numbers too, so that answers are numbers (`sfumato.data.truth`). `mask` is that of `sfumato.data.masks`."""
_EVERYWHERE = BINS, NUMBER, MASK


def create(name: str) -> Kind:
    """The kind of this name; `DataError` with the known names if there is none."""
    if name not in KINDS:
        if Path(name).expanduser().is_dir():
            raise DataError(f"unknown data set {name!r}: did you mean folder:{name}?")
        near = difflib.get_close_matches(name, KINDS, n=1)
        raise DataError(unknown("data set", name, KINDS) + (f"; did you mean {near[0]}?" if near else ""))
    return KINDS[name]


def parse_spec(text: str) -> Spec:
    """Read a spec with the options its kind knows."""
    kind = create(Spec.kind_of(text))
    return Spec.parse(text, extra=(*kind.options, *_EVERYWHERE), repeatable=(*kind.repeatable, *_EVERYWHERE))


def check_names(text: str, keep: Sequence[str], hide: Sequence[str]) -> None:
    """What can be said of a spec and the attributes without reading a file.

    Raises:
        DataError: the spec cannot be read, or a set that is drawn has no such attribute.
    """
    spec = parse_spec(text)
    if create(spec.kind).drawn:
        _check_attributes(load_source(text), keep, hide)


def load_source(text: str) -> Source:
    """A data set as its makers lay it out, before anything is decoded; numbers are in the bins that were asked for."""
    spec = parse_spec(text)
    source = create(spec.kind).load(spec)
    for option, value in spec.extra:
        if option in (BINS, NUMBER):
            source = _with_bins(source, value, number=option == NUMBER)
    for name in asked_masks(spec):
        if name not in source.masks:
            raise DataError(
                f"{spec.kind} here has no mask {name!r}: a folder has one where a column of labels.csv names mask files, "
                "scenes of two data sets have place"
            )
    return source


def _with_bins(source: Source, text: str, *, number: bool) -> Source:
    name, _, bins = text.partition(":")
    known = [attribute.name for attribute in source.attributes]
    if name not in known:
        raise DataError(unknown("attribute", name, known))
    old = source.attributes[known.index(name)]
    classes, labels = to_bins(name, old.classes, source.labels[name], bins, fewer=number)
    new = Attribute(name=name, classes=classes)
    numbers = {name: to_numbers(old.classes, source.labels[name])} if number else {}
    return replace(
        source,
        attributes=tuple(new if one is old else one for one in source.attributes),
        labels={**source.labels, name: labels},
        quantities=source.quantities - {name},
        numbers={**source.numbers, **numbers},
    )


def open_dataset(spec: str, *, keep: Sequence[str] = (), hide: Sequence[str] = ()) -> Dataset:
    """Open a data set.

    The splits depend on the spec alone, with two exceptions: if the identity attribute itself is kept or
    hidden, every person must appear in every split, so `split=stratified` is taken; and pictures without a label
    that is asked for are left out. An attribute that is not asked for and has gaps is left out instead.
    `Dataset.spec` writes the rule out.

    Args:
        spec: `KIND[:PATH][,option=value]...`.
        keep: attributes the user wants recognised.
        hide: attributes the user wants destroyed.

    Raises:
        DataError: anything about the spec, the files or the labels that cannot be used, in one line.
    """
    parsed, source = parse_spec(spec), load_source(spec)
    asked = _check_attributes(source, keep, hide)
    rule = _split_rule(parsed, source, asked)
    first = source.identity if rule == "stratified" and source.identity in asked else None
    source = _labelled(source, {*asked, source.identity} if rule == "identity" else asked)
    if parsed.limit is not None and parsed.limit < len(source.pictures.names):
        source = source.take(choose(_order(source, parsed.seed, first), parsed.limit))
    height, width = parsed.size or source.size
    planes = parsed.planes or source.planes
    if parsed.window is not None:
        source = _with_window(source, parsed)
    else:
        _tell_of_depth(source)
    decoded = decode(source.pictures, height, width, what=parsed.kind, planes=planes)
    source = source.take(decoded.rows)
    cells = {
        name: read_cells(source.masks[name], (height, width), side, name)
        for name, side in asked_masks(parsed).items()
    }
    masks = {name: found for name, (found, _) in cells.items()}
    _check_classes(source, asked, masks)
    together = [source.labels[source.identity]] if source.identity and rule != "stratified" else []
    together += [] if source.together is None else [source.together]
    order = _order(source, parsed.seed, first)
    official = None
    if rule == "official" and source.official is not None:
        official = without_copies(source.official, duplicate_groups(decoded.prints, alike=not source.sound))
    splits = make_splits(
        duplicate_groups(decoded.prints, *together, alike=not source.sound), order, official, parsed.attacker
    )
    check_sizes(splits)
    _tell_rare(source, asked, splits)
    known: list[NDArray[Any]] = [*source.labels.values(), *source.numbers.values(), *masks.values()]
    for array in (*known, *splits.values()):
        array.flags.writeable = False
    digest = _identify(parsed.kind, source, decoded.prints.tobytes(), decoded.images.shape[1:], splits, masks)
    attributes = {one.name: _with_values(one, source, splits) for one in source.attributes}
    for name, (_, grid) in cells.items():
        attributes[name] = replace(attributes[name], grid=grid)
    return Dataset(
        id=digest[:16],
        spec=str(replace(parsed, split=rule)),
        images=decoded.images,
        labels=source.labels,
        numbers=source.numbers,
        masks=masks,
        attributes=attributes,
        splits=splits,
        skipped=(*source.skipped, *decoded.skipped, *_copies(source, official)),
        identity=source.identity,
        window=parsed.window,
        sound=source.sound,
        mirrored=parsed.mirror and not source.sound,
        digest=digest,
    )


def _with_values(attribute: Attribute, source: Source, splits: Mapping[Split, Ints]) -> Attribute:
    """Of a number, with what its classes stand for: the mean of the defender's numbers in each, else of all."""
    if attribute.name not in source.numbers:
        return attribute
    labels, numbers, values = source.labels[attribute.name], source.numbers[attribute.name], []
    for place in range(len(attribute.classes)):
        inside = np.flatnonzero(labels == place)
        if not len(inside):
            raise DataError(
                f"{attribute.name!r}: no picture is left in the bin {attribute.classes[place]}: ask for fewer bins"
            )
        known = np.intersect1d(inside, splits[Split.DEFENDER])
        values.append(float(numbers[known if len(known) else inside].mean()))
    return replace(attribute, values=tuple(values))


def _tell_of_depth(source: Source) -> None:
    """Say that bits are lost, where the first pictures have more than 8: nobody else would notice."""
    if isinstance(source.pictures, FilePictures):
        first = [source.pictures.root / name for name in source.pictures.names[:_ASKED]]
        if any(map(is_deep, first)):
            note_once(
                "pictures of 16 bits: all 65,536 grey values become 256. If what matters lies within a part of them, name it: "
                "window=LOW:HIGH in the data SPEC"
            )


def _with_window(source: Source, spec: Spec) -> Source:
    if not isinstance(source.pictures, FilePictures):
        raise DataError(f"{spec.kind} has no files of 16 bits: leave window out")
    return replace(source, pictures=replace(source.pictures, window=spec.window))


def _labelled(source: Source, needed: Collection[str | None]) -> Source:
    """The pictures that have a label of every needed attribute, and the attributes that all of these have."""
    gaps = {
        name: labels == UNLABELLED for name, labels in source.labels.items() if (labels == UNLABELLED).any()
    }
    if not gaps:
        return source
    out = np.zeros(len(source.pictures.names), dtype=bool)
    said = list(source.skipped)
    for name in filter(needed.__contains__, gaps):
        names = source.pictures.names
        said += [f"{names[row]}: no value for {name!r}" for row in np.flatnonzero(gaps[name] & ~out).tolist()]
        out |= gaps[name]
        note_once(f"{int(gaps[name].sum())} of {len(out)} pictures have no {name!r} and are left out")
    if out.all():
        raise DataError(f"no picture has a value for all of {', '.join(map(repr, filter(None, needed)))}")
    source = source.take(np.flatnonzero(~out))
    partial = {name for name, labels in source.labels.items() if (labels == UNLABELLED).any()}
    said += [
        f"attribute {name!r}: not every picture has it, and it was not asked for" for name in sorted(partial)
    ]
    return replace(
        source,
        attributes=tuple(one for one in source.attributes if one.name not in partial),
        labels={name: labels for name, labels in source.labels.items() if name not in partial},
        numbers={name: numbers for name, numbers in source.numbers.items() if name not in partial},
        masks={name: masks for name, masks in source.masks.items() if name not in partial},
        identity=None if source.identity in partial else source.identity,
        skipped=tuple(said),
    )


def _tell_rare(source: Source, asked: Sequence[str], splits: Mapping[Split, Ints]) -> None:
    """Say which classes are too rare to learn or to judge, and which may be a typing mistake."""
    for attribute in source.attributes:
        if attribute.name not in asked or attribute.name == source.identity or attribute.name in source.masks:
            continue
        labels, size = source.labels[attribute.name], len(attribute.classes)
        counts = {split: np.bincount(labels[rows], minlength=size) for split, rows in splits.items()}
        told = []
        for index in np.argsort(sum(counts.values()), kind="stable").tolist():  # the rarest first
            total = sum(int(count[index]) for count in counts.values())
            lacking = [str(split) for split, count in counts.items() if count[index] == 0]
            if total and (lacking or counts[Split.TEST][index] < FEW):
                where = f"none in {', '.join(lacking)}" if lacking else f"{counts[Split.TEST][index]} in test"
                mistake = " (a typing mistake?)" if total < len(Split) else ""
                told.append(f"class {attribute.classes[index]!r} has {total} pictures{mistake}, {where}")
        if told:
            more = f"; and {len(told) - _TOLD} more such classes" if len(told) > _TOLD else ""
            note_once(
                f"{attribute.name!r}: {'; '.join(told[:_TOLD])}{more}: figures about them will be coarse"
            )


def _order(source: Source, seed: int, first: str | None) -> Ints:
    keys = sort_keys(source.attributes, source.labels, first)
    return stratified_order(
        [*([] if source.official is None else [source.official]), *keys], len(source.pictures.names), seed
    )


def _check_attributes(source: Source, keep: Sequence[str], hide: Sequence[str]) -> tuple[str, ...]:
    known = {attribute.name: attribute.classes for attribute in source.attributes}
    for name in (*keep, *hide):
        if name not in known:
            raise DataError(unknown("attribute", name, known))
        if name in source.quantities:
            raise refuse_quantity(name, known[name])
    if numbers := sorted(source.numbers.keys() & set(hide)):
        raise DataError(f"{numbers[0]!r} cannot be hidden as a number: hide it in bins, {numbers[0]}:q4")
    if masks := sorted(source.masks.keys() & set(hide)):
        raise DataError(f"{masks[0]!r} cannot be hidden as a mask: hide a label of the picture")
    both = sorted(set(keep) & set(hide))
    if both:
        raise DataError(f"attribute {both[0]!r} cannot be kept and hidden at once")
    return (*keep, *hide)


def _check_classes(source: Source, asked: Sequence[str], masks: Mapping[str, NDArray[np.uint8]]) -> None:
    """Every attribute asked for, or all if none is, must tell images apart; a mask must tell cells apart."""
    by_name = {attribute.name: attribute for attribute in source.attributes}
    for name in asked or by_name:
        present = np.unique(masks.get(name, source.labels[name]))
        if len(present) < 2:
            only = by_name[name].classes[int(present[0])] if len(present) else "none"
            raise DataError(
                f"attribute {name!r} has one class only ({only!r}): there is nothing to keep or to hide"
            )


def _copies(source: Source, official: Ints | None) -> tuple[str, ...]:
    if official is None:
        return ()
    names = source.pictures.names
    rows = np.flatnonzero(official == LEFT_OUT).tolist()
    return tuple(f"{names[row]}: the makers' test or validation part has the same picture" for row in rows)


def _split_rule(spec: Spec, source: Source, asked: Sequence[str]) -> str:
    if spec.split == "official" and source.official is None:
        raise DataError(f"{spec.kind} here has no partition of its own: use split=stratified")
    if spec.split == "identity" and source.identity is None:
        raise DataError(f"{spec.kind} here has no identity attribute: use split=stratified")
    if source.identity in asked:
        if spec.split not in (None, "stratified"):
            raise DataError(
                f"{source.identity!r} is kept or hidden, so persons must be in every split: split=stratified"
            )
        return "stratified"
    if spec.split is not None:
        return spec.split
    if source.official is not None:
        return "official"
    return "identity" if source.identity else "stratified"


def _identify(
    kind: str,
    source: Source,
    prints: bytes,
    shape: tuple[int, ...],
    splits: Mapping[Split, Ints],
    masks: Mapping[str, NDArray[np.uint8]],
) -> str:
    size = shape[:2] if shape[2] == 3 else shape
    digest = hashlib.sha256(f"{kind} {size}\n".encode())
    digest.update(prints)
    digest.update("\n".join(source.pictures.names).encode("utf-8", "surrogateescape"))
    for attribute in source.attributes:
        digest.update(_line(attribute))
        digest.update(source.labels[attribute.name].astype("<i8").tobytes())
        if attribute.name in source.numbers:
            digest.update(source.numbers[attribute.name].astype("<f8").tobytes())
        if attribute.name in masks:
            digest.update(repr(masks[attribute.name].shape).encode() + masks[attribute.name].tobytes())
    for split, rows in splits.items():
        digest.update(split.encode() + rows.astype("<i8").tobytes())
    return digest.hexdigest()


def _line(attribute: Attribute) -> bytes:
    return "\0".join((attribute.name, *attribute.classes)).encode("utf-8", "surrogateescape")
