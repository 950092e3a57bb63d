"""The command `fsf`: every job as a subcommand, one way of reading options, one meaning of exit codes.

    fsf export   checkpoint to bundle, with its parity report
    fsf inspect-model  what a model's file or folder contains, and a document to fill in
    fsf score    bundle and manifest to run
    fsf render   videos of a run with their masks
    fsf inspect  count tables, and the image of one item
    fsf report   one HTML page of a run
    fsf diff     what drifted since another run, and why
    fsf trend    the same over many nights
    fsf select   what to look at or label next, with the reason of each
    fsf publish  a finished run in another shape: Delta, COCO, Hugging Face, PNG masks, pre-labels
    fsf evaluate masks against labels, with intervals
    fsf verify   every file of a run against its receipt
    fsf runs     the nights of a series
    fsf prune    old runs of a series removed; fsf pin keeps one
    fsf doctor   whether a score job could run here, or on a cluster
    fsf submit   any of them on a Ray cluster
    fsf bench    the job beside the bare ONNX Runtime session
    fsf demo     all of it on drawn oranges

Options come from flags, then from FSF_<COMMAND>_<OPTION> in the environment, then from --config FILE.yaml.
Exit codes: 0 done · 1 unexpected: a bug · 2 the command or its input is wrong, nothing ran · 3 finished, but too many
items failed, or a video could not be rendered · 75 a store, a disk, a GPU or the cluster failed in the middle: the
same command resumes · 129/130/131/143 interrupted by a signal, resumable.
The reason is the last line on stderr; with --log-format json, it and every log line are JSON objects. What cannot be
printed is dropped, and does not change the exit code.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter

from fsf_core import __version__, logs
from fsf_core.cli.output import show_error
from fsf_core.cli.sources import configure, log_format
from fsf_core.config import (
    BenchConfig,
    DiffConfig,
    DoctorConfig,
    EvaluateConfig,
    ExportConfig,
    InspectConfig,
    InspectModelConfig,
    PublishConfig,
    RenderConfig,
    ReportConfig,
    ScoreConfig,
    SelectConfig,
    SubmitConfig,
    TrendConfig,
)
from fsf_core.errors import ConfigError, FSFError, RunError
from fsf_core.logs import LogSettings
from fsf_core.process import end_process, interruptible, open_standard_streams

MAX_QUOTED = 500
"""Characters of a message that quotes an option's value."""

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_GATE = 1, 2, 3

app = App(
    name="fsf",
    version=__version__,
    help="Offline batch semantic segmentation.",
    help_epilogue="Options may also come from FSF_<COMMAND>_<OPTION> in the environment, then from --config FILE.yaml. "
    "Every command takes --log-format json (or FSF_LOG_FORMAT=json): log lines and errors as JSON objects.",
    help_format="plaintext",  # rich markdown costs a fifth of --help
    result_action="return_value",
)


@app.command
def export(config: ExportConfig) -> int:
    """Export a checkpoint or an ONNX file to a bundle, and check that it equals the original."""
    from fsf_core.cli.export import run

    return run(config)


@app.command
def score(config: ScoreConfig) -> int:
    """Score images and videos; write masks and statistics per class to Parquet."""
    from fsf_core.cli.score import run

    return run(config)


@app.command
def doctor(config: DoctorConfig | None = None) -> int:
    """Check whether a score job could run, without running it; takes the options of `fsf score`."""
    from fsf_core.cli.doctor import run

    return run(config or DoctorConfig())


@app.command
def bench(config: BenchConfig) -> int:
    """Measure the job against the bare ONNX Runtime session, on this machine and your own images."""
    from fsf_core.cli.bench import run

    return run(config)


@app.command
def inspect(run_folder: str, item: str | None = None, /, *, config: InspectConfig | None = None) -> int:
    """Print the count table of a run or of one item, and draw an item's classes over its image.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        item: Id of an item, or the end of one (default: the whole run).
        config: What to draw.
    """
    from fsf_core.cli.inspect import run

    return run(run_folder, item, config or InspectConfig())


