"""Ray on this machine alone, without what only clusters need."""
