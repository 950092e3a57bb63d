"""`python -m fsf_core.cli` is `fsf`."""

from fsf_core.cli.app import run

if __name__ == "__main__":
    run()
