"""The two Dockerfiles differ in what they stand on, and in nothing that they put on it."""

from tests.conftest import ROOT
from tests.deploy.image import instructions


def steps(name: str) -> list[tuple[str, str]]:
    """Without those that choose and prepare what the image stands on."""
    return [
        (instruction, rest)
        for instruction, rest in instructions((ROOT / "deploy" / name).read_text())
        if instruction not in ("ARG", "FROM") and not rest.startswith(("PATH=", "apt-get", "python3 -c"))
    ]


def test_both_images_hold_the_same() -> None:
    assert steps("Dockerfile") == steps("Dockerfile.nvidia")


def test_what_was_not_run_says_so_first() -> None:
    for name in ("Dockerfile.nvidia", "compose.yaml"):
        head = "".join((ROOT / "deploy" / name).read_text().splitlines(keepends=True)[:12])
        assert "NOT RUN" in head, name
