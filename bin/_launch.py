"""Starts a command of etd_tf from a source checkout, with or without an active venv."""

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def launch(command: str) -> None:
    """Runs `etd_tf.cli.COMMAND`, through the checkout's `.venv` where absl is not installed."""
    sys.path.insert(0, str(ROOT))
    try:
        module = importlib.import_module(f"etd_tf.cli.{command}")
    except ModuleNotFoundError as error:
        python = ROOT / ".venv" / "bin" / "python"
        if error.name != "absl" or not python.exists() or os.environ.get("ETD_TF_LAUNCHED"):
            sys.exit(f"etd_tf needs the package {error.name}; `make setup` installs everything.")
        os.environ["ETD_TF_LAUNCHED"] = "1"
        os.execv(python, [str(python), *sys.argv])
    sys.exit(module.main())
