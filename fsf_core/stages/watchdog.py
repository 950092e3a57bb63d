"""The timer of an item: it ends a process that hangs."""

import signal


def watchdog(item_s: float, running: bool) -> None:  # noqa: FBT001 - a switch
    """Start or stop the timer of an item.

    SIGALRM's default action ends the process, even inside a C library, and even if its parent was killed.
    """
    signal.setitimer(signal.ITIMER_REAL, item_s if running else 0)
