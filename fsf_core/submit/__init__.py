"""Submits a command to a Ray cluster and follows it: the other half, which runs there, is `fsf_core.cli.submitted`.

`jobs_client` talks to the dashboard, `submission` starts a job once, `log_stream` reads its log once, `follow` waits
for its end, `exit_code` is what that end means; `command`, `code` and `handover` are what a job needs, and its way.
"""
