"""Frames of a camera: a video file, a network camera (RTSP, HTTP), or a V4L2 device, read by FFmpeg through PyAV.

    camera = parse_camera("door=rtsp://10.0.0.7/stream")
    for frame in frames(camera, VideoConfig(every=2.0), stop, note):
        frame.pixels

A file is read from its first frame to its last, as fast as its frames are taken; its end is the end. A network camera or a
device goes on until `stop` is set: where it breaks off or falls silent it is opened again, after a pause that doubles. A thread
reads it all the while and keeps the newest frame alone, so a slow service neither fills the memory nor makes frames old.
What an address holds beside the camera, a password say, is in no message.
"""

import math
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.core.errors import DataError, SfumatoError, UsageError
from sfumato.core.picture_file import MAX_DECODED
from sfumato.runtime.ledger import CAMERA

SCHEMES = ("rtsp", "rtsps", "http", "https")
"""Of addresses that are network cameras."""
EARLY = 1e-6
"""Seconds by which a frame may come before it is due: times are rounded."""
BAD_FRAMES = 100
"""Frames in a row that cannot be decoded, until a stream is given up."""


class VideoError(DataError):
    """A camera or a video cannot be read."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a camera is read."""

    every: float = 1.0
    """Seconds of the camera's time between two frames, on average."""
    open_seconds: float = 10.0
    """Longest time until a camera answers."""
    silent_seconds: float = 10.0
    """Longest silence of a camera."""
    first_pause: float = 1.0
    """Upper end of the first pause before a camera is opened again, in seconds; it doubles with every try."""
    longest_pause: float = 60.0
    """Upper end of the longest pause, in seconds."""
    largest: int = MAX_DECODED
    """Most pixels of a frame."""

    def __post_init__(self) -> None:
        if not (self.every > 0 and math.isfinite(self.every)):
            raise UsageError(f"frames are taken every so many seconds, more than 0, not every {self.every}")


@dataclass(frozen=True)
class Camera:
    """Where frames come from."""

    name: str
    kind: Literal["file", "network", "device"]
    address: str = field(repr=False)
    """It may hold a password."""


@dataclass(frozen=True)
class Frame:
    """One frame of a camera."""

    pixels: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    second: float
    """Of the camera's own time; of a file, since its beginning."""


def parse_camera(text: str) -> Camera:
    """A camera from `NAME=SOURCE`.

    Args:
        text: SOURCE is a video file, an address (rtsp, rtsps, http, https) or a device such as /dev/video0.

    Raises:
        UsageError: none of them, or no such name. The address is not in the message.
    """
    name, equals, source = text.partition("=")
    if not equals or not re.fullmatch(CAMERA, name):
        raise UsageError(
            "a camera is NAME=SOURCE, where NAME has up to 64 small letters, digits, dots, dashes and underscores"
        )
    scheme, mark, _ = source.partition("://")
    if mark:
        if scheme.lower() not in SCHEMES:
            raise UsageError(f"camera {name}: {', '.join(SCHEMES)} are read, not {scheme!r}")
        return Camera(name, "network", source)
    path = Path(source)
    if path.is_char_device():
        return Camera(name, "device", source)
    if not path.is_file():
        raise UsageError(f"camera {name}: {source} is no file, no device and no address")
    return Camera(
        name, "file", str(path.resolve())
    )  # an absolute path is never taken for a protocol of FFmpeg's


def frames(camera: Camera, config: VideoConfig, stop: Event, note: Callable[[str], None]) -> Iterator[Frame]:
    """Frames until the file ends or `stop` is set.

    Args:
        camera: of `parse_camera`.
        config: rate and limits.
        stop: set by another thread or a signal.
        note: told in one line that a camera broke off, and that it is back.

    Raises:
        VideoError: a file cannot be read. Network cameras and devices are tried again instead.
        ModuleNotFoundError: PyAV is missing.
    """
    if camera.kind == "file":
        yield from _until(stop, _read(camera, config))
        return
    import av  # noqa: F401  # what is missing is told here, not in a thread

    newest = _Newest()
    reader = Thread(
        target=_follow, args=(camera, config, stop, note, newest), name=f"camera {camera.name}", daemon=True
    )
    reader.start()
    while (frame := newest.take(stop)) is not None:
        yield frame


