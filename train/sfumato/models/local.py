"""The local network: a small, fully convolutional, U-shaped net that runs on the phone.

It sees the image at four resolutions, decides at the coarsest one what it shows (`sfumato.models.argmax_head`), and returns,
per pixel, the parameters of the noisy channel, made from that decision and from the resolutions between. Only operators that
NNAPI takes (API 30: half-pixel bilinear resizing) and that XNNPACK keeps in one partition: convolution, depthwise
convolution, PAD, ADD, MUL, RELU, LOGISTIC, RESIZE_BILINEAR, SPACE_TO_DEPTH, DEPTH_TO_SPACE; for many classes MAX_POOL_2D,
RESHAPE and SUB as well. No split and no normalisation
survive the export: batch norm folds into the convolution before it.

The heads look at a quarter of the resolution, if asked for at half of it, and give one value for each pixel of a place
(sub-pixel convolution, Shi et al., CVPR 2016). Kernels pay by the place, whatever it holds (docs/decisions/0016).

    local = LocalNetwork(create("dither", levels=2), classes=(2,), size=(64, 64))
    parameters = local(x)          # x: (B, 3, H, W), or (B, 1, H, W) for grey, 0..1; H and W multiples of 16
                                   # each (B, planes, H / channel.subsample, W / channel.subsample)
"""

from collections.abc import Sequence
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sfumato.channels import Channel, Parameters
from sfumato.channels.dither import BLOCK, Dither, below
from sfumato.core.errors import UsageError
from sfumato.core.local_constants import BLOCKS, GAIN, MIDDLE_BYTE
from sfumato.models.argmax_head import STEEP, Form, constant, make_decision
from sfumato.models.layers import (
    Padding,
    Separable,
    convolution,
    enlarge,
    enlarge_to,
    mean_of_squares,
    pack,
    reorder,
    unpack,
)
from sfumato.models.shortlist import Shortlist

fx.wrap("enlarge_to")  # one node when traced: it looks at shapes

GATE_WIDTH = 16
"""Planes of the layer before the gates."""
GATE_START = 3.0
"""Log odds of every block before training: one in twenty is closed."""
FAR = 16.0
"""Log odds that a block outside the open region loses."""
EDGE = 64.0
"""How fast it loses them, per logit that its surroundings lie behind the likeliest block: all of them at a quarter."""
STEPS = (2, 4)
"""Factors by which gates are enlarged; their product is the side of a block."""
STRIDE = 16
"""Height and width must be multiples of this."""


class Encoder(nn.Module):
    """Looks at the image at four resolutions.

    Args:
        widths: feature planes at 1/2, 1/4, 1/8 and 1/16 of the resolution.
        depths: residual blocks at 1/4, 1/8 and 1/16, after the block that halves the resolution.
        inputs: planes of what it looks at.
        padding: of the layers that halve the resolution. The phone's networks have `same`.
        centred: look at `GAIN * (x - MIDDLE_BYTE)`, which an int8 file can take as its input, instead of x.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int],
        depths: tuple[int, int, int],
        inputs: int = 3,
        padding: Padding = "symmetric",
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.centred = widths[-1], centred
        self.stem = convolution(inputs, widths[0], stride=2, padding=padding)
        self.down = nn.ModuleList(
            nn.Sequential(
                Separable(inputs, outputs, stride=2, padding=padding),
                *[Separable(outputs, outputs) for _ in range(depth)],
            )
            for inputs, outputs, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) -> features at the four resolutions, finest first."""
        if self.centred:
            x = GAIN * (x - MIDDLE_BYTE)
        levels = [F.relu(self.stem(x))]
        for block in self.down:
            levels.append(block(levels[-1]))
        return levels


