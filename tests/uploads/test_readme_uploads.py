"""The README's first steps with uploads, executed: what it shows is what comes back, but for ids and times."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000"
LIMIT_S = 60
ID = re.compile(r"\b[A-Za-z0-9_-]{24}(?=[/\"])")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def read_steps():
    """Yield ``(command, lines that it prints)`` of the section, up to the paragraph on clients that resume."""
    section = README.read_text().partition("\n## Upload\n")[2].partition("**Clients that resume.**")[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = shown.splitlines()
            yield command, output


def normalize(line):
    return TIME.sub("TIME", ID.sub("ID", line))


def test_readme_shows_what_comes_back(origin, tmp_path, require):
    require("curl")
    (tmp_path / "notes.txt").write_text("hello")
    url = origin()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    known, shown = {}, 0

    def localize(command):
        command = ID.sub(lambda found: known.get(found[0], found[0]), command)
        return command.replace(ADDRESS, url).replace("curl ", "curl -s ")

    def run(command):
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout.splitlines()

    for command, output in read_steps():
        if command.startswith("export TOKEN="):
            [environment["TOKEN"]] = run(f'{command}; echo "$TOKEN"')
            continue
        printed = run(localize(command))
        if output:
            assert [normalize(line) for line in printed] == [normalize(line) for line in output], command
            known |= dict(zip(ID.findall("\n".join(output)), ID.findall("\n".join(printed)), strict=True))
            shown += 1

    assert shown >= 4
