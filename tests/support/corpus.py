"""A folder of good files and as many bad ones: fuzzed, broken, bombs, damaged videos, and files that crash decoders.

The same seed gives the same files.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.support import assets, clips, crashers

KINDS_OF_CRASHER = len(crashers.DEADLY) + 1


def write(folder: Path, *, seed: int, fuzzed: int, crash_rounds: int = 1) -> tuple[Path, Path]:
    """Write all files and two manifests.

    Args:
        folder: new or empty.
        seed: of the damage.
        fuzzed: number of fuzzed files, in addition to those broken by hand.
        crash_rounds: number of files of each kind that crashes decoders.

    Returns:
        The manifest of the good files, and the one of good and bad files alternating.
    """
    bad = [*_bad_images(folder / "bad", seed=seed, fuzzed=fuzzed)]
    for name, data in [*_bad_videos(seed), *_crashers(crash_rounds)]:
        bad.append(_write(folder / "bad" / name, data))
    good = [*itertools.islice(_good(folder / "good"), len(bad))]
    _write_manifest(folder / "good.csv", folder, good)
    _write_manifest(folder / "mixed.csv", folder, [path for pair in zip(good, bad, strict=True) for path in pair])
    return folder / "good.csv", folder / "mixed.csv"


def _good(folder: Path) -> Iterator[Path]:
    """Write the good images repeatedly, and a video as every 40th file."""
    images = [data for data in assets.good_images().values() if len(data) < 100_000]
    video = clips.clip(frames=20)
    for number in itertools.count():
        last = number % 40 == 39
        yield _write(
            folder / f"{number:05d}.{'mp4' if last else 'img'}", video if last else images[number % len(images)]
        )


def _bad_images(folder: Path, *, seed: int, fuzzed: int) -> list[Path]:
    return assets.write_broken(folder / "broken") + assets.write_damaged(folder / "fuzzed", seed=seed, count=fuzzed)


def _bad_videos(seed: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(seed)
    plain = clips.clip(frames=30)
    matroska = clips.clip(container="matroska", frames=30)
    yield "videos/endless.mkv", clips.with_duration(matroska, 1e12)
    yield "videos/sound only.mp4", clips.audio_only()
    yield "videos/playlist.mp4", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n"
    yield "videos/script.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n"
    for number in range(4):
        yield f"videos/cut {number}.mp4", plain[: int(rng.integers(len(plain)))]
        yield f"videos/cut {number}.mkv", matroska[: int(rng.integers(len(matroska)))]
        yield f"videos/hole {number}.mp4", clips.overwritten(plain, int(rng.integers(30)))
        flipped = bytearray(plain)
        for at in rng.integers(len(plain), size=8):
            flipped[at] ^= 1 << int(rng.integers(8))
        yield f"videos/flipped {number}.mp4", bytes(flipped)


def _crashers(rounds: int) -> Iterator[tuple[str, bytes]]:
    for number in range(rounds):
        for deed in crashers.DEADLY:
            yield f"crashers/{deed} {number}.png", crashers.picture(deed)
        yield f"crashers/video {number}.mkv", crashers.video("abort", frames=20, at_frame=12)


def _write_manifest(path: Path, folder: Path, files: list[Path]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "uri"])
        rows.writerows([file.relative_to(folder).as_posix(), str(file)] for file in files)


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
