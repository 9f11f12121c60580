"""The configuration of a training run: one frozen object, written into the run and read back from it.

    config = TrainConfig(data="synthetic", keep=("smiling",), hide=("skin",), bits=8)
    config.adversaries.learn_from      # 0.3; in a TOML file: [adversaries] learn_from = 0.3

Every component of training has a table of its own here. `config.json` of a run holds all of them, defaults included.
"""

import json
import shlex
import textwrap
import tomllib
from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sfumato.core.cloud_spec import parse_cloud
from sfumato.core.console import note
from sfumato.core.errors import SfumatoError, UsageError, complaint, first_line
from sfumato.core.files import read_bytes, read_object
from sfumato.core.leak_limits import LeakLimit, read_leaks
from sfumato.core.options import kept_masks, names, with_bins
from sfumato.core.rates import PICTURE_BITS
from sfumato.core.strengths import FULL, check_strengths, read_strengths

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: names(given) if isinstance(given, str) else given)
]
"""Attribute names; a comma-separated text is split."""
Strengths = Annotated[
    tuple[int, ...],
    BeforeValidator(lambda given: read_strengths(given) if isinstance(given, str) else given),
]
"""Strengths below 128, descending; a comma-separated text is split."""


class _Table(BaseModel):
    """The settings of one component. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Augmentation(_Table):
    """How training images are varied (`sfumato.training.loader`)."""

    mirror_only: Share = 0.0
    """Share of the epochs, at the end of co-training and of the clean network's training, whose images are only mirrored.
    Turned and scaled images are blurred, by a pixel or so: at 32x32 that is much."""
    shift: Share = 1 / 16
    """Largest shift, as a share of the image's size."""
    turn: float = Field(default=0.2, ge=0)
    """Largest angle of a rotation, in radians."""
    scale: float = Field(default=0.12, ge=0, lt=1)
    """Largest relative change of size."""
    contrast: Share = 0.3
    """Largest relative change of contrast."""
    brightness: Share = 0.3
    """Largest relative change of brightness."""
    saturation: Share = 0.0
    """Largest relative change of saturation. For photos of one place or one lamp, where colours say too much."""
    hue: float = Field(default=0.0, ge=0, le=pi)
    """Largest turn of the colours about the grey axis, in radians."""


class Schedule(_Table):
    """The one-cycle learning rate (`sfumato.models.schedule`)."""

    climb: Share = 0.2
    """Share of a stage in which the learning rate climbs to its peak."""
    start: Share = 0.04
    """Learning rate of the first step, as a share of the peak."""


class Pretraining(_Table):
    """The encoder's training on clean images (`sfumato.training.pretrain`)."""

    learning_rate_factor: Positive = 2.0
    """Peak learning rate over that of co-training."""
    mix_every: int = Field(default=2, ge=2)
    """One of so many batches is a mixture of pairs of images, labelled by the clean network."""


class Gating(_Table):
    """Which blocks of a picture the phone opens (`sfumato.training.gating`); only with `gates`."""

    epochs: int = Field(default=12, ge=1)
    """Epochs before co-training in which gates learn; without a `window` the cloud network learns too, on clean photos whose
    closed blocks are black."""
    price: Positive = 0.5
    """Weight of the share of open blocks in the loss, in units of `log K`, the loss of a guess among K classes: at 1 a network
    may close everything and guess."""
    climb: Share = 0.5
    """Share of these epochs in which the price rises from nothing."""
    region: int = Field(default=0, ge=0)
    """Side, in blocks of 8x8, of the square around the likeliest block that may be open, an odd number. 0: blocks may be open
    anywhere. What else catches the eye is then never sent, so use it where the answer lies in one place of the picture."""
    window: int = Field(default=0, ge=0)
    """Side, in blocks of 8x8, of the one square that is open: that in which the clean network would know the answer best, as
    the phone foresees it. It is open as a whole, so no price moves it. 0: blocks open one by one."""
    views: int = Field(default=6, ge=1)
    """Windows of each photo that the clean network is asked about, before the phone learns to foresee what it says."""
    swap: Share = 0.0
    """Share of photos that learn from one of their windows with another photo around it. What a window is worth then depends
    on what it shows alone, so other things in a photo, a person say, move it less."""

    @field_validator("region")
    @classmethod
    def _has_a_middle(cls, region: int) -> int:
        if region and region % 2 == 0:
            raise ValueError(f"the region has a block in its middle: its side is odd, not {region}")
        return region

    @model_validator(mode="after")
    def _one_square(self) -> Self:
        if self.region and self.window:
            raise ValueError("region and window are both the square that may be open: leave one of them out")
        return self


