"""Numbers of the local network that its conversion to TensorFlow Lite needs too, where PyTorch is not loaded.

The int8 model of a centred input takes `GAIN * (x - MIDDLE_BYTE)` of pixels x in 0..1, and its bytes are x = (byte + 128) / 255
(docs/decisions/0038-centred-input.md).
"""

GAIN = 8.0
"""Slope of the logit over the pixel value: large enough that a binary draw starts out as a recognisable picture."""
MIDDLE_BYTE = 128 / 255
"""The pixel whose byte is 0 once it is signed. As the middle of the range it costs an int8 network nothing to take away."""
BLOCKS = (4, 2)
"""Possible heights and widths of the block of pixels under each place of the heads; the first is the usual one."""