class Gates(nn.Module):
    """Which blocks of the upload are open, seen from features at 1/8 of the resolution, where a block is one place.

    With a region or a window, blocks are open in one place alone. What else looks worth sending has to beat the best of the
    picture, not a threshold. Training leaves a region aside: gates that are shut elsewhere anyway never learn what is not worth
    sending. A window is the square whose blocks have the highest mean; it is open as a whole, in training too.

    Args:
        width: planes of these features.
        planes: of the channel's parameters, which all need the gates.
        region: side, in blocks, of the square around the likeliest block that may be open; odd. 0: anywhere.
        window: side, in blocks, of the square that is open. 0: blocks are open one by one.
    """

    def __init__(self, width: int, planes: int, region: int = 0, window: int = 0) -> None:
        super().__init__()
        self.region, self.window = region, window
        self.look: nn.Module = Separable(width, GATE_WIDTH)
        self.odds = nn.Conv2d(GATE_WIDTH, 1, 1)
        nn.init.constant_(self.odds.bias, 0.0 if window else GATE_START)  # type: ignore[arg-type]
        one = torch.ones(1, 1)
        if region:
            self.scale, self.offset = (
                constant(EDGE * one, torch.tensor([FAR])),
                constant(one, torch.tensor([-FAR])),
            )
        if window:
            self.scale = constant(EDGE * one, torch.ones(1))
            # Every block counts the open windows that reach it. Kernels pad a convolution and not a maximum.
            all_around = torch.full((1, 1, window, window), 2 * FAR)
            self.cover = constant(all_around, torch.tensor([-FAR]), padding=window - 1)
        # Every place four times, then each of those sixteen times: kernels of DEPTH_TO_SPACE are made for such steps.
        first, last = STEPS
        self.copies = nn.ModuleList(
            constant(torch.ones(count, 1), torch.zeros(count)) for count in (first**2, last**2 * planes)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width, ...) -> log odds that a block is open, (B, 1, h, w)."""
        z = self.worth(features)
        if self.window:
            return self.best_window(z)
        return z if self.training or not self.region else self.bounded(z)[0]

    def worth(self, features: Tensor) -> Tensor:
        """Features (B, width, ...) -> what each block is worth sending, in logits, (B, 1, h, w)."""
        z: Tensor = self.odds(self.look(features))
        return z

    def scores(self, z: Tensor) -> Tensor:
        """What each window is worth, row by row from the top left: the mean of its blocks, (B, 1, h - window + 1, ...)."""
        return F.avg_pool2d(z, self.window, 1)

    def best_window(self, z: Tensor) -> Tensor:
        """`FAR` or more in the window that is worth most, `-FAR` outside. Two that are almost alike are both open."""
        scores = self.scores(z)
        behind = scores - F.adaptive_max_pool2d(scores, 1)
        # Scaled and cut off: 1 for the best window, 0 for most.
        opened: Tensor = self.cover(F.relu(self.scale(behind)))
        return opened

    def bounded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds (B, 1, h, w) with those outside the region lowered by `FAR`, and how far their surroundings lie behind.

        Surroundings that are almost as likely as the likeliest block lose less: two that are alike may both be open.
        """
        behind = z - F.adaptive_max_pool2d(z, 1)
        near = F.max_pool2d(behind, self.region, 1, self.region // 2)  # 0 within the region, below 0 outside
        return self.offset(z) + F.relu(self.scale(near)), -near

    def margin(self, z: Tensor) -> Tensor:
        """How clearly each block is open or closed, in logits, (B, 1, h, w): a smaller change of `z` turns none over."""
        if self.window:
            return self.window_margin(z)
        if not self.region:
            return z.abs()
        _, behind = self.bounded(z)
        # A likely block is open where its surroundings lie behind by less than this: within the region by nothing, but another
        # place may overtake them.
        enough = z / EDGE
        lead = z.amax((2, 3), keepdim=True) - z.masked_fill(behind == 0, -torch.inf).amax(
            (2, 3), keepdim=True
        )
        within, outside = torch.minimum(z, lead + enough), (behind - enough).abs()
        return torch.where(z < 0, -z, torch.where(behind == 0, within, outside))

    def window_margin(self, z: Tensor) -> Tensor:
        """`margin` of a window: how far the best one that covers a block is ahead of the best that does not, or behind."""
        scores, side = self.scores(z), self.window
        covering = F.max_pool2d(F.pad(scores, (side - 1,) * 4, value=-torch.inf), side, 1)
        rows, columns = scores.amax(3, keepdim=True), scores.amax(2, keepdim=True).mT
        elsewhere = torch.maximum(_highest_elsewhere(rows, side), _highest_elsewhere(columns, side).mT)
        enough = 0.5 / EDGE  # what lies behind by less is open as well
        return torch.where(
            covering + enough >= elsewhere, covering - elsewhere + enough, elsewhere - covering - enough
        )

    def shut(self, z: Tensor) -> Tensor:
        """What the phone computes of log odds: 1 at the pixels of closed blocks, else 0, (B, planes, H, W)."""
        closed = torch.sigmoid(-STEEP * z)
        for copy, step in zip(self.copies, STEPS, strict=True):
            closed = F.pixel_shuffle(copy(closed), step)
        return closed


def _highest_elsewhere(scores: Tensor, window: int) -> Tensor:
    """The highest score (B, 1, n, 1) of the windows that do not reach a row, for each of n + window - 1 rows."""
    above, below = scores.cummax(2).values, scores.flip(2).cummax(2).values.flip(2)
    before = F.pad(above[:, :, :-1], (0, 0, window, 0), value=-torch.inf)
    after = F.pad(below[:, :, 1:], (0, 0, 0, window), value=-torch.inf)
    return torch.maximum(before, after)


class LocalNetwork(nn.Module):
    """Image in, channel parameters out.

    Args:
        channel: says which maps are needed and how they become parameters.
        classes: how many classes every kept attribute has; without any there is no decision, and the coarsest features
            are used as they are.
        size: height and width of the training images. Larger ones are decided upon place by place.
        block: height and width, in pixels, of the block under each place of the heads, one of `BLOCKS`. 2 also looks at the
            stem's features, where edges are.
        widths, depths: as in `Encoder`.
        form: of the decision; None takes what suits the number of classes.
        region, window: of `Gates`.
        shortlist: how many classes every kept attribute has, where the last rows of the upload name the likely ones; then there
            is no decision.
        padding: as in `Encoder`; TensorFlow Lite has no other way to pad than `same` that costs nothing.
        centred: as in `Encoder`, for the channel too. Of a Gray code and of gaussian noise nothing would be saved, so there it
            changes nothing.
    """

    def __init__(
        self,
        channel: Channel,
        classes: Sequence[int] = (),
        size: tuple[int, int] = (64, 64),
        block: int = BLOCKS[0],
        widths: tuple[int, int, int, int] = (16, 32, 48, 64),
        depths: tuple[int, int, int] = (0, 2, 1),
        form: Form | None = None,
        region: int = 0,
        window: int = 0,
        shortlist: Sequence[int] = (),
        padding: Padding = "same",
        centred: bool = True,
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        centred = centred and isinstance(channel, Dither) and not channel.gray
        side = channel.subsample
        if block % side:
            raise UsageError(
                f"a block of {block} pixels a side holds no sample of {side}: give block = {BLOCKS[0]}"
            )
        self.channel, self.held = channel, False
        self.block = block // side
        """Height and width of a block in samples of the upload."""
        self.encoder = Encoder(widths, depths, channel.colours, padding=padding, centred=centred)
        self.middle = MIDDLE_BYTE if centred else 0.5
        grid = (size[0] // STRIDE, size[1] // STRIDE)
        self.decision = make_decision(d, grid, classes, form, padding) if classes else None
        self.shortlist = None
        if shortlist:
            self.shortlist = Shortlist(
                d, grid, shortlist, padding, planes=channel.outputs["p"], columns=size[1] // side
            )
        self.spread = nn.Conv2d(sum(classes) or d, c, 1)
        steps = [(c, b), (b, a)][: BLOCKS.index(block) + 1]
        self.up = nn.ModuleList(
            nn.Sequential(*convolution(inputs, outputs, size=1), nn.ReLU()) for inputs, outputs in steps
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Conv2d(steps[-1][1], self.block**2 * planes, 1)
                for name, planes in channel.maps.items()
            }
        )
        gated = isinstance(channel, Dither) and channel.gates
        self.gates = Gates(c, channel.outputs["p"], region, window) if gated else None
        for name, head in self.heads.items():
            # At first the gate is nearly open and the noise small, so the cloud sees the picture. A network that starts
            # out noisy does not learn.
            nn.init.constant_(head.bias, channel.starts[name])  # type: ignore[arg-type]
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Parameters:
        """(B, colours, H, W) in 0..1 -> channel parameters, each (B, planes, H, W), or smaller by the channel's `subsample`."""
        return self.decode(x, *self.encode(x))

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The encoder's finer features, and its decision or else the coarsest features."""
        *fine, coarse = self.encoder(x)
        return fine, coarse if self.decision is None else self.decision(coarse)[1]

    def decode(
        self, x: Tensor, fine: Sequence[Tensor], bottleneck: Tensor, scores: Tensor | None = None
    ) -> Parameters:
        """Image, the encoder's finer features and the decision (or the coarsest features) -> channel parameters.

        Args:
            x, fine, bottleneck: of the same images.
            scores: logits of the shortlist, (B, K, 1, 1), where they are known already.
        """
        listed = {}
        if self.shortlist is not None:
            scores = self.shortlist.logits(bottleneck) if scores is None else scores
            listed = {"listed": self.shortlist.rows(scores)}
        y = self.at_eighth(fine, bottleneck)
        odds = None if self.gates is None else self.gates(y)
        for lift, skip in zip(self.up, reversed(fine[:-1]), strict=False):
            y = enlarge(lift(y)) + skip
        seen = mean_of_squares(x, self.channel.subsample)
        if self.training:
            colours = self.channel.colours
            # The channel works value by value, so the pixels of a place can stay packed until it is done.
            packed = {name: self._packed(head, y) for name, head in self.heads.items()}
            parameters = self.channel.parameters(pack(seen, self.block, colours), packed, self.middle)
            parameters = {name: unpack(value, self.block, colours) for name, value in parameters.items()}
            if listed:
                parameters = {"p": below(parameters["p"], listed["listed"].sigmoid())}
            return parameters if odds is None else cast(Dither, self.channel).close(parameters, odds)
        maps = {
            name: F.pixel_shuffle(head(y), self.block) if self.block > 1 else head(y)
            for name, head in self.heads.items()
        }
        if self.gates is not None and odds is not None:
            maps["shut"] = self.gates.shut(odds)
        return self.channel.parameters(seen, maps | listed, self.middle)

    def gate_odds(self, x: Tensor) -> Tensor:
        """Log odds that each block of an image (B, 3, H, W) is open, (B, 1, H / 8, W / 8); of a network with gates."""
        assert self.gates is not None
        odds: Tensor = self.gates(self.at_eighth(*self.encode(x)))
        return odds

    def gate_margin(self, x: Tensor) -> Tensor:
        """How clearly each block of an image (B, 3, H, W) is open or closed, in logits, (B, 1, H / 8, W / 8)."""
        assert self.gates is not None
        return self.gates.margin(self._worth(x))

    def window_scores(self, x: Tensor) -> Tensor:
        """Log odds that each window of an image (B, 3, H, W) shows the answer, (B, 1, rows, columns); of one with a window."""
        assert self.gates is not None
        return self.gates.scores(self._worth(x))

    def _worth(self, x: Tensor) -> Tensor:
        assert self.gates is not None
        return self.gates.worth(self.at_eighth(*self.encode(x)))

    def hold(self) -> None:
        """Leave whatever decides where the window lies as it is from now on; the decoder goes on learning."""
        self.held = True
        for part in self.seeing():
            part.requires_grad_(False)
        self.train(self.training)

    def seeing(self) -> list[nn.Module]:
        """The parts that gates depend on, and the gates."""
        return [part for part in (self.encoder, self.decision, self.spread, self.gates) if part is not None]

    def train(self, mode: bool = True) -> Self:
        """Training mode; parts that are held stay in evaluation mode, so that no statistic of theirs moves."""
        super().train(mode)
        if self.held:
            for part in self.seeing():
                part.eval()
        return self

    def at_eighth(self, fine: Sequence[Tensor], bottleneck: Tensor) -> Tensor:
        """What decoder and gates start from, at 1/8 of the resolution. Arguments as in `decode`."""
        return enlarge_to(self.spread(bottleneck), fine[-1]) + fine[-1]

    def _packed(self, head: nn.Module, y: Tensor) -> Tensor:
        """A map before `unpack` instead of before `F.pixel_shuffle`."""
        weight, bias = (
            reorder(cast(Tensor, values), self.block, self.channel.colours)
            for values in (head.weight, head.bias)
        )
        return F.conv2d(y, weight, bias)


def check_size(height: int, width: int, subsample: int = 1) -> None:
    """Refuse an image size the local network cannot halve four times, or of which too few samples would be left.

    Args:
        height, width: of the images.
        subsample: of the channel.

    Raises:
        UsageError: height or width is not a multiple of 16, or of 16 samples.
    """
    if height % STRIDE or width % STRIDE or height < STRIDE or width < STRIDE:
        near = "x".join(str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in (height, width))
        raise UsageError(
            f"height and width must be multiples of {STRIDE}, not {height}x{width}: the nearest is size={near} in the data spec"
        )
    if min(height, width) < subsample * STRIDE:
        raise UsageError(
            f"an upload has at least {STRIDE} samples a side, of {height}x{width} and subsample = {subsample} it would have "
            f"{min(height, width) // subsample}: take larger pictures, or a smaller subsample"
        )


def check_window(side: int, height: int, width: int) -> None:
    """Refuse a window that is larger than the picture.

    Raises:
        UsageError: its side, in blocks.
    """
    most = min(height, width) // BLOCK
    if side > most:
        raise UsageError(
            f"gating.window is {side} blocks of {BLOCK} pixels, and {height}x{width} has room for {most}"
        )


def check_names(names: Sequence[str]) -> None:
    """Refuse attribute names that no network can call a head by: `type` for example is a method of every torch module.

    Raises:
        UsageError: the first such name.
    """
    for name in names:
        if "." in name or hasattr(nn.ModuleDict(), name):
            raise UsageError(
                f"no network can call a head {name!r}: rename this column of the labels, e.g. {name.replace('.', '_')}_"
            )
