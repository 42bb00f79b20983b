"""The README's section on uploads, executed: what it shows is what comes back, but for ids, times, secrets and signatures."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000"
LIMIT_S = 60
ID = re.compile(r"\b[A-Za-z0-9_-]{24}(?=[/\"])|\b[0-9a-f]{12}\b")
VARIABLE = re.compile(r"(?:export )?([A-Z]+)=")
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{3})?Z"), "TIME"),
    (re.compile(r"ast_([0-9a-f]{12})_\S+"), "TOKEN"),
    (re.compile(r'"asg_[^"]+", "id": "[^"]+"'), "GRANT"),
    (re.compile(r"expires=\d+&key=first&signature=[\w-]+"), "SIGNATURE"),
)


def read_steps(title="Upload"):
    """Yield ``(command, lines that it prints)`` of a section."""
    section = README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = re.sub(r"\\\n *", "", shown).splitlines()
            yield command, output


def read_settings():
    """Return the settings that the section shows."""
    return next("\n".join(output) for command, output in read_steps() if command == "cat assetserver.toml") + "\n"


def normalize(line):
    for pattern, text in VOLATILE:
        line = pattern.sub(text, line)
    return ID.sub("ID", line)


class Shell:
    """Runs the commands of the README, one after the other, against the server at ``url``; knows which id is which here."""

    def __init__(self, folder, url):
        self._folder = folder
        self._url = url
        self._known = {}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
        self._environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ASSETSERVER_SERVER__PORT": url.rpartition(":")[2],
        }

    def take(self, command, output):
        """Run a command; where the README shows what it prints, compare. Variables that it sets stay."""
        variable = VARIABLE.match(command)
        printed = self._run(f'{command}; echo "${variable[1]}"' if variable else command)
        if variable:
            self._environment[variable[1]] = printed.pop().replace(ADDRESS, self._url)
        if not output:
            return
        assert [normalize(line) for line in printed] == [normalize(line) for line in output], command
        for shown, line in zip(output, printed, strict=True):
            self._known |= dict(zip(ID.findall(shown), ID.findall(line), strict=True))

    def _run(self, command):
        command = ID.sub(lambda found: self._known.get(found[0], found[0]), command)
        done = subprocess.run(
            ["bash", "-ec", command.replace(ADDRESS, self._url).replace("curl ", "curl -s ")],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout.replace(self._url, ADDRESS).splitlines()


def test_readme_shows_what_comes_back(origin, tmp_path, require):
    require("curl")
    (tmp_path / "assetserver.toml").write_text(read_settings())
    shell = Shell(tmp_path, origin())
    steps = list(read_steps())
    for command, output in steps:
        shell.take(command, output)
    assert sum(bool(output) for _, output in steps) >= 8