class RateControl(_Table):
    """The controller that holds a rate on its way to the goal (`sfumato.training.rate_controller`)."""

    default_bits: Positive = 16.0
    """Goal where neither `bits` nor `max_drop` is given, in bits an image."""
    max_drop_start_bits: Positive = 64.0
    """Goal that `max_drop` starts from, in bits an image."""
    ramp: tuple[Share, Share] = (0.05, 0.4)
    """Shares of co-training between which the allowed rate falls from its start to the goal."""
    late_ramp: tuple[Share, Share] = (0.5, 0.8)
    """Shares of co-training between which it falls to the second goal, where there is one."""
    first_weight: Positive = 0.01
    """Weight of log R at the first step, in nats of the loss for an e-fold of the rate."""
    least_weight: Positive = 1e-4
    """The slow part of the weight never falls below this."""
    integral: float = Field(default=0.05, ge=0)
    """An error of one e-fold moves the slow part of the weight by this share each step."""
    proportional: float = Field(default=2.0, ge=0)
    """Exponent of the immediate answer to an error; damps oscillation."""
    limit: Positive = 0.05
    """Largest weight during the ramp. Uploads of a few bits are held with a weight of 0.01."""
    limit_rise: float = Field(default=1000.0, ge=1)
    """Factor by which the limit has grown at the end of co-training."""
    largest_error: Positive = 1.5
    """Errors are clipped to this many e-folds."""
    smoothing: float = Field(default=0.5, ge=0, lt=1)
    """Weight of the past in the exponential mean of log R."""

    @model_validator(mode="after")
    def _ramps(self) -> Self:
        for first, last in (self.ramp, self.late_ramp):
            if not first < last < 1:
                raise ValueError(f"a ramp needs two shares, the first below the second, not {first}, {last}")
        return self


class Residual(_Table):
    """The residual rate, what an upload tells beyond the decision (`sfumato.training.regularisers.residual`)."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Weight of the past in the running mean of each reference distribution."""
    early_bits: Positive = 0.1
    """Smallest goal of the first ramp. A lower `beyond` is approached on the late ramp, where the learning rate is small
    (docs/decisions/0013-limited-weight.md)."""
    measure_every: int = Field(default=8, ge=1)
    """Steps between two measurements where `beyond` is not given."""


class EqualOddsControl(_Table):
    """The multipliers that equalise the decision's errors (`sfumato.training.regularisers.equal_odds`)."""

    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Weight of the past in the running mean decisions."""
    pace: float = Field(default=0.02, ge=0)
    """Step of a multiplier for a gap of 1. A gap of five points makes a multiplier of 1 in 1,000 steps: the order of a cross
    entropy."""


class Adversaries(_Table):
    """The adversaries of the objective `suppress` (`sfumato.training.regularisers.adversaries`)."""

    architectures: tuple[str, ...] = Field(default=("linear", "cnn", "mobilenet"), min_length=1)
    """Members of the ensemble, from `sfumato.models.attackers`."""
    learn_from: Share = 0.3
    """Share of co-training after which the adversaries are updated. Their loss counts once the rate ramp ends. While uploads
    carry thousands of bits it would saturate the probabilities at 0 or 1, where the rate term has no gradient
    (docs/decisions/0014-late-adversaries.md)."""
    every: int = Field(default=3, ge=1)
    """Steps of the networks from one update of the adversaries to the next."""
    steps: int = Field(default=1, ge=1)
    """Their optimiser steps in an update, each on fresh uploads of the batch."""
    restart_every: int = Field(default=4, ge=1)
    """Epochs between restarts; each restart takes the next member."""
    learning_rate: Positive = 2e-3
    """Of AdamW, constant."""
    weight_decay: float = Field(default=1e-3, ge=0)
    photo_epochs: int = Field(default=6, ge=1)
    """With `leak`: epochs that they learn on clean photos first. That says what a leak is a share of."""


class LeakControl(_Table):
    """The weights that hold each hidden attribute at its limit (`sfumato.training.regularisers.leak_weights`); with `leak`."""

    pace: Positive = 0.02
    """How far a weight moves in a step, in its logarithm, where the leak is twice its limit or more."""
    momentum: float = Field(default=0.98, ge=0, lt=1)
    """Of the running mean of each adversary's success."""
    least_weight: Positive = 0.1
    """Smallest weight."""
    limit: Positive = 100.0
    """Largest weight. A larger one does not hide more: it drowns the task's gradient."""


class AutoregressiveFit(_Table):
    """The optimiser of the autoregressive prior (`sfumato.training.regularisers.autoregressive`)."""

    learning_rate: Positive = 3e-3
    """Peak of its one-cycle schedule (AdamW)."""
    weight_decay: float = Field(default=1e-2, ge=0)


