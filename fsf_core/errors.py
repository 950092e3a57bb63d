"""Every way a run or an item can fail, as one tree.

A run error stops the job before the first model call (exit 2). An item error becomes a row in `failures` and
its neighbours never notice. Every message says what was found, what was expected and what to do.
"""


class FSFError(Exception):
    """Whatever this project raises on purpose."""


class RunError(FSFError):
    """The run cannot be right: stop now and say what to change."""


class ConfigError(RunError):
    """An option, or a combination of options, makes no sense."""


class ManifestError(RunError):
    """The list of items is unreadable, empty, incomplete or ambiguous."""


class CheckpointError(RunError):
    """The weights do not fit the network, or the file is not a checkpoint."""


class BundleError(RunError):
    """The bundle is incomplete, altered, or of a version this program does not read."""


class ProviderError(RunError):
    """The execution provider that was asked for is not the one that would run."""


class ParityError(RunError):
    """The exported model does not equal the original."""


class OutputError(RunError):
    """The run folder belongs to another run, is in use, or cannot be written."""


class ItemNotFoundError(RunError, LookupError):
    """The run has no such item or frame."""


class ClusterError(RunError):
    """The cluster cannot hold this job."""


class StorageError(RunError):
    """A store refuses: wrong credentials, missing bucket, unknown scheme."""


class GateError(FSFError):
    """The job ran, and what came out must not be taken for a success (exit 3)."""

    exit_code = 3


class ItemError(FSFError):
    """One item cannot be scored; it becomes a row, and the run goes on."""


class FetchError(ItemError):
    """The bytes could not be read."""


class DecodeError(ItemError):
    """The bytes are not a picture or video that can be decoded."""


class LimitError(ItemError):
    """The item exceeds a limit of size, time or memory."""


class LabelError(ItemError):
    """The ground truth does not fit its picture."""


class MaskError(ItemError):
    """The scores could not be made into a class map."""
