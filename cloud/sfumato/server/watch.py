"""Cameras at the edge: frames are read, perturbed here and asked about; a scene is asked about once.

    watch([parse_camera("door=door.mp4")], client, lambda: key, WatchConfig(), stop=Event(), tell=print, note=print)

The first frame of a scene (`sfumato.runtime.scenes`) is perturbed and its upload sent; every further frame of it repeats that
answer, and nothing is sent. So however long a scene stands still, the service has one draw of it. Every upload is counted in
the ledger for the service and for the camera, before it is sent, and is refused over either limit. An upload without an answer
is sent again as it is, which is no further draw. docs/video.md says what the service still sees.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.core.errors import SfumatoError, UsageError
from sfumato.runtime.ledger import Account, LimitError, camera_account
from sfumato.runtime.phone_model import Upload
from sfumato.runtime.scenes import Scene, SceneConfig, Scenes
from sfumato.server.client import Client, ServerError
from sfumato.server.video import Camera, Frame, VideoConfig, frames

SCHEMA = "sfumato-watch/1"
GRACE = 5.0
"""Seconds until cameras that do not end by themselves are left behind."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """How cameras are watched."""

    video: VideoConfig = field(default_factory=VideoConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    anyway: bool = False
    """Send frames that look like none of the photos that the model was made for, too."""
    first_pause: float = 1.0
    """Seconds until an upload without an answer is sent again; it doubles with every try."""
    longest_pause: float = 60.0


@dataclass(frozen=True)
class Sight:
    """What is known of one frame."""

    camera: str
    at: str
    """When it was looked at, UTC."""
    second: float
    """Of the camera's time."""
    frame: int
    """From 1, of this camera since the start."""
    scene: int
    """From 1, of this camera since the start."""
    new: bool
    """The scene begins with this frame: one more draw."""
    sent_bytes: int
    """Sent for this frame: 0 where the scene has its answer."""
    rate_bits: float
    """The most that this frame told: the upload's rate where the scene begins, else 0. It was not sent."""
    answers: Mapping[str, Mapping[str, Any]] | None
    """Of the scene; None: there is none yet, and `reason` says why."""
    unlike: bool | None
    """The scene's first frame looks like none of the photos that the model was made for."""
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **vars(self)}


@dataclass
class _Asked:
    """What was asked about a scene."""

    upload: Upload | None
    """Until there is an answer."""
    unlike: bool | None
    answers: Mapping[str, Mapping[str, Any]] | None = None
    reason: str | None = None
    counted: bool = False
    """The upload went out, or tried to."""
    failures: int = 0
    again: float = -1.0
    """Not before this time of the monotonic clock."""