@app.command
def inspect_model(model: str, /, *, config: InspectModelConfig | None = None) -> int:
    """Print what a model's own files contain, what is missing, and a YAML document to fill in for `fsf export`.

    Args:
        model: An ONNX file, a checkpoint, or a file or folder as a model's library saves it.
        config: Where to write.
    """
    from fsf_core.cli.inspect_model import run

    return run(model, config or InspectModelConfig())


@app.command
def report(run_folder: str, /, *, config: ReportConfig | None = None) -> int:
    """Write one HTML page of a run: figures, pictures, failures, items. It opens from disk and loads nothing.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        config: What goes into it.
    """
    from fsf_core.cli.report import run

    return run(run_folder, config or ReportConfig())


@app.command
def diff(run_a: str, run_b: str, /, *, config: DiffConfig | None = None) -> int:
    """Compare a run with a reference: class and input drift, changed pixels, failures; and whether the model changed.

    Args:
        run_a: The reference: the --out of a score job, or RUNS/latest for the newest finished run of a series.
        run_b: The run to judge.
        config: How to compare.
    """
    from fsf_core.cli.diff import run

    return run(run_a, run_b, config or DiffConfig())


@app.command
def trend(*folders: str, config: TrendConfig | None = None) -> int:
    """Follow class ratios, confidence and inputs over the runs of many nights, with alarms against a reference.

    Args:
        folders: The folder above the runs of a series, the template of --out, or several runs in their order.
        config: How to compare.
    """
    from fsf_core.cli.trend import run

    return run(folders, config or TrendConfig())


@app.command
def render(run_folder: str, item: str | None = None, /, *, config: RenderConfig | None = None) -> int:
    """Render the videos of a finished run with their masks, as MP4 that browsers play.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        item: Id of a video, or the end of one (default: every video of the run).
        config: How to draw them.
    """
    from fsf_core.cli.render import run

    return run(run_folder, item, config or RenderConfig())


@app.command
def select(run_folder: str, /, *, config: SelectConfig | None = None) -> int:
    """Choose what to look at or label next in a run, and write it as a list, with the reason of each frame.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        config: What to choose by.
    """
    from fsf_core.cli.select import run

    return run(run_folder, config or SelectConfig())


@app.command
def publish(run_folder: str, /, *, config: PublishConfig) -> int:
    """Publish a finished run in the shape that another program reads.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        config: What to write, and where.
    """
    from fsf_core.cli.publish import run

    return run(run_folder, config)


@app.command
def evaluate(masks: str, labels: str | None = None, /, *, config: EvaluateConfig | None = None) -> int:
    """Compare masks with labels; print IoU, recall, precision, dice and boundary IoU with intervals.

    Args:
        masks: A run, a folder of mask PNGs, or a pattern such as 'masks/*.png'.
        labels: A folder of PNGs, a pattern, or a manifest with label_uri (default: those that the run was scored with).
        config: What to compare, and how.
    """
    from fsf_core.cli.evaluate import run

    return run(masks, labels, config or EvaluateConfig())


@app.command
def verify(run_folder: str, /, *, repair: bool = False) -> int:
    """Check every file of a run against its receipt, and that every item has one result or failure.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        repair: Take damaged parts out of the run, whose items the score command then scores anew.
    """
    from fsf_core.cli.verify import run

    return run(run_folder, repair=repair)


@app.command
def runs(folder: str, /, *, last: int = 30) -> int:
    """List the nights of a series: state, items, failures, seconds, and items that were reused.

    Args:
        folder: The folder above the runs, or the template of --out.
        last: Number of nights, from the newest on.
    """
    from fsf_core.cli.runs import run

    return run(folder, last=last)