class GaussianScale(_Table):
    """The gaussian channel's scales, in units of the full pixel range (`sfumato.channels.gaussian`)."""

    largest: float | None = Field(default=None, gt=0)
    """Largest standard deviation of the noise. None: 2 for the objective `literal`, else 0.5."""
    reference: Positive = 0.3
    """Standard deviation of the normal distribution that the rate is measured against."""


class Answer(_Table):
    """Answer mode: the phone's network and the table of the randomised answer (`sfumato.training.answer`)."""

    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    """Feature planes of the phone's network at 1/2, 1/4, 1/8 and 1/16 of the resolution."""
    depths: tuple[int, int, int] = (0, 2, 1)
    """Its residual blocks at 1/4, 1/8 and 1/16."""
    bins: int = Field(default=2, ge=1, le=64)
    """How finely a randomised answer sees the lead of the largest score over the second."""
    least: int = Field(default=20, ge=1)
    """Images that a value of a hidden attribute needs within one true label to be held to equal odds on its own; rarer values
    are pooled."""
    shrink: float = Field(default=50.0, ge=0)
    """Images of all values together that are added to each value's own, since its states are estimated from few."""


class Selection(_Table):
    """Which epoch is kept, and how the goal follows validation (`sfumato.training.epoch_selection`)."""

    keep: Literal["best", "last"] = "best"
    """Of the epochs that meet all targets: the most accurate on validation, or the last. Where validation has a few hundred
    photos, chance moves an epoch by two or three points, more than training does in its last third; without a wish for an
    early end the last is then the better guess. With `max_drop` the lowest rate decides, whatever this says."""
    tolerance: float = Field(default=1.05, ge=1)
    """An epoch meets its rate target up to this multiple: the target is a mean over batches."""
    residual_tolerance: float = Field(default=1.5, ge=1)
    """The same for the residual rate, which is measured on varied images while it still falls."""
    raise_goal: float = Field(default=1.25, ge=1)
    """With `max_drop`, the factor by which the goal rises where accuracy is too low."""
    lower_goal: float = Field(default=0.8, gt=0, le=1)
    """Smallest factor by which it falls, once for the gap between training and validation and once for what is missing. With
    `max_drop`, the factor by which it falls where accuracy is high enough."""


PICTURE_OPTIONS = (
    "bits",
    "max_drop",
    "beyond",
    "leak",
    "objective",
    "channel",
    "levels",
    "gray",
    "subsample",
    "gates",
    "dial",
    "block",
    "prior",
    "frozen_cloud",
    "local",
    "mix_every",
    "average",
    "auxiliary_classifier",
    "shortlist",
    "restore",
)
"""Fields that decide what a picture tells; any of them given asks for picture mode."""


