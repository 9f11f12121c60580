"""Rates that several packages must agree on, in bits an image."""

PICTURE_BITS = 100.0
"""From about here on an upload tells more than answers: parts of the picture itself."""
