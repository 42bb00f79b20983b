"""Install what the benchmarks compare with, where that is allowed, and say what is missing where it is not.

Debian's packages if this is Debian and the user may (root); servers written in Python into an environment of the benchmark's
own, ``benchmarks/.venv``. May be repeated. The exit code is always 0: what is missing is left out by the benchmarks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

from machine import say
from peers import BROTLI_MODULE, DEFLATE_MODULE, NODE, VENV, find
from photographs import TEXTURED, USUAL

DEBIAN = {
    "wrk": "wrk",
    "nginx": "nginx-light",
    BROTLI_MODULE: "libnginx-mod-http-brotli-static",
    "caddy": "caddy",
    "lighttpd": "lighttpd",
    DEFLATE_MODULE: "lighttpd-mod-deflate",
    TEXTURED.path: "mate-backgrounds",
}
PYTHON = {"gunicorn": ("whitenoise", "gunicorn"), "granian": ("granian", "uvloop"), "py-spy": ("py-spy",)}

MODULES = {"pyvips": ("pyvips", "pyvips-binary"), "ssimulacra2": ("ssimulacra2", "numpy", "pillow")}
"""Packages without a program, by the module that shows that they are there."""
NPM = {"sharp": "sharp@0.35"}
SHARP = "sharp_defaults.mjs"
OLD_SHARP = "sharp@0.1.0"


def is_there(program: str) -> bool:
    """Tell whether a program, or a file named in full, is there."""
    return os.path.exists(program) or shutil.which(find(program)) is not None


def has_module(name: str) -> bool:
    """Tell whether the benchmark's own environment has a module."""
    python = os.path.join(VENV, "bin", "python")
    return (
        os.path.exists(python)
        and subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode == 0
    )


def install_node() -> None:
    """Install peers written in JavaScript, and put the script beside them: modules are looked for from there."""
    os.makedirs(NODE, exist_ok=True)
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "images", SHARP), NODE)
    missing = [package for name, package in NPM.items() if not os.path.isdir(os.path.join(NODE, "node_modules", name))]
    if missing and shutil.which("npm"):
        say(f"installing {' '.join(missing)}")
        attempt("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", NODE, *missing)


def install_photograph() -> None:
    """Fetch a photograph that only an old package of sharp brings along."""
    if os.path.exists(USUAL.path) or not shutil.which("npm"):
        return
    say("fetching a photograph")
    with tempfile.TemporaryDirectory() as folder:
        if attempt("npm", "pack", "--silent", "--pack-destination", folder, OLD_SHARP):
            with tarfile.open(os.path.join(folder, os.listdir(folder)[0])) as package:
                found = package.extractfile(f"package/tests/{os.path.basename(USUAL.path)}")
                if found is not None:
                    with open(USUAL.path, "wb") as file:
                        shutil.copyfileobj(found, file)


def attempt(*command: str) -> bool:
    """Run a command and tell whether it worked; what it says is shown if it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"{' '.join(command)}: {error}")
        return False
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        say(f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.returncode == 0


def main() -> int:
    """Install what is missing; return the exit code."""
    wanted = [package for program, package in DEBIAN.items() if not is_there(program)]
    if wanted and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {' '.join(wanted)}")
        attempt("apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "--yes", "--no-install-recommends", *wanted)
    packages = [name for program, names in PYTHON.items() if not is_there(program) for name in names]
    packages += [name for module, names in MODULES.items() if not has_module(module) for name in names]
    install_node()
    install_photograph()
    if packages:
        say(f"installing {' '.join(packages)} into benchmarks/.venv")
        if os.path.exists(os.path.join(VENV, "bin", "python")) or attempt(sys.executable, "-m", "venv", VENV):
            attempt(os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--quiet", *packages)
    if missing := [package for program, package in DEBIAN.items() if not is_there(program)]:
        say(f"missing: apt-get install {' '.join(missing)}")
    if missing := [program for program in PYTHON if not is_there(program)]:
        say(f"missing in benchmarks/.venv: {' '.join(missing)}")
    if missing := [module for module in MODULES if not has_module(module)]:
        say(f"missing in benchmarks/.venv: {' '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
