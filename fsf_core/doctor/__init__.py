"""`fsf doctor`: whether a job could run, without running it: one line per check, and what to do.

`subject` is the job that is examined, `driver` and `output` check what this process sees, `nodes` what every node of
the cluster does; `examine` runs all of them, each with a limit.
"""

from fsf_core.doctor.examine import examine

__all__ = ["examine"]
