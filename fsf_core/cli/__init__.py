"""The command `fsf`: `app` has its options and exit codes, and there is a file for what each subcommand prints."""
