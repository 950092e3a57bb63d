"""Gates: reasons why a finished run must not be taken for a success. Pure functions over a summary."""

from collections.abc import Mapping
from typing import Any


def failed_gates(summary: Mapping[str, Any], *, max_failed_share: float = 1.0) -> list[str]:
    """Return one sentence per gate that the run failed; none if it passed all.

    Args:
        summary: what `score` returned, or summary.json.
        max_failed_share: share of failed items, 0 to 1, above which the run fails. A run in which all items failed
            always does.
    """
    failed, total = summary["items"]["failed"], summary["items"]["total"]
    see = f"see the failures table in {summary['out']}"
    sentences = []
    if failed == total:
        sentences.append(f"all {total} items failed; {see}")
    elif failed / total > max_failed_share:
        sentences.append(
            f"{failed} of {total} items failed, a share of {failed / total:.3g}; --max-failed-share allows "
            f"{max_failed_share:g}; {see}"
        )
    unrendered = summary.get("videos", {}).get("failed", {})
    return sentences + [f"{item} was not rendered: {reason}" for item, reason in unrendered.items()]
