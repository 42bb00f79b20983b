"""``python -m assetserver``: the command line."""

from .cli import main

main(prog_name="assetserver")
