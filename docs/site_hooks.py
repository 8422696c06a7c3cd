"""What the site's pages take from the library while they are built."""

import html
import importlib
import re
from pathlib import Path
from typing import Any

from etd_tf.cli.app import help_text
from etd_tf.cli.flags import FlagSet

_HELP = re.compile(r"^<!-- help: etd_(\w+) -->$", re.MULTILINE)
_FLAG = re.compile(r"^  --(?:\[no\])?(\w+)", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts help pages where comments name the commands; each flag is a link to itself."""

    def page(found: re.Match[str]) -> str:
        text = html.escape(command_help(found[1]), quote=False)
        name = f"etd_{found[1]}"
        linked = _FLAG.sub(
            lambda flag: f'  <a id="{name}-{flag[1]}" href="#{name}-{flag[1]}">{flag[0][2:]}</a>',
            text,
        )
        return f"<pre><code>{linked}</code></pre>"

    return _HELP.sub(page, markdown)


def on_post_build(config: Any) -> None:
    """Writes the colours of code blocks."""
    from pygments.formatters import HtmlFormatter

    rules = HtmlFormatter(style="default").get_style_defs(".highlight")
    Path(config["site_dir"], "highlight.css").write_text(rules, encoding="utf-8")


def command_help(name: str) -> str:
    """Returns the help page of `bin/etd_NAME`; starts no TensorFlow."""
    command = importlib.import_module(f"etd_tf.cli.{name}").COMMAND
    return help_text(command, FlagSet(*command.settings))
