"""Errors that twenty frames chosen by `fsf select` hold, compared with twenty drawn at random.

`python -m tests.bench.bench_select` draws oranges, whose labels are exact, trains a quick network and a second one on
other images, scores in one process, and counts the wrong pixels of each choice; a line of JSON at the end.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from fsf_core.analysis.selection import Request, select, select_changed
from fsf_core.runs import RunReader, open_run
from tests.support.judged_runs import score_oranges, write_table

DRAWS = 10_000
"""Random choices that the others are compared with."""

WAYS = {
    "uncertainty": {"by": "uncertainty"},
    "uncertainty, --no-diverse": {"by": "uncertainty", "diverse": False},
    "rare": {"by": "rare"},
    "change": {"by": "change"},
    "diversity": {"by": "diversity"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--steps", type=int, default=220, help="training steps")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first image")
    parser.add_argument("--table", help="write the figures and errors of all images to this CSV file, and end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if given.table:
            seeds = range(given.first_seed, given.first_seed + given.images)
            write_table(Path(given.table), *_scored(Path(home) / "run", seeds, training_seed=0, steps=given.steps))
            return
        print(json.dumps(measure(Path(home), given.images, given.count, given.steps, given.first_seed)))


def measure(home: Path, images: int, count: int, steps: int, first_seed: int) -> dict[str, object]:
    """Print a table; return its figures."""
    seeds = range(first_seed, first_seed + images)
    run, wrong = _scored(home / "run", seeds, training_seed=0, steps=steps)
    other, _ = _scored(home / "other", seeds, training_seed=1, steps=steps)
    wrong_px = np.asarray([*wrong.values()])
    rng = np.random.default_rng(0)
    draws = np.asarray([wrong_px[rng.choice(images, count, replace=False)].sum() for _ in range(DRAWS)])
    print(f"{images} images, {count} chosen; wrong pixels of images of 512×512, {100 * wrong_px.mean() / 512**2:.2f} %")
    print(f"{'chosen by':<28}{'wrong px':>10}{'times random':>14}{'share of all':>14}{'random beaten':>15}")
    print(f"{'random (mean of draws)':<28}{draws.mean():>10,.0f}{1:>14.2f}{draws.mean() / wrong_px.sum():>14.1%}")
    figures: dict[str, float] = {}
    for way, options in WAYS.items():
        request = Request(count=count, **options)
        choice = select_changed(run, other, request) if request.by == "change" else select(run, request)
        found = sum(wrong[pick.item_id] for pick in choice.picks)
        figures[way] = round(found / draws.mean(), 2)
        beaten = (draws < found).mean()
        print(f"{way:<28}{found:>10,}{figures[way]:>14.2f}{found / wrong_px.sum():>14.1%}{beaten:>15.2%}")
    return {"images": images, "count": count, "draws": DRAWS, "times_random": figures}


def _scored(folder: Path, seeds: range, *, training_seed: int, steps: int) -> tuple[RunReader, dict[str, int]]:
    """Train a network and score with it."""
    import torch

    from tests.support import quick_net

    weights = folder.with_suffix(".pth")
    quick_net.train(weights, steps=steps, seed=training_seed)
    network = quick_net.build()
    network.load_state_dict(torch.load(weights, weights_only=True))
    torch.set_num_threads(1)
    wrong = score_oranges(str(folder), network.eval(), seeds)
    return open_run(str(folder)), wrong


if __name__ == "__main__":
    main()
