"""Gates: reasons why a finished run must not be taken for a success. Pure functions over a summary."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fsf_core.config import ScoreConfig
from fsf_core.expressions import figures
from fsf_core.expressions.figures import Expression, NameParts, Value, written
from fsf_core.score import gate_names
from fsf_core.score.gate_names import NEEDS

OPTION = "--fail-if"


def parse_gates(texts: Iterable[str]) -> list[Expression]:
    """Return the gates of --fail-if.

    Raises:
        ConfigError: the syntax of one is wrong, or a name is unknown whatever the classes.
    """
    return [figures.parse(text).with_limits(gate_names.has_limit) for text in texts]


def require_known_names(gates: Iterable[Expression], classes: Sequence[str], available: Collection[str]) -> None:
    """Check that the run will have every figure that a gate names.

    Args:
        gates: of the job.
        classes: names of the classes.
        available: keys of `gate_names.NEEDS` that the job has.

    Raises:
        ConfigError: a name is unknown, or needs what the job has not.
    """
    for gate in gates:
        for name in gate.names():
            found = gate_names.find(name.parts, classes)
            if found is None:
                alike = gate_names.similar(name.parts, classes)
                meant = f"expected {', '.join(alike)} or another of these: " if alike else "expected one of these: "
                raise gate.error(
                    f"has the unknown name {written(name.parts)} at character {name.at}, {meant}"
                    f"{gate_names.listed(classes)}",
                    name.at,
                )
            figure, _ = found
            if figure.needs and figure.needs not in available:
                raise gate.error(
                    f"has {written(name.parts)} at character {name.at}, which needs {NEEDS[figure.needs]}; add it, or "
                    "leave the gate out",
                    name.at,
                )


def available_needs(config: ScoreConfig, tables: Collection[str]) -> set[str]:
    """Return the keys of `gate_names.NEEDS` that a job has.

    Args:
        config: its options.
        tables: names of the tables of its run.
    """
    given = {
        "labels": "confusion" in tables,
        "regions": "regions" in tables,
        "against": config.against is not None,
        "price": config.price_hour is not None,
        "render": config.render is not None,
    }
    return {need for need, has in given.items() if has}


def judge_gates(
    summary: Mapping[str, Any], gates: Iterable[Expression], *, max_failed_share: float = 1.0
) -> list[dict[str, Any]]:
    """Return the entry `gates` of a summary: every gate, the values that it was judged by, and whether the run passed.

    A gate that cannot be judged, because a figure has no value, is not passed.

    Args:
        summary: of a run of any version.
        gates: of --fail-if.
        max_failed_share: share of failed items, 0 to 1, above which the run fails.

    Returns:
        For each gate `option` (None for what always holds), `expression` (true when the run fails), `values` by name,
        `passed`, and `reason`: a sentence, None if it is passed.
    """
    return [*_own_gates(summary, max_failed_share), *(_judge(summary, gate) for gate in gates)]


def failed_gates(summary: Mapping[str, Any], *, max_failed_share: float = 1.0) -> list[str]:
    """Return one sentence per gate that the run failed; none if it passed all.

    Args:
        summary: what `score` returned, or summary.json; its key `gates` has those of --fail-if.
        max_failed_share: share of failed items, 0 to 1, above which the run fails. A run in which all items failed
            always does.
    """
    given = [entry for entry in summary.get("gates", ()) if entry["option"] == OPTION]
    entries = [*_own_gates(summary, max_failed_share), *given]
    unrendered = summary.get("videos", {}).get("failed", {})
    sentences = [entry["reason"] for entry in entries if entry["option"] in {None, "--max-failed-share"}]
    sentences += [f"{item} was not rendered: {reason}" for item, reason in unrendered.items()]
    sentences += [entry["reason"] for entry in entries if entry["option"] == OPTION]
    return [*dict.fromkeys(filter(None, sentences))]


def _own_gates(summary: Mapping[str, Any], max_failed_share: float) -> Iterator[dict[str, Any]]:
    """Yield the gates that are no expressions of the user."""
    failed, total = summary["items"]["failed"], summary["items"]["total"]
    see = f"see the failures table in {summary['out']}"
    all_failed = f"all {total} items failed; {see}" if failed == total else None
    yield _entry(None, "failed == items", {"failed": failed, "items": total}, all_failed)
    if max_failed_share < 1:
        share = failed / max(1, total)
        too_many = (
            f"{failed} of {total} items failed, a share of {share:.3g}; --max-failed-share allows "
            f"{max_failed_share:g}; {see}"
        )
        reason = (all_failed or too_many) if share > max_failed_share else None
        yield _entry("--max-failed-share", f"failed_share > {max_failed_share:g}", {"failed_share": share}, reason)
    if "videos" in summary:
        count = len(summary["videos"].get("failed", {}))
        reason = f"{count} video{'s were' if count > 1 else ' was'} not rendered" if count else None
        yield _entry("--render", "unrendered > 0", {"unrendered": count}, reason)


def _entry(option: str | None, expression: str, values: Mapping[str, Value], reason: str | None) -> dict[str, Any]:
    return {
        "option": option,
        "expression": expression,
        "values": dict(values),
        "passed": reason is None,
        "reason": reason,
    }


def _judge(summary: Mapping[str, Any], gate: Expression) -> dict[str, Any]:
    """Judge one expression."""

    def value(parts: NameParts) -> Value:
        found = gate_names.find(parts)
        return found[0].read(summary, found[1]) if found else None

    values = {name.parts: value(name.parts) for name in gate.names()}
    failed = gate.judge(value)
    shown = ", ".join(f"{written(parts)} is {_number(found)}" for parts, found in values.items() if found is not None)
    reason = None
    if failed:
        reason = f"{gate.text} ({shown})" if shown else gate.text
    elif failed is None:
        unknown = ", ".join(
            f"{written(parts)} has no value ({_why_null(parts)})" for parts, found in values.items() if found is None
        )
        reason = f"{gate.text} cannot be judged: {unknown or 'a division by zero'}{f'; {shown}' if shown else ''}"
    return _entry(OPTION, gate.text, {written(parts): found for parts, found in values.items()}, reason)


def _why_null(parts: NameParts) -> str:
    found = gate_names.find(parts)
    return found[0].null if found else "the run has none"


def _number(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
