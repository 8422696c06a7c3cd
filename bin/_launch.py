"""Starts a command of etd_tf from a source checkout, with or without an active venv."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Who has these has all that pyproject.toml asks for; looking for them imports nothing.
NEEDED = ("absl", "h5py", "keras", "numpy", "safetensors", "tensorflow", "tokenizers")


def launch(command: str) -> None:
    """Runs `etd_tf.cli.COMMAND`, in the checkout's `.venv` where this Python lacks something."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    python = ROOT / ".venv" / "bin" / "python"
    if missing and python.exists() and not os.environ.get("ETD_TF_LAUNCHED"):
        os.environ["ETD_TF_LAUNCHED"] = "1"
        os.execv(python, [str(python), *sys.argv])
    if missing:
        sys.exit(f"etd_tf needs {', '.join(missing)}; `make setup` installs everything.")
    sys.path.insert(0, str(ROOT))
    importlib.import_module(f"etd_tf.cli.{command}").COMMAND.main()
