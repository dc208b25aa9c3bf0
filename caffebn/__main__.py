"""``python -m caffebn``: the command line."""

from caffebn.cli import main

main()
