"""`python -m consumer` is the command `microbatch`."""

from consumer.cli import main

main()
