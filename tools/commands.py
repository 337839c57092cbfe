"""What people type, for the tools' advice: `make …` in the repository, and the
scripts of a release in its folder."""

from pathlib import Path

IS_RELEASE = not (Path(__file__).resolve().parent.parent / "Makefile").is_file()

DEPLOY = "./deploy" if IS_RELEASE else "make deploy"
CONFIG = "--config …" if IS_RELEASE else "CONFIG=…"


def parameter(name, value):
    return f"{name}={value}" if IS_RELEASE else f"PARAMETERS={name}={value}"


def smoke(stack):
    return f"./smoke {stack}" if IS_RELEASE else f"make smoke STACK={stack}"


def for_architecture(name):
    """How to get functions for another architecture."""
    return f"use the release for {name}" if IS_RELEASE else f"run `make build ARCHITECTURE={name}`"
