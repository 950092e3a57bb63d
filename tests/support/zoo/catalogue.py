"""Every model of the zoo."""

from tests.support.zoo import deployed, programs, transformers

ENTRIES = (*programs.ENTRIES, *deployed.ENTRIES, *transformers.ENTRIES)
