"""Every model of the zoo."""

from tests.support.zoo import deployed, programs

ENTRIES = (*programs.ENTRIES, *deployed.ENTRIES)