def _until(stop: Event, found: Iterator[Frame]) -> Iterator[Frame]:
    for frame in found:
        if stop.is_set():
            return
        yield frame


class _Newest:
    """A place for one frame: a newer one takes it over."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None

    def put(self, frame: Frame) -> None:
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify()

    def take(self, stop: Event) -> Frame | None:
        """The next frame; None once `stop` is set."""
        with self._changed:
            while self._frame is None and self._error is None and not stop.is_set():
                self._changed.wait(0.1)
            if stop.is_set():
                return None
            if self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            return frame


def _follow(
    camera: Camera, config: VideoConfig, stop: Event, note: Callable[[str], None], newest: _Newest
) -> None:
    """Read a camera, and open it again whenever it breaks off."""
    failures = 0
    try:
        while not stop.is_set():
            try:
                for frame in _until(stop, _read(camera, config)):
                    if failures:
                        note(f"camera {camera.name} is back")
                    failures = 0
                    newest.put(frame)
                reason = f"camera {camera.name}: the stream ended"
            except VideoError as error:
                reason = str(error)
            if stop.is_set():
                return
            most = min(config.longest_pause, config.first_pause * 2.0 ** min(failures, 30))
            pause = random.uniform(most / 2, most)
            failures += 1
            note(f"{reason}; trying again in {pause:.1f} s")
            stop.wait(pause)
    except BaseException as error:
        newest.fail(error)


def _read(camera: Camera, config: VideoConfig) -> Iterator[Frame]:
    """Open a camera once, and give a frame every so many seconds until it ends."""
    import av

    options = {"rtsp_transport": "tcp"} if camera.address.lower().startswith("rtsp") else {}
    patience = None if camera.kind == "file" else (config.open_seconds, config.silent_seconds)
    try:
        with av.open(
            camera.address,
            format="v4l2" if camera.kind == "device" else None,
            options=options,
            timeout=patience,
            metadata_errors="ignore",
        ) as container:
            if not container.streams.video:
                raise VideoError(f"camera {camera.name}: there is no picture in it")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # threads of the decoder would hold frames of their own
            _check_size(camera, config, stream.codec_context)
            yield from _chosen(camera, config, _decoded(av, camera, container, stream))
    except av.FFmpegError as error:
        raise VideoError(
            f"camera {camera.name} cannot be read: {error.strerror or 'no reason given'}"
        ) from None
    except OSError as error:
        raise VideoError(f"camera {camera.name} cannot be read: {error.strerror}") from None


def _decoded(av: Any, camera: Camera, container: Any, stream: Any) -> Iterator[Any]:
    """Every frame that can be decoded; damaged packets are passed over."""
    bad = 0
    for packet in container.demux(stream):
        try:
            found = packet.decode()
        except av.error.InvalidDataError:
            bad += 1
            if bad > BAD_FRAMES:
                raise VideoError(f"camera {camera.name}: {bad} frames in a row are damaged") from None
            continue
        if found:
            bad = 0
            yield from found


def _chosen(camera: Camera, config: VideoConfig, found: Iterator[Any]) -> Iterator[Frame]:
    """The frames that are due."""
    due, last, begun = -math.inf, -math.inf, time.monotonic()
    for frame in found:
        second = float(frame.time) if frame.time is not None else time.monotonic() - begun
        if second < last:  # the camera's clock began anew
            due = second
        last = second
        if second < due - EARLY:
            continue
        passed = 0.0 if due == -math.inf else math.floor((second - due + EARLY) / config.every)
        due = (second if due == -math.inf else due) + (passed + 1) * config.every
        _check_size(camera, config, frame)
        yield Frame(frame.to_ndarray(format="rgb24"), second)


def _check_size(camera: Camera, config: VideoConfig, sized: Any) -> None:
    if sized.width * sized.height > config.largest:
        raise VideoError(
            f"camera {camera.name}: frames of {sized.width} x {sized.height} pixels, more than the {config.largest:,} "
            "that are read"
        )


def read_cameras(path: Path) -> list[str]:
    """The lines `NAME=SOURCE` of a file; empty ones and those that begin with # are left out.

    Raises:
        SfumatoError: it cannot be read, or is not UTF-8.
    """
    from sfumato.core.files import read_bytes

    try:
        lines = read_bytes(path, largest=2**20).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SfumatoError(f"{path} is no text in UTF-8") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