class TrainConfig(BaseModel):
    """Everything that decides the result of `sfumato train`. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    data: str
    """Data SPEC, for example `utkface:PATH,size=64`."""
    keep: Names = Field(min_length=1)
    """Attributes the cloud is meant to recognise; one head each."""
    hide: Names = ()
    """Attributes declared undesired. Only the objective `suppress` reads their labels in training."""
    seed: int = 0
    """Seed of everything random."""
    preset: Literal["medical"] | None = None
    """The preset that the settings come from (`sfumato.training.presets`); it changes none by itself."""
    mode: Literal["picture", "answer"] = "picture"
    """What is uploaded: a perturbed picture, or the code word of the phone's own answer (docs/decisions/0021-two-modes.md)."""
    equal_odds: float | None = Field(default=None, ge=0, le=1)
    """Of answer mode: the answer is drawn at random so that, given the true label, the probability of every word differs by at
    most this between the values of each hidden attribute. None sends the decision itself."""

    channel: Literal["dither", "gaussian"] = "dither"
    """How uploads are drawn (`sfumato.channels`). The objective `literal` is the paper's additive noise: `gaussian`."""
    levels: Literal[2, 4, 16] = 2
    """Levels a sample of the dither channel can take."""
    gray: bool = False
    """Whether the bits of a sample are its level's Gray code, which starts as an even dither of all levels, instead of coins
    weighted by the pixel. More bits and a clearer picture: where a real cloud network has to recognise it
    (docs/decisions/0035)."""
    subsample: Literal[1, 2, 4] = 1
    """Height and width, in pixels, of the square that one sample of the upload stands for. Where thousands of pixels share a
    few hundred bits, fewer samples can each tell more (docs/decisions/0037)."""
    gates: bool = False
    """Whether the phone can close blocks of 8x8 pixels: nothing of a closed block is in the upload (docs/decisions/0031)."""
    dial: Strengths = ()
    """Further strengths, 64,32 for instance, at which the phone's user may have uploads drawn (docs/decisions/0033): the cloud
    network learns on uploads of full strength, 128, and of these. Rate and choice of the epoch are those of full strength."""
    block: Literal[2, 4] = 4
    """Height and width of the block of pixels under each place of the local network's heads. 2 sees edges, which helps uploads
    that show parts of a picture, and costs the phone 20 to 40 % more (docs/decisions/0016)."""
    objective: Literal["literal", "rate", "suppress"] = "rate"
    """`rate`: accuracy at a rate. `suppress`: also against adversaries that look for `hide`. `literal`: the paper's scheme."""

    bits: float | None = Field(default=None, gt=0)
    """Target of the mean rate, in bits an image. The weight of the rate is found by the run itself."""
    prior: Literal["uniform", "autoregressive"] = "uniform"
    """Distribution of uploads that the rate in training is measured against: independent fair bits, or a network that predicts
    each bit from those before it (`sfumato.models.autoregressive`). Where an upload shows parts of a picture, the second lets
    twice as much of it through at the same number of bits."""
    max_drop: float | None = Field(default=None, gt=0, lt=100)
    """Instead of `bits`: the lowest rate whose desired accuracy stays within this many points of the clean network's."""
    beyond: float | None = Field(default=None, gt=0)
    """Target of the residual rate in bits an image: what an upload may tell beyond the phone's own decision."""
    leak: str = ""
    """Of the objective `suppress`: the most that the adversaries of training may find of hidden attributes, beside the other
    targets: `race:0.05,gender:0.1bits`, each a NAG or bits. The weight of each attribute is found by the run itself."""
    noise_weight: float = Field(default=0.1, ge=0)
    """Lambda of the objective `literal`: weight of the mean log noise scale."""
    suppress_weight: float = Field(default=1.0, ge=0)
    """Gamma of the objective `suppress`: weight of the adversarial term and of equal odds; with `leak` the first weight of each
    attribute named there."""
    distill: float = Field(default=0.5, ge=0, le=1)
    """Share of the loss that follows the clean network's soft outputs instead of the labels."""
    feature_weight: float | None = Field(default=None, ge=0)
    """Weight of the distance between the cloud network's features of an upload and the clean network's of the photo. None: 1
    where `bits` is at least `PICTURE_BITS` and `beyond` is not given, else 0. Only the built-in cloud network has features to
    compare, and a frozen one cannot follow unless there is a restorer: it does nothing for others."""
    aux_weight: float = Field(default=1.0, ge=0)
    """Weight of the local network's own classification of the desired labels, from which its decision learns."""

    local: str | None = None
    """`module:factory` of a local network of the user's own (`sfumato.models.own_local`); None: ours."""
    cloud: str = "resnet"
    """`module:factory`, or `resnet`, `lite0`, `timm:NAME`, `torchvision:NAME`, with options (`sfumato.core.cloud_spec`)."""
    decision: Literal["auto", "pairwise", "largest", "none"] = "auto"
    """How the phone's network decides (`sfumato.models.argmax_head`): by comparing all pairs of classes, by the largest score,
    or not at all. `auto`: pairs up to ten classes, else the largest; none where so many classes would make the
    network too large for a phone or, from `PICTURE_BITS` bits on, most of it."""
    auxiliary_classifier: bool = False
    """Whether the encoder of our local network learns to classify where it has no decision. The classifier takes part in
    training alone and is not exported; `pretrain_epochs` and `aux_weight` are its own. For questions with many classes."""
    shortlist: bool = False
    """Whether the phone writes the classes that it finds likely itself into the last row of the upload, a bit for each, and the
    cloud network weighs them in (docs/decisions/0046). For questions that the phone cannot answer alone. In place of a
    decision, which the whole picture carries; its classifier is trained as that of `auxiliary_classifier`, and ships."""
    restore: bool = False
    """Whether a network of the service's own stands before the cloud network and turns uploads into pictures like photos
    (docs/decisions/0059). It learns together with the phone's. For a cloud network that cannot change."""
    padding: Literal["same", "symmetric"] = "same"
    """Where the zeros around the picture lie in the layers of our phone networks that halve it: as TensorFlow's SAME has them,
    which costs nothing on the phone, or as many on every side, as up to 0.2."""
    phone_input: Literal["centred", "photo"] = "centred"
    """What our local network looks at with dither in plain binary code: 8 (x - 128/255), which an int8 file can take as its
    input, or a photo's values x themselves, as up to 0.2. The bytes that it is given are the same. Not of answer mode."""
    frozen_cloud: str | None = None
    """A cloud network that cannot change, so that the local one alone learns: `clean` (the one that this run trains on clean
    images), a file `NAME.onnx`, or `module:factory` of one that has its weights. None: both networks learn."""
    class_order: str = ""
    """Of a frozen `NAME.onnx`: the order of the classes in its outputs, `male,female` or `gender=male,female;hat=yes,no`.
    Empty: the order of the data, and training stops where that cannot be."""
    input_range: Literal["", "0..1", "0..255", "-1..1", "imagenet"] = ""
    """Of a frozen `NAME.onnx`: the values that it takes. Empty: 0..1, and training stops where that cannot be."""
    pretrain_epochs: int = Field(default=36, ge=0)
    """Epochs in which the local network's encoder learns the desired labels on clean images, before co-training."""
    epochs: int = Field(default=24, ge=1)
    """Epochs of co-training."""
    clean_epochs: int = Field(default=24, ge=1)
    """Epochs of the clean cloud network, the reference for accuracy and the teacher for distillation."""
    mix_every: int | None = Field(default=None, ge=2)
    """One of so many batches of co-training is a mixture of pairs of images, labelled by the clean network. For a few thousand
    photos, which a large cloud network would know by heart. Not with `suppress`, whose adversaries learn from labels."""
    average: float | None = Field(default=None, gt=0, lt=1)
    """Validate and keep a running mean of both networks' weights; 0.99 is that of about the last hundred steps. For few photos,
    where single steps differ much. Only with `rate` and without `beyond`, whose figures are of the weights in training."""
    batch_size: int = Field(default=64, ge=2)
    """Images a step, over all processes."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the one-cycle schedule (AdamW)."""
    weight_decay: float = Field(default=1e-2, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the built-in cloud network's convolutions in training. bfloat16 takes 60 % of the time where the processor has it
    (avx512_bf16, AMX, a GPU); the local network, evaluation and audit always compute in float32."""
    decoder_norm_until: Share = 0.25
    """Share of co-training after which the batch norm of the local network's decoder keeps its statistics. The decisions of a
    batch are never evenly spread. Statistics that follow them make uploads of one decision differ by a tenth of a bit, and a
    term that penalises this would push the uploads of different decisions together."""

    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    pretraining: Pretraining = Pretraining()
    gating: Gating = Gating()
    rate: RateControl = RateControl()
    residual: Residual = Residual()
    odds_control: EqualOddsControl = EqualOddsControl()
    adversaries: Adversaries = Adversaries()
    leak_control: LeakControl = LeakControl()
    autoregressive: AutoregressiveFit = AutoregressiveFit()
    gaussian: GaussianScale = GaussianScale()
    answer: Answer = Answer()
    selection: Selection = Selection()

    @model_validator(mode="before")
    @classmethod
    def _channel_of_literal(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("objective") == "literal":
            return {"channel": "gaussian", **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _bins(cls, values: Any) -> Any:
        """Bins that an attribute was asked for with, `age:q4`, belong to the data."""
        return with_bins(values)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bits is not None and self.max_drop is not None:
            raise ValueError("give either bits or max_drop, not both")
        self._check_mode()
        if self.masks:
            self._check_masks()
        if self.objective == "suppress" and not self.hide:
            raise ValueError("the objective 'suppress' needs attributes to hide (--hide)")
        self._check_leaks()
        if self.mix_every is not None and (not self.distill or self.objective == "suppress"):
            raise ValueError(
                "mixtures have no labels: mix_every needs distill, and no objective whose adversaries learn from labels"
            )
        if self.average is not None and (self.objective != "rate" or self.beyond is not None):
            raise ValueError("average belongs to the objective rate without beyond: leave one of them out")
        if self.prior == "autoregressive" and (self.channel != "dither" or self.objective == "literal"):
            raise ValueError(
                "the prior 'autoregressive' needs the channel dither and an objective with a rate"
            )
        # A shortlist stands for the decision, and a mask has none: their runs are written down with the decision that they
        # lack, and must open again.
        if self.decision == "none" and (
            self.beyond is not None
            or (self.objective == "suppress" and self.local is None and not self.shortlist and not self.masks)
        ):
            raise ValueError(
                "without a decision there is nothing beyond it, and none whose errors could be equal"
            )
        if self.objective == "literal" and self.decision not in ("auto", "none"):
            raise ValueError("the objective 'literal' has no decision: leave decision out")
        if self.objective == "literal" and self.channel != "gaussian":
            raise ValueError(
                "the objective 'literal' adds gaussian noise: leave channel out, or give gaussian"
            )
        if self.channel != "dither" and (self._changed("levels") or self.gray):
            raise ValueError(
                f"levels belong to the channel dither, gray too: leave them out with {self.channel}"
            )
        if self.subsample > 1 and (self.channel != "dither" or self.gates):
            raise ValueError("subsample belongs to the channel dither without gates: leave one of them out")
        if self.subsample > self.block and self.local is None:
            raise ValueError(f"a sample of {self.subsample} pixels a side needs block = 4")
        if self.gates and (self.channel != "dither" or self.beyond is not None or self.local is not None):
            raise ValueError(
                "gates belong to the channel dither and our local network: leave beyond and local out"
            )
        for name in ("region", "window"):
            if getattr(self.gating, name) and not self.gates:
                raise ValueError(f"gating.{name} belongs to gates: set gates, or leave the {name} out")
        if self.dial:
            if self.channel != "dither":
                raise ValueError(f"dial belongs to the channel dither: leave it out with {self.channel}")
            check_strengths((FULL, *self.dial))
        targets = (self.bits, self.max_drop, self.beyond)
        if self.objective == "literal" and any(target is not None for target in targets):
            raise ValueError("the objective 'literal' has no rate target: it is steered by noise_weight")
        parse_cloud(self.cloud)
        if self.given_cloud is not None:
            if parse_cloud(self.given_cloud) is not None:
                raise ValueError(
                    f"{self.given_cloud} has no heads of its own: --cloud {self.given_cloud} --frozen-cloud clean trains "
                    "it on clean photos first and keeps it then"
                )
            if not (self.given_cloud.endswith(".onnx") or ":" in self.given_cloud):
                raise ValueError(
                    f"unknown frozen_cloud {self.given_cloud!r}: give 'clean', NAME.onnx or module:factory"
                )
            if self.cloud != "resnet":
                raise ValueError("give either cloud or frozen_cloud: a network that is given needs no other")
        if self.local is not None and (self.beyond is not None or self.objective == "literal"):
            raise ValueError(
                "a local network of your own has no decision: leave beyond and the objective literal out"
            )
        if self.auxiliary_classifier and (self.local is not None or self.objective == "literal"):
            raise ValueError(
                "auxiliary_classifier belongs to our own local network: leave it out with local and the objective literal"
            )
        if self.shortlist:
            self._check_shortlist()
        if self.restore and (self.channel != "dither" or self.objective == "literal" or self.masks):
            raise ValueError(
                "restore reads uploads of the channel dither, and no masks: leave one of them out"
            )
        if (self.class_order or self.input_range) and self.given_onnx is None:
            raise ValueError("class_order and input_range describe a file: give frozen_cloud NAME.onnx too")
        if both := set(self.keep) & set(self.hide):
            raise ValueError(f"{', '.join(sorted(both))} cannot be kept and hidden at once")
        return self

    def _check_masks(self) -> None:
        """What does not go together with masks, in the words of the options."""
        names = ", ".join(self.masks)
        others = {
            "shortlist": self.shortlist,
            "auxiliary_classifier": self.auxiliary_classifier,
            "beyond": self.beyond is not None,
            f"decision {self.decision}": self.decision in ("pairwise", "largest"),
            "gates": self.gates,
            "objective literal": self.objective == "literal",
            f"frozen_cloud {self.given_cloud}": self.given_cloud is not None,
            f"cloud {self.cloud}": parse_cloud(self.cloud) is not None,
        }
        if self.mode == "answer":
            raise ValueError(f"{names} is kept as a mask, and no code word holds one: give --mode picture")
        if given := [name for name, there in others.items() if there]:
            raise ValueError(f"{names} is kept as a mask: {', '.join(given)} cannot be had with it")

    @property
    def masks(self) -> tuple[str, ...]:
        """Kept attributes that are masks."""
        return kept_masks(self.data, self.keep)

    def _check_shortlist(self) -> None:
        others = {
            "local": self.local is not None,
            "gates": self.gates,
            "dial": bool(self.dial),
            "beyond": self.beyond is not None,
            "decision": self.decision in ("pairwise", "largest"),
            "frozen_cloud": self.given_cloud is not None,
        }
        if self.channel != "dither" or self.objective == "literal":
            raise ValueError("a shortlist is drawn by the channel dither: leave it out with another")
        if given := [name for name, there in others.items() if there]:
            raise ValueError(f"shortlist cannot be had with {', '.join(given)}: leave one of them out")

    def _check_mode(self) -> None:
        """Options that belong to the other mode."""
        if self.mode == "picture":
            if self.equal_odds is not None:
                raise ValueError("equal_odds belongs to answer mode: give --mode answer too")
            return
        others = (*PICTURE_OPTIONS, "phone_input")
        given = [name for name in others if name in self.model_fields_set and self._changed(name)]
        if given:
            raise ValueError(
                f"answer mode uploads a code word and no picture: {', '.join(given)} has no meaning there"
            )
        if self.equal_odds is not None and not self.hide:
            raise ValueError("equal_odds needs attributes to hide (--hide)")

    def _check_leaks(self) -> None:
        if self.leak and self.objective != "suppress":
            raise ValueError(
                "leak is held by the adversaries of the objective suppress: give --objective suppress too"
            )
        if unknown := set(self.leaks) - set(self.hide):
            raise ValueError(f"leak names {', '.join(sorted(unknown))}, which --hide does not")

    @property
    def leaks(self) -> dict[str, LeakLimit]:
        """Hidden attribute -> the most that may be found of it, of those that `leak` names."""
        return read_leaks(self.leak)

    def _changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def feature_loss_weight(self) -> float:
        """Weight of the features in the loss, the default resolved."""
        if self.feature_weight is not None:
            return self.feature_weight
        picture = self.bits is not None and self.bits >= PICTURE_BITS and self.beyond is None
        return 1.0 if picture and self.objective == "rate" else 0.0

    def mixes(self, step: int) -> bool:
        """Whether a step of co-training looks at mixtures: the last of every `mix_every`."""
        return self.mix_every is not None and step % self.mix_every == self.mix_every - 1

    def only_mirrors(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch of a stage of `epochs` lies in the share at its end whose images are only mirrored."""
        return epoch >= (1 - self.augmentation.mirror_only) * epochs

    @property
    def given_cloud(self) -> str | None:
        """The frozen cloud network if it comes from outside; the clean one is trained like any other."""
        return None if self.frozen_cloud == "clean" else self.frozen_cloud

    @property
    def given_onnx(self) -> Path | None:
        """The file that the cloud network is given in."""
        given = self.given_cloud
        return Path(given) if given is not None and given.endswith(".onnx") else None

    @property
    def factory(self) -> str | None:
        """The `module:factory` that makes the cloud network: code of the user's own."""
        named = self.given_cloud or self.cloud
        code = self.given_onnx is None and ":" in named and parse_cloud(named) is None
        return named if code else None

    @property
    def channel_settings(self) -> dict[str, float | int | bool]:
        """Arguments for `channels.create`. The objective `literal` is the paper's scheme: additive noise."""
        if self.channel == "dither":
            return {name: getattr(self, name) for name in ("levels", "gates", "gray", "subsample")}
        literal = self.objective == "literal"
        largest = self.gaussian.largest or (2.0 if literal else 0.5)
        return {"additive": literal, "largest_scale": largest, "reference_scale": self.gaussian.reference}


OLD_KEYS = {
    "reference": "prior",
    "warm_epochs": "pretrain_epochs",
    "hint_weight": "aux_weight",
    "plain": "augmentation.mirror_only",
    "adversary_steps": "adversaries.steps",
}
"""Keys of the first, flat form of the configuration, and where their values are now."""
OLD_VALUES = {
    "objective": {"seed": "literal"},
    "prior": {"coins": "uniform", "context": "autoregressive"},
}
"""Renamed values of keys, the keys by their new names."""


def renamed(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Options in the words of this version, and a remark for each old word among them.

    >>> renamed({"reference": "context", "plain": 0.5})[0]
    {'prior': 'autoregressive', 'augmentation': {'mirror_only': 0.5}}
    """
    found: dict[str, Any] = {}
    remarks = []
    for key, value in values.items():
        new = OLD_KEYS.get(key, key)
        if key == "equal_odds" and isinstance(value, Mapping):
            new = "odds_control"  # the table of 0.2; the name is now that of answer mode's epsilon
        table, _, name = new.rpartition(".")
        if new != key:
            remarks.append(f"{key} -> {new}")
            within = values.get(table)
            if new in values or (isinstance(within, Mapping) and name in within):
                raise UsageError(f"{key} is the old name of {new}: give one of them")
        if isinstance(value, str) and value in OLD_VALUES.get(new, {}):
            remarks.append(f"{value} -> {OLD_VALUES[new][value]}")
            value = OLD_VALUES[new][value]
        where, part = (table, {name: value}) if table else (new, value)
        before = found.get(where, {})  # a table may be given beside an old flat key that now belongs to it
        if not isinstance(before, Mapping):
            continue  # what is no table is refused later
        found[where] = {**before, **part} if isinstance(part, Mapping) else part
    return found, remarks


def read_toml(file: Path) -> dict[str, Any]:
    """The settings in a TOML file, UTF-8 with or without a byte order mark.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_bytes(file, largest=2**20).decode("utf-8-sig"))
    except (SfumatoError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the configuration {file}: {first_line(error)}") from None


def make_config(values: Mapping[str, Any], file: Path | Mapping[str, Any] | None = None) -> TrainConfig:
    """Build a config from command-line values over an optional TOML file, or what `read_toml` has read from one.

    Options of earlier versions are accepted, with a note on standard error.

    Raises:
        UsageError: unknown keys, wrong types or ranges, or options that contradict each other.
    """
    base = read_toml(file) if isinstance(file, Path) else file or {}
    (base, of_file), (given, of_values) = renamed(base), renamed(values)
    if remarks := of_file + of_values:
        note(f"old option names are accepted in this release: {', '.join(remarks)}")
    try:
        return TrainConfig(**{**base, **given})
    except ValidationError as error:
        raise UsageError(complaint(error, "options").replace(": Value error, ", ": ", 1)) from None


def to_toml(config: TrainConfig, more: Mapping[str, object], comments: Mapping[str, str]) -> str:
    """A configuration as commented TOML that reads back to it; what is None stands there as a comment.

    Args:
        config: all of whose settings are written.
        more: further keys at the top, and their values.
        comments: of these keys.
    """
    lines = []
    for name, value in more.items():
        lines += [*_comment(comments[name]), f"{name} = {_toml(value)}", ""]
    tables = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, _Table):
            tables.append((name, value))
        elif name not in more:
            lines += _setting(name, value, field.description)
    for name, table in tables:
        lines += [*_comment(type(table).__doc__), f"[{name}]"]
        for key, field in type(table).model_fields.items():
            lines += _setting(key, getattr(table, key), field.description)
    return "\n".join(lines)


def _setting(name: str, value: Any, description: str | None) -> list[str]:
    line = f"# {name} =" if value is None else f"{name} = {_toml(value)}"
    return [*_comment(description), line, ""]


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join((text or "").split()), 98)]


