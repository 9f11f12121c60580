"""The scenes of a gateway's clients: photos of one scene share one upload and one answer.

    scenes = ClientScenes(SceneConfig())
    asked = scenes.asked("door", pixels, lambda: phone.perturb(pixels, key=key))
    asked.reply                                 # the service's answer, once there is one

Without it every photo of a still scene is a draw of its own, and who averages draws undoes the noise
(`sfumato.runtime.scenes`).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.runtime.phone_model import Upload
from sfumato.runtime.scenes import SceneConfig, Scenes
from sfumato.server.client import Reply

MOST_CLIENTS = 64
"""Clients whose scenes are kept, the last ones heard of: uploads without an answer take memory."""


@dataclass(eq=False)
class Asked:
    """What is asked about a photo, or about the first photo of its scene."""

    upload: Upload | None
    """Until there is an answer."""
    unlike: bool | None
    scene: int | None = None
    """From 1, of its client; None: scenes are not looked for."""
    reply: Reply | None = None


class ClientScenes:
    """The scenes of every client. Not for several threads at once.

    Args:
        config: when two photos show one scene; None: every photo is one of its own.
    """

    def __init__(self, config: SceneConfig | None) -> None:
        self._config = config
        self._clients: OrderedDict[str, Scenes[Asked]] = OrderedDict()

    def asked(self, client: str, pixels: NDArray[np.uint8], perturb: Callable[[], Upload]) -> Asked:
        """What was asked about this photo's scene, or its upload if it begins one.

        Args:
            client: scenes are compared within its photos alone.
            pixels: (H, W, planes), as the model sees them.
            perturb: makes the upload.
        """
        if self._config is None:
            return asked_about(perturb())
        scenes = self._clients.setdefault(client, Scenes(self._config))
        self._clients.move_to_end(client)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        scene = scenes.find(pixels) or scenes.begin(pixels, asked_about(perturb()))
        scene.held.scene = scene.number
        return scene.held


def asked_about(upload: Upload) -> Asked:
    """Nothing was sent yet."""
    return Asked(upload, upload.unlike)
