"""Builds and runs a Dockerfile without Docker: base by mmdebstrap, every step and the container itself by runc.

It knows the instructions that the project's own file uses, and refuses others. It needs root and the packages mmdebstrap and runc.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

CAPABILITIES = [f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "SETFCAP")]
"""What a build step may do as root; the container itself may do nothing."""

BASES = {"debian:12-slim": "bookworm"}
INSTRUCTION = re.compile(r"^([A-Z]+)\s+(.*)$")


@dataclass(frozen=True)
class Image:
    """A root file system and how its process is started."""

    root: Path
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin"}
    )
    workdir: str = "/"
    user: int = 0
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()


def missing_tools() -> list[str]:
    """What there must be before anything can be built, and is not."""
    lacking = [tool for tool in ("mmdebstrap", "runc") if shutil.which(tool) is None]
    return lacking + (["root"] if os.geteuid() else [])


def build(dockerfile: Path, context: Path, scratch: Path, say: Callable[[str], None] = print) -> Image:
    """The image of the last stage. ``context`` holds what COPY copies."""
    stages: dict[str, Image] = {}
    image: Image | None = None
    arguments: dict[str, str] = {}
    for name, rest in instructions(dockerfile.read_text(encoding="utf-8")):
        if name == "ARG" and image is None:
            key, _, arguments[key] = rest.partition("=")
            continue
        if name == "FROM":
            base, _, alias = Template(rest).substitute(arguments).partition(" AS ")
            image = Image(_copy(_base(BASES[base], scratch), scratch / f"stage{len(stages)}"))
            stages[alias or str(len(stages))] = image
            continue
        if image is None:
            raise ValueError(f"{name} before FROM")
        say(f"{name} {rest}")
        image = _step(image, name, rest, context, stages)
        stages[list(stages)[-1]] = image
    if image is None:
        raise ValueError(f"{dockerfile}: no FROM")
    return image


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Name and rest of each instruction."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        found = INSTRUCTION.match(line)
        if found is None:
            raise ValueError(f"no instruction: {line}")
        yield found[1], found[2]


def _step(image: Image, name: str, rest: str, context: Path, stages: Mapping[str, Image]) -> Image:
    if name == "RUN":
        with running(image, ["sh", "-ec", rest], build=True) as step:
            said, _ = step.process.communicate(timeout=900)
        if step.process.returncode:
            raise RuntimeError(f"RUN {rest}: code {step.process.returncode}\n{said[-4000:]}")
    elif name == "COPY":
        *options, source, target = rest.split()
        origin = stages[options[0].removeprefix("--from=")].root if options else context
        _copy(origin / source.lstrip("/"), image.root / target.lstrip("/"))
    elif name == "ENV":
        key, _, value = rest.partition("=")
        return replace(image, environment={**image.environment, key: value})
    elif name in ("WORKDIR", "USER"):
        return replace(image, workdir=rest) if name == "WORKDIR" else replace(image, user=int(rest))
    elif name in ("ENTRYPOINT", "CMD"):
        return replace(image, **{{"ENTRYPOINT": "entrypoint", "CMD": "command"}[name]: tuple(json.loads(rest))})
    elif name == "HEALTHCHECK":
        return replace(image, probe=tuple(json.loads(rest.partition(" CMD ")[2])))
    elif (name, rest) != ("STOPSIGNAL", "SIGTERM") and name != "EXPOSE":
        raise ValueError(f"an instruction this builder does not know: {name} {rest}")
    return image


@dataclass
class Container:
    """One that runs. What it says goes into one pipe."""

    name: str
    process: "subprocess.Popen[str]"

    def execute(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run a command in it as its user, as a probe is run."""
        command = ["runc", "exec", self.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        subprocess.run(["runc", "kill", self.name, name], check=True, timeout=60)


@contextmanager
def running(
    image: Image, arguments: Sequence[str], *, build: bool = False, shm_megabytes: int = 1024, **environment: str
) -> Iterator[Container]:
    """A container; its root is read-only but for a build step, and it shares the machine's network. It is gone afterwards."""
    name = f"asrloop-{os.getpid()}-{os.urandom(4).hex()}"
    with tempfile.TemporaryDirectory(prefix="bundle-") as bundle:
        config = _config(image, list(arguments), build, shm_megabytes, environment)
        Path(bundle, "config.json").write_text(json.dumps(config))
        process = subprocess.Popen(
            ["runc", "run", "--bundle", bundle, name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        with process:
            try:
                yield Container(name, process)
            finally:
                subprocess.run(["runc", "delete", "--force", name], check=False, capture_output=True, timeout=60)


def _config(
    image: Image, arguments: list[str], build: bool, shm_megabytes: int, environment: Mapping[str, str]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["runc", "spec"], cwd=scratch, check=True)
        config: dict[str, Any] = json.loads(Path(scratch, "config.json").read_text())
    variables = {**image.environment, **environment, **(_pip_variables() if build else {})}
    granted = CAPABILITIES if build else []
    config["process"].update(
        terminal=False, args=arguments, cwd=image.workdir, user={"uid": image.user, "gid": image.user},
        env=[f"{name}={value}" for name, value in variables.items()],
        capabilities=dict.fromkeys(("bounding", "effective", "permitted"), granted),
        rlimits=[],
    )  # fmt: skip
    config["root"] = {"path": str(image.root), "readonly": not build}
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "network"]
    for mount in config["mounts"]:
        if mount["destination"] == "/dev/shm":
            mount["options"] = ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm_megabytes}m"]
    scratch_options = ["nosuid", "nodev", "mode=1777"]
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": scratch_options})
    config["mounts"] += [
        {"destination": str(path), "type": "bind", "source": str(path), "options": ["rbind", "ro"]}
        for path in (_machine_paths(" ".join(arguments)) if build else [])
    ]
    return config


def _pip_variables() -> dict[str, str]:
    """How pip finds its index on this machine."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _machine_paths(step: str) -> list[Path]:
    """What a step needs of this machine to reach Debian's packages or the package index: names, pip's settings, their files."""
    names = [Path("/etc/resolv.conf"), Path("/etc/hosts")]
    if "apt-get" in step:  # it would stumble over certificates that are there already
        return names
    said = [
        subprocess.run(
            [sys.executable, "-m", "pip", "config", what], capture_output=True, text=True, check=False
        ).stdout
        for what in ("list", "debug")
    ]
    files = [found for found in re.findall(r"^ *(/\S+), exists: True$", said[1], re.MULTILINE) if ".venv" not in found]
    named = [path.removesuffix("/simple") for path in re.findall(r"(?:file://|'|\s)(/[^\s']+)", said[0])]
    return [path for path in [*names, *map(Path, sorted({*files, *named}))] if path.exists()]


def _base(suite: str, scratch: Path) -> Path:
    """Debian's smallest system, from where this machine has its own packages."""
    root = scratch / suite
    if not root.is_dir():
        sources = Path("/etc/apt/sources.list.d/debian.sources")
        mirror = [str(sources)] if sources.is_file() else []
        command = ["mmdebstrap", "--variant=minbase", suite, str(root), *mirror]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    return root


def _copy(source: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True) if source.is_dir() else target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/." if source.is_dir() else str(source), str(target)], check=True)
    return target


def remove(folder: Path) -> None:
    """Remove a folder that holds roots; files of other users are among them."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