def _toml(value: Any) -> str:
    """A text, number, truth value or list of them; TOML's strings, numbers and lists are those of JSON."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def stored_config(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration that a run or an export holds.

    Up to 0.2 all classes were compared pair by pair, strided convolutions were padded on every side, the phone's network looked
    at a photo's own values, adversaries were updated at every step, and no key said so.
    """
    literal = values.get("objective") in ("literal", "seed")
    decision = "none" if literal else "pairwise"
    before = {"decision": decision, "padding": "symmetric", "phone_input": "photo", **values}
    table = values.get("adversaries", {} if "adversary_steps" in values else None)
    if isinstance(table, Mapping):
        before["adversaries"] = {"every": 1, "restart_every": 2, **table}
    if before.get("mode") != "answer":
        return make_config(before)
    if before.get("equal_odds") is not None:
        del before["phone_input"]  # it never did anything in answer mode, where it is refused now
        return make_config(before)
    # `auto` may have been given options of picture mode, and have chosen answer mode.
    return make_config({**before, "mode": "picture"}).model_copy(update={"mode": "answer"})


def read_config(path: Path, cloud: str | None = None) -> TrainConfig:
    """The configuration that a run or an export holds.

    Args:
        path: of its JSON file.
        cloud: the `module:factory` of the cloud network that its user names, several with commas. What an artifact names is
            never imported for that: it is compared with this.

    Raises:
        SfumatoError: the file is missing or damaged, or names a factory that the user did not name.
        UsageError: unknown keys, wrong types or ranges.
    """
    config = stored_config(read_object(path))
    recorded = config.factory
    if recorded is None and cloud and config.local not in names(cloud):
        note(f"{path.parent} holds no cloud network of your own: --cloud {cloud} is not used")
    require_named("cloud network", recorded, cloud, path.parent)
    return config