class Watcher:
    """One camera. Not for several threads at once.

    Args:
        camera: its name.
        client: holds the phone's model, the service's address and the ledger.
        key: gives the device's key for the service, 32 bytes; asked for every scene.
        config: as `watch`.
        perturbing: held while the model works; cameras share it.
    """

    def __init__(
        self,
        camera: str,
        client: Client,
        key: Callable[[], bytes],
        config: WatchConfig | None = None,
        perturbing: "Lock | None" = None,
    ) -> None:
        self.camera, self._client, self._key = camera, client, key
        self.config, self._perturbing = config or WatchConfig(), perturbing or Lock()
        self._scenes = Scenes[_Asked](self.config.scenes)
        self.frames = self.begun = 0

    def look(self, frame: Frame) -> Sight:
        """Answer for one frame: by its scene, or by an upload if it begins one.

        Raises:
            LogError: the account cannot be kept, so nothing was sent.
        """
        self.frames += 1
        pixels = self._client.phone.read(Image.fromarray(frame.pixels))
        scene = self._scenes.find(pixels)
        new = scene is None
        if scene is None:
            scene = self._begin(pixels)
        sent, bits = self._ask(scene.held)
        return Sight(
            self.camera,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            round(frame.second, 3),
            self.frames,
            scene.number,
            new,
            sent,
            bits,
            scene.held.answers,
            scene.held.unlike,
            scene.held.reason,
        )

    def _begin(self, pixels: NDArray[np.uint8]) -> Scene[_Asked]:
        self.begun += 1
        with self._perturbing:
            upload = self._client.phone.perturb(pixels, key=self._key())
        asked = _Asked(upload, upload.unlike)
        if upload.unlike and not self.config.anyway:
            asked.upload, asked.reason = None, "it looks like none of the photos this model was made for"
        return self._scenes.begin(pixels, asked)

    def _ask(self, asked: _Asked) -> tuple[int, float]:
        """Ask where there is no answer yet; bytes that were sent, and bits that they tell for the first time."""
        upload, now = asked.upload, time.monotonic()
        if upload is None or now < asked.again:
            return 0, 0.0
        sent, bits = 0, 0.0
        try:
            reply = self._client.send_upload(upload, camera=self.camera)
        except (LimitError, ServerError) as error:
            if isinstance(error, ServerError):  # whether it arrived cannot be known
                sent, bits = len(upload.content), 0.0 if asked.counted else upload.rate_bits
                asked.counted = True
            pause = min(self.config.longest_pause, self.config.first_pause * 2.0 ** min(asked.failures, 30))
            asked.failures, asked.again, asked.reason = asked.failures + 1, now + pause, str(error)
            return sent, bits
        bits = 0.0 if asked.counted else reply.rate_bits
        asked.upload, asked.reason, asked.answers = None, None, reply.answers
        return reply.sent_bytes, bits


def watch(
    cameras: Sequence[Camera],
    client: Client,
    key: Callable[[], bytes],
    config: WatchConfig,
    *,
    stop: Event,
    tell: Callable[[Sight], None],
    note: Callable[[str], None],
) -> list[Watcher]:
    """Watch cameras, each in a thread of its own, until all files have ended or `stop` is set.

    Args:
        cameras: with names of their own.
        client: holds the phone's model, the service's address and the ledger.
        key: gives the device's key for the service; asked for every scene.
        config: rates and limits.
        stop: set by a signal, or by another thread.
        tell: told every frame, one at a time.
        note: told what a person should know, in one line.

    Returns:
        What was seen, one for each camera.

    Raises:
        UsageError: two cameras have one name, or the model takes recordings.
        SfumatoError: a file cannot be read, or the account cannot be kept; all cameras were stopped.
    """
    names = [camera.name for camera in cameras]
    if len(set(names)) < len(names):
        raise UsageError(f"two cameras have one name: {', '.join(sorted(names))}")
    if client.phone.contract.sound is not None:
        raise UsageError("this model takes recordings, and a camera has pictures")
    perturbing, telling, errors = Lock(), Lock(), list[BaseException]()
    watchers = [Watcher(name, client, key, config, perturbing) for name in names]

    def follow(camera: Camera, watcher: Watcher) -> None:
        said = ""
        try:
            for frame in frames(camera, config.video, stop, note):
                sight = watcher.look(frame)
                with telling:
                    tell(sight)
                if sight.reason and sight.reason != said:
                    note(f"camera {camera.name}, scene {sight.scene}: no answer: {sight.reason}")
                said = sight.reason or ""
        except BaseException as error:
            errors.append(error)
            stop.set()

    threads = [
        Thread(target=follow, args=pair, name=f"watch {pair[0].name}", daemon=True)
        for pair in zip(cameras, watchers, strict=True)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not stop.is_set():
        stop.wait(0.1)
    until = time.monotonic() + GRACE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if errors:
        raise errors[0]
    return watchers


def summary(watchers: Sequence[Watcher], client: Client) -> list[tuple[Watcher, Account]]:
    """Every camera with its account.

    Raises:
        SfumatoError: the client keeps no account, or it cannot be read.
    """
    if client.ledger is None:
        raise SfumatoError("no account is kept")
    return [
        (watcher, client.ledger.account(camera_account(watcher.camera, client.service)))
        for watcher in watchers
    ]
