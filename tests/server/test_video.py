"""Cameras against real videos: files, and HTTP streams that break off, fall silent, or are faster than who reads them."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from tests.fixtures.rtsp import rtsp_camera
from tests.fixtures.videos import Picture, http_camera, still, video, write_video

from sfumato.core.errors import UsageError
from sfumato.server.video import (
    Camera,
    VideoConfig,
    VideoError,
    frames,
    parse_camera,
    read_cameras,
)

FAST = VideoConfig(every=0.1, first_pause=0.05, longest_pause=0.1)


def ramp(count: int) -> list[Picture]:
    """Frames that say their number by their grey: 4 levels a frame."""
    return [np.full((48, 64, 3), 20 + 4 * number, np.uint8) for number in range(count)]


def number(pixels: Picture) -> int:
    return round((float(pixels.mean()) - 20) / 4)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return video(ramp(40))


@pytest.mark.parametrize(
    ("every", "expected"),
    [(0.1, list(range(40))), (1.0, [0, 10, 20, 30]), (0.25, [0, 3, 5, 8, 10, 13]), (60.0, [0])],
)
def test_a_file_gives_the_frames_that_are_due(every: float, expected: list[int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", ramp(40), form="mp4")
    found = list(frames(parse_camera(f"a={path}"), VideoConfig(every=every), Event(), pytest.fail))
    assert [number(frame.pixels) for frame in found][: len(expected)] == expected
    assert [round(10 * frame.second) for frame in found][: len(expected)] == expected
    assert found[0].pixels.shape == (48, 64, 3)


def test_colours_are_those_of_the_video(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 40, 40), (30, 60, 210)
    path = write_video(tmp_path / "a.mp4", [picture] * 3, form="mp4")
    (frame, *_) = frames(parse_camera(f"a={path}"), FAST, Event(), pytest.fail)
    inner = np.abs(frame.pixels.astype(int) - picture)[:, [*range(24), *range(40, 64)]]
    assert inner.mean() < 4


def test_damaged_packets_are_passed_over(tmp_path: Path, clip: bytes) -> None:
    broken = bytearray(clip)
    middle = len(clip) // 2 // 188 * 188
    broken[middle : middle + 188 * 3] = bytes(188 * 3)
    (tmp_path / "a.ts").write_bytes(broken)
    found = list(frames(parse_camera(f"a={tmp_path / 'a.ts'}"), FAST, Event(), pytest.fail))
    assert 20 <= len(found) <= 40
    assert number(found[0].pixels) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read"), (b"no video at all" * 100, "cannot be read")],
)
def test_what_is_no_video_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        list(frames(parse_camera(f"hall={tmp_path / 'a.mp4'}"), FAST, Event(), pytest.fail))
    assert str(caught.value).startswith("camera hall")
    assert "\n" not in str(caught.value)


def test_frames_that_are_too_large_are_not_read(tmp_path: Path, clip: bytes) -> None:
    (tmp_path / "a.ts").write_bytes(clip)
    with pytest.raises(VideoError, match="64 x 48 pixels, more than the 3,000"):
        list(frames(parse_camera(f"a={tmp_path / 'a.ts'}"), VideoConfig(largest=3000), Event(), pytest.fail))


def test_a_camera_that_breaks_off_is_opened_again(clip: bytes) -> None:
    """The first connection ends in the middle of a packet, the second is refused a picture, the third goes on."""
    notes: list[str] = []

    def send(connection: int, write: Callable[[bytes], object]) -> None:
        write({1: clip[: len(clip) // 2 + 77], 2: b"busy"}.get(connection, clip))

    stop = Event()
    with http_camera(send) as address:
        clock, last = -1.0, -1
        for frame in frames(parse_camera(f"door={address}"), FAST, stop, notes.append):
            if frame.second < clock and number(frame.pixels) > 0:
                stop.set()
            clock, last = frame.second, max(last, number(frame.pixels))
            if any("is back" in line for line in notes):
                stop.set()
    assert any("trying again in" in line for line in notes)
    assert all("\n" not in line and "camera door" in line for line in notes)
    assert last > 0


def test_a_slow_reader_gets_new_frames_and_none_wait(clip: bytes) -> None:
    """Frames come at their own pace; whoever looks after a second gets the one that was there last."""

    def send(_: int, write: Callable[[bytes], object]) -> None:
        for start in range(0, len(clip), 188 * 7):
            write(clip[start : start + 188 * 7])
            time.sleep(1.5 * 188 * 7 / len(clip))
        time.sleep(5)

    stop, found = Event(), list[int]()
    with http_camera(send) as address:
        for frame in frames(parse_camera(f"door={address}"), FAST, stop, pytest.fail):
            found.append(number(frame.pixels))
            if found[-1] >= 30:
                stop.set()
            time.sleep(0.5)
    assert found == sorted(set(found))
    assert len(found) < 12  # of forty


@pytest.mark.parametrize("when", ["silent from the start", "silent in the middle"])
def test_a_silent_camera_neither_holds_up_the_end_nor_is_waited_for(when: str, clip: bytes) -> None:
    notes: list[str] = []
    stop, waiting = Event(), Event()

    def send(_: int, write: Callable[[bytes], object]) -> None:
        write(clip[: len(clip) // 2] if when == "silent in the middle" else b"")
        waiting.wait(20)

    config = VideoConfig(every=0.1, open_seconds=0.3, silent_seconds=0.3, first_pause=0.05, longest_pause=0.1)
    with http_camera(send) as address:
        Timer(1.5, stop.set).start()
        begun = time.monotonic()
        list(frames(parse_camera(f"door={address}"), config, stop, notes.append))
        assert time.monotonic() - begun < 4
        waiting.set()
    assert len(notes) >= 2


def test_rtsp() -> None:
    """FFmpeg's client and a server that speaks RTSP over TCP: described, set up, played; then the server is gone."""
    notes: list[str] = []
    stop, found = Event(), list[int]()
    with rtsp_camera(ramp(30)) as (address, asked):
        for frame in frames(parse_camera(f"door={address}"), FAST, stop, notes.append):
            found.append(number(frame.pixels))
            if len(notes) >= 1:
                stop.set()
    assert asked[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert asked.count("PLAY") >= 2  # played again after its end
    assert max(found) >= 20


def test_a_password_is_in_no_message() -> None:
    notes: list[str] = []
    stop = Event()
    camera = parse_camera("door=rtsp://ada:geheim@127.0.0.1:9/stream")
    Timer(0.4, stop.set).start()
    list(frames(camera, FAST, stop, notes.append))
    assert notes
    assert "geheim" not in repr(camera) + "".join(notes)
    assert "Connection refused" in notes[0]
    with pytest.raises(UsageError) as caught:
        parse_camera("door=ftp://ada:geheim@127.0.0.1/stream")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["door", "=a.mp4", "Door=a.mp4", "a b=a.mp4", "door=", "door=missing.mp4", "door=.", "x=concat:a|b"],
)
def test_wrong_cameras_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_camera(text)
    assert "\n" not in str(caught.value)


def test_what_a_source_is(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", still(np.zeros((16, 16, 3), np.uint8), 2, 0), form="mp4")
    assert parse_camera(f"a={tmp_path / 'a.mp4'}").kind == "file"
    assert parse_camera("a=RTSP://10.0.0.7/x").kind == "network"
    assert parse_camera("a=/dev/null") == Camera("a", "device", "/dev/null")
    (tmp_path / "list").write_text("# the house\n\ndoor=rtsp://10.0.0.7/x?a=b\n  yard=/dev/null\n")
    assert list(islice(read_cameras(tmp_path / "list"), 9)) == [
        "door=rtsp://10.0.0.7/x?a=b",
        "yard=/dev/null",
    ]


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_a_number_of_seconds(every: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        VideoConfig(every=every)