def require_named(what: str, recorded: str | None, given: str | None, folder: Path) -> None:
    """Refuse code that an artifact names and its user does not.

    Args:
        what: it makes, for the message.
        recorded: `module:factory` in the artifact; None if it names none.
        given: what the user names, several with commas.
        folder: of the artifact.

    Raises:
        SfumatoError: one line with what to type.
    """
    if recorded is not None and recorded not in names(given or ""):
        raise SfumatoError(
            f"{folder} was made with the {what} {recorded!r}, and loading it calls that code: if it is yours, "
            f"say so with --cloud {shlex.quote(recorded)}" + (f" (given: {given})" if given else "")
        )


def differences(before: TrainConfig, now: TrainConfig) -> list[str]:
    """The options that differ, each with both values.

    >>> one = TrainConfig(data="synthetic", keep="skin", bits=8)
    >>> differences(one, one.model_copy(update={"bits": 9, "schedule": Schedule(climb=0.3)}))
    ['bits 8.0 (now 9)', 'schedule.climb 0.2 (now 0.3)']
    """
    found = []
    for name in TrainConfig.model_fields:
        old, new = getattr(before, name), getattr(now, name)
        if isinstance(old, _Table):
            pairs = [
                (f"{name}.{key}", getattr(old, key), getattr(new, key)) for key in type(old).model_fields
            ]
        else:
            pairs = [(name, old, new)]
        found += [f"{key} {first!r} (now {second!r})" for key, first, second in pairs if first != second]
    return found
