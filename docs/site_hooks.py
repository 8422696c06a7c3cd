"""What the site's pages take from the library while they are built."""

import importlib
import re
from pathlib import Path
from typing import Any

from etd_tf.cli.app import help_text
from etd_tf.cli.flags import FlagSet

_HELP = re.compile(r"^<!-- help: etd_(\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts a command's help page where a comment names the command."""
    return _HELP.sub(lambda found: f"```text\n{command_help(found[1])}```", markdown)


def on_post_build(config: Any) -> None:
    """Writes the colours of code blocks."""
    from pygments.formatters import HtmlFormatter

    rules = HtmlFormatter(style="default").get_style_defs(".highlight")
    Path(config["site_dir"], "highlight.css").write_text(rules, encoding="utf-8")


def command_help(name: str) -> str:
    """Returns the help page of `bin/etd_NAME`; starts no TensorFlow."""
    command = importlib.import_module(f"etd_tf.cli.{name}").COMMAND
    return help_text(command, FlagSet(*command.settings))
