"""Entry points for `ray job submit` from a checkout: one runbook each, and the command `fsf` behind it."""
