"""`python -m proxy.cli` is `runwire`."""

from proxy.cli import main

main(prog_name="runwire")
