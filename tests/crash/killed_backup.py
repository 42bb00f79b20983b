"""Back up a data folder, and die before the durable step with the given number: run as a program.

Arguments: data folder, where to, number (0 to live and print how many steps there were).
"""

import sys

if __package__:
    from . import killed
else:
    import killed

from assetserver.backup import back_up
from assetserver.settings import load_settings


def main() -> None:
    """Run as told by the arguments."""
    data, to, last = sys.argv[1:]
    killed.STEPS = (*killed.STEPS, "unlink", "rmdir")
    killed.count_steps(int(last))
    back_up(load_settings(overrides={"data.path": data, "sites": [{"name": "main"}]}), to, verify=False)
    sys.stdout.write(f"{killed._taken}\n")


if __name__ == "__main__":
    main()
