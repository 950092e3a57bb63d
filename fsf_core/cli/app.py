"""The command `fsf`: every job as a subcommand, one way of reading options, one meaning of exit codes.

    fsf export   checkpoint -> bundle, proved            jobs/export.py
    fsf score    bundle + manifest -> run                jobs/score.py
    fsf inspect  the count table and the picture of one item
    fsf render   videos of a run with their masks drawn in  jobs/render.py
    fsf verify   every file of a run against its receipt
    fsf demo     all of it on drawn oranges

Options come from flags, then from FSF_<COMMAND>_<OPTION> in the environment, then from --config FILE.yaml.
Exit codes: 0 done · 1 unexpected · 2 the command or its input is wrong, nothing ran · 3 finished, a gate failed ·
130/143 interrupted, resumable.
"""

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError

from fsf_core import __version__
from fsf_core.config import BenchConfig, ExportConfig, InspectConfig, RenderConfig, ScoreConfig
from fsf_core.errors import FSFError, RunError

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_GATE = 1, 2, 3

app = App(
    name="fsf",
    version=__version__,
    help="Offline batch semantic segmentation. Options may also come from --config FILE.yaml and from FSF_* variables.",
    result_action="return_value",
)


@app.command
def export(config: ExportConfig) -> int:
    """Build the ONNX model from a checkpoint and prove that it equals the original, or refuse."""
    from fsf_core.cli.export import run

    return run(config)


@app.command
def score(config: ScoreConfig) -> int:
    """Score images and videos; write masks and per-class statistics to Parquet."""
    from fsf_core.cli.score import run

    return run(config)


@app.command
def bench(config: BenchConfig) -> int:
    """Compare the job with the bare model, on this machine and on pictures of your own."""
    from fsf_core.cli.bench import run

    return run(config)


@app.command
def inspect(run_folder: str, item: str | None = None, /, *, config: InspectConfig | None = None) -> int:
    """Print the count table of an item, or of the whole run, and draw its picture.

    Args:
        run_folder: The --out of a score job.
        item: Id of an item, or the end of one. Without it: the whole run.
        config: What to draw.
    """
    from fsf_core.cli.inspect import run

    return run(run_folder, item, config or InspectConfig())


@app.command
def render(run_folder: str, item: str | None = None, /, *, config: RenderConfig | None = None) -> int:
    """Draw the masks of a finished run into its videos, as MP4 that browsers play.

    Args:
        run_folder: The --out of a score job.
        item: Id of a video, or the end of one. Without it: all videos of the run.
        config: How they are drawn.
    """
    from fsf_core.cli.render import run

    return run(run_folder, item, config or RenderConfig())


@app.command
def verify(run_folder: str, /) -> int:
    """Check every file of a run against its receipt, and the books against the manifest.

    Args:
        run_folder: The --out of a score job.
    """
    from fsf_core.cli.verify import run

    return run(run_folder)


@app.command
def demo(folder: str = "demo", /, *, steps: int = 220) -> int:
    """Draw oranges, train a small model, export, score, and show what came out.

    Args:
        folder: Where everything goes.
        steps: How long the demo model is trained.
    """
    from fsf_core.cli.demo import run

    return run(folder, steps=steps)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from fsf_core.cli.sources import configure

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s level=%(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("fsf").setLevel(logging.INFO)
    try:
        words = configure(app, sys.argv[1:] if tokens is None else tokens)
        return int(app(words, exit_on_error=False, print_error=True) or 0)
    except CycloptsError:
        return EXIT_USAGE
    except FSFError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        usage = isinstance(error, RunError)
        return EXIT_USAGE if usage else int(getattr(error, "exit_code", EXIT_UNEXPECTED))
    except KeyboardInterrupt:
        print("interrupted; start the same command again to resume", file=sys.stderr)
        return 130


def print_json(document: dict[str, Any]) -> None:
    """Print the result as the last line on stdout, for programs."""
    print(json.dumps(document, ensure_ascii=False))
