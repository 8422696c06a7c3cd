"""Paths that users write with `~`, also where there is no home directory."""

import os
import tempfile
from pathlib import Path

from absl import logging

from etd_tf.errors import InputError

DEFAULT_CACHE = "~/.cache/etd_tf"
"""Where prepared corpora are kept unless another place is named."""


def expand(path: str | Path) -> Path:
    """Puts the home directory in the place of `~`.

    Returns:
        It without `~`. The default cache is in the temporary directory where there is no
        home directory, as for a user id without an account in a container.

    Raises:
        InputError: There is no home directory; or somebody else made that cache.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        if str(path) != DEFAULT_CACHE:
            raise InputError(
                f"{path}: there is no home directory for ~ (HOME is not set). Give the whole path."
            ) from error
    cache = Path(tempfile.gettempdir()) / f"etd_tf-{os.getuid()}"
    message = "There is no home directory (HOME is not set): the cache is %s. cache_dir= moves it."
    logging.log_first_n(logging.WARNING, message, 1, cache)
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():  # all may write there
        raise InputError(f"{cache} belongs to another user. Name a cache with cache_dir=DIR.")
    return cache