@app.command
def pin(
    run_folder: str, /, *, reason: str | None = None, unpin: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Pin a run, so that `fsf prune` never removes it.

    Args:
        run_folder: The --out of a score job, or RUNS/latest for the newest finished run of a series.
        reason: Why, for people.
        unpin: Remove the pin instead.
    """
    from fsf_core.cli.pin import run

    return run(run_folder, reason=reason, unpin=unpin)


@app.command
def prune(
    folder: str,
    /,
    *,
    keep: str | None = None,
    keep_last: int | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Remove the runs of a series that are older than wanted. Delta tables keep their rows.

    Args:
        folder: The folder above the runs, or the template of --out.
        keep: Age up to which the run of a night stays, by its date: 30d, 12w or 48h.
        keep_last: Number of the newest finished runs that stay.
        dry_run: Remove nothing, and report what would be removed.
    """
    from fsf_core.cli.prune import run

    return run(folder, keep=keep, keep_last=keep_last, dry_run=dry_run)


@app.command
def submit(*command: str, config: SubmitConfig | None = None) -> int:
    """Run a command on a Ray cluster, follow its log, and exit with its exit code.

    Args:
        command: The command after --, such as `-- score --bundle s3://models/oranges …`.
        config: Where and how to run it.
    """
    from fsf_core.cli.submit import run

    return run(command, config or SubmitConfig())


@app.command
def demo(folder: str = "demo", /) -> int:
    """Draw oranges, export a model, score, measure, and write the report; needs no download and no GPU.

    Args:
        folder: Folder for the data, the model and the results.
    """
    from fsf_core.cli.demo import run

    return run(folder)


def run(tokens: Sequence[str] | None = None) -> NoReturn:
    """Run one command as the whole process, and end it with the exit code."""
    end_process(main(tokens))


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    open_standard_streams()
    words = sys.argv[1:] if tokens is None else tokens
    try:
        logs.configure(LogSettings(format=log_format(words)))
        with interruptible():
            return _run(words)
    except CycloptsError as error:
        message = " ".join(str(error).split())
        return _fail(
            f"ConfigError: {message if len(message) <= MAX_QUOTED else message[:MAX_QUOTED] + '…'}", EXIT_USAGE
        )
    except FSFError as error:
        usage = isinstance(error, RunError)
        code = EXIT_USAGE if usage else int(getattr(error, "exit_code", EXIT_UNEXPECTED))
        return _fail(f"{type(error).__name__}: {error}", code, notes=getattr(error, "__notes__", ()))
    except KeyboardInterrupt:
        return _fail("interrupted; start the same command again to resume", 130)
    except (OSError, MemoryError, RecursionError) as error:  # of this machine or the input, before work began
        return _fail(f"{type(error).__name__}: {_environment_hint(error)}", EXIT_USAGE)
    except Exception as error:  # noqa: BLE001 - the reason comes last, below the traceback
        show_error(traceback.format_exc(), lines=True)
        reason = f"unexpected {type(error).__name__}: {error}; this is a bug, report it with the lines above"
        return _fail(reason, EXIT_UNEXPECTED)


def _fail(reason: str, code: int, *, notes: Sequence[str] = ()) -> int:
    """Report why the command ends, below notes such as the place in an expression; returns its exit code."""
    for note in () if logs.is_json() else notes:
        show_error(note, lines=True)
    show_error(reason, exit_code=code)
    return code


def _run(tokens: Sequence[str]) -> int:
    """Read the options and run the command that they name.

    Raises:
        ConfigError: the options are wrong, or the current folder was removed.
    """
    try:
        os.getcwd()  # noqa: PTH109 - only whether there is one
    except OSError as error:
        raise ConfigError(f"the current folder cannot be used: {error.strerror}; change to one that exists") from error
    words = configure(app, tokens)
    return int(app(words, exit_on_error=False, print_error=False) or 0)


def _environment_hint(error: Exception) -> str:
    """Return an error of this machine or the input with what to do about it."""
    if isinstance(error, RecursionError):
        return "an option or a file is nested too deeply; simplify it"
    if isinstance(error, MemoryError):
        return "this machine has too little memory; free some, or lower --actors"
    return f"{error}; check the path, its permissions and the free space"
