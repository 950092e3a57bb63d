"""Checks of what the driver reads: its versions, the bundle, the manifest, the first items."""

from collections.abc import Iterator, Sequence

from fsf_core import runs, storage
from fsf_core.doctor.checks import NotCheckedError
from fsf_core.doctor.subject import Subject
from fsf_core.errors import FSFError
from fsf_core.manifest.members import open_item
from fsf_core.publish import delta
from fsf_core.score import plan, preflight
from fsf_core.score.against import find_reference
from fsf_core.score.findings import Finding, Status
from fsf_core.score.gates import available_needs, parse_gates, require_known_names
from fsf_core.score.node_facts import node_facts
from fsf_core.score.tiling import window_overlap

READ_ITEMS = 8
"""Items of which the first bytes are read."""


def check_versions() -> Iterator[Finding]:
    """Report the versions of this process, with which those of the nodes are compared."""
    facts = node_facts({})
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items() if version)
    missing = [name for name, version in facts["libraries"].items() if not version]
    found = f"Python {facts['python']}, Ray {facts['ray']}, fsf {facts['fsf']} ({facts['fsf_code']}), {libraries}"
    if missing:
        found, do = f"{found}; without {', '.join(missing)}", "install fsf again: `pip install fsf`"
        yield Finding(check="versions", status="fail", found=found, do=do)
    else:
        yield Finding(check="versions", status="ok", found=found)


def check_bundle(subject: Subject) -> Iterator[Finding]:
    """Load the bundle as a job would."""
    bundle = subject.bundle.get()
    plan.require_precision(subject.config, bundle)
    plan.class_appearance(subject.config, bundle)
    overlap_px = window_overlap(subject.config, bundle)
    held = ", ".join(sorted(bundle.variants))
    size = sum(file.size_bytes for file in bundle.variants.values()) / 1e6
    found = f"{bundle.uri} is whole: sha256 {bundle.sha256[:12]}, {bundle.num_classes} classes, {held} ({size:.1f} MB)"
    if overlap_px is not None:
        window = f"{bundle.profile.width_px}×{bundle.profile.height_px}"
        found += f"; --tile: windows of {window} pixels that share at least {overlap_px}"
    yield Finding(check="bundle", status="ok", found=found)


def check_checkpoint(subject: Subject) -> Iterator[Finding]:
    """Read the first bytes of the checkpoint that the job would export."""
    assert subject.config.checkpoint
    uri = storage.absolute(subject.config.checkpoint)
    with storage.open_binary(uri) as file:
        file.read(1)
    yield Finding(check="checkpoint", status="ok", found=f"{uri} can be read; it is exported when the job starts")


def check_manifest(subject: Subject) -> Iterator[Finding]:
    """Open the manifest as a job would."""
    manifest = subject.manifest.get()
    left_out = f", {manifest.left_out} files left out" if manifest.left_out else ""
    yield Finding(check="manifest", status="ok", found=f"{manifest.uri}: {manifest.items} items{left_out}")


def check_items(subject: Subject) -> Iterator[Finding]:
    """Contact the stores of the items, and read the beginning of the first few, and of their labels."""
    manifest = subject.required_manifest()
    plan.require_labels_fit(subject.config, manifest)
    preflight.require_reachable_stores(manifest)
    first = preflight.first_items(manifest, READ_ITEMS)
    access = plan.item_access(subject.config)
    yield _judge_beginnings("items", first, read_beginnings(first, access))
    labels = preflight.first_labels(manifest, READ_ITEMS)
    if labels:
        yield _judge_beginnings("labels", labels, read_beginnings(labels, access, folders=True))


def _judge_beginnings(check: str, uris: Sequence[str], failures: dict[str, str]) -> Finding:
    """Judge how many of the first items, or of their labels, can be read."""
    read = f"{len(uris) - len(failures)} of the first {len(uris)} {check} can be read"
    if not failures:
        return Finding(check=check, status="ok", found=read)
    status: Status = "fail" if len(failures) == len(uris) else "warn"
    do = "the job would score none of them" if status == "fail" else "the others would be rows in failures/"
    return Finding(check=check, status=status, found=f"{read}: {next(iter(failures.values()))}", do=do)


def check_gates(subject: Subject) -> Iterator[Finding]:
    """Check that the run would have every figure that --fail-if names."""
    config = subject.config
    gates = parse_gates(config.fail_if)
    classes = config.classes if config.checkpoint else plan.class_appearance(config, subject.required_bundle()).names
    available = available_needs(config, plan.optional_tables(config, subject.required_manifest()))
    require_known_names(gates, classes, available)
    found = f"{len(gates)} gate{'s' if len(gates) > 1 else ''} can be judged: {'; '.join(gate.text for gate in gates)}"
    yield Finding(check="gates", status="ok", found=found)


def check_against(subject: Subject) -> Iterator[Finding]:
    """Open the run of --against as a job would."""
    config = subject.config
    classes = config.classes if config.checkpoint else plan.class_appearance(config, subject.required_bundle()).names
    if not subject.night:
        raise NotCheckedError("it needs --out")
    run = find_reference(subject.night, classes)
    assert run
    yield Finding(check="against", status="ok", found=f"{storage.redact(run.uri)} has finished and the same classes")


def check_delta(subject: Subject) -> Iterator[Finding]:
    """Try the Delta tables as a job would before any work; nothing is written."""
    assert subject.config.delta
    manifest, tables = subject.required_manifest(), storage.absolute(subject.config.delta)
    delta.require_tables(
        tables,
        run_uri=subject.out or tables,
        extra=manifest.extra,
        items=manifest.batches,
        tables=runs.tables_of({"tables": plan.optional_tables(subject.config, manifest)}),
    )
    found = f"the tables in {storage.redact(tables)} can take the rows of this run"
    yield Finding(check="delta", status="ok", found=found)


def read_beginnings(uris: Sequence[str], access: storage.Access, *, folders: bool = False) -> dict[str, str]:
    """Read the first byte of items; returns why one cannot be read, by its address. Also called on workers.

    Args:
        uris: the items, or their labels.
        access: which addresses may be opened.
        folders: whether a folder will do, as it does for the labels of a video.
    """
    failures = {}
    for uri in uris:
        try:
            if folders and _is_folder(uri, access):
                continue
            with open_item(uri, access) as file:
                file.read(1)
        except FSFError as error:
            failures[uri] = str(error)
    return failures


def _is_folder(uri: str, access: storage.Access) -> bool:
    """Return whether an address that may be opened is a folder; a web server has none.

    Raises:
        FetchError: it may not be opened.
        StorageError: the store refuses.
    """
    access.require(uri)
    return storage.scheme(uri) not in {"http", "https"} and storage.is_folder(uri)
