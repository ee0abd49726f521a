"""Where files are kept that can be made again."""

import logging
import os
import stat
import tempfile
from pathlib import Path

_logger = logging.getLogger("beamish.search_service")


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/beamish or ~/.cache/beamish, made if it is missing.

    If that is not writable: a folder of this user alone in the temporary folder, with a warning, since it is lost with the next cleaning.
    Raises OSError if there is not even that.
    """
    try:
        return _writable(_cache_home() / "beamish")
    except (OSError, RuntimeError) as error:
        folder = _temporary()
        _logger.warning("the cache folder cannot be used (%s); using %s. Set XDG_CACHE_HOME to a folder you can write to.", error, folder)
        return folder


def _cache_home() -> Path:
    # The XDG standard: a relative path is invalid and counts as not set.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"


def _writable(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is not writable")
    return folder


def _temporary() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"beamish-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="beamish-"))
    # Everybody may write to /tmp: a folder that another user has put there, or can write to, could hold anything.
    ours = stat.S_ISDIR(status.st_mode) and (os.name == "nt" or (status.st_uid == user and not status.st_mode & 0o022))
    return folder if ours else Path(tempfile.mkdtemp(prefix="beamish-"))
