"""What is wrong with a config, where MMEngine's registries find out: told from a bug of the code."""

import difflib
import re
import traceback
from types import FrameType

REGISTRY = "/mmengine/registry/"
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_UNKNOWN = re.compile(r"(\S+) is not in the (\S+ registry)")


def fault_of_config(error: KeyError | TypeError) -> str | None:
    """One sentence about a name or an argument of a config that a registry could not build, None for a bug.

    Args:
        error: As it was caught.

    Returns:
        The sentence, or None.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    asked = [frame for frame in frames if REGISTRY in frame.f_code.co_filename.replace("\\", "/")]
    if not asked:
        return None
    text = str(error.args[0] if error.args else error).strip()
    if isinstance(error, KeyError):
        if frames[-1] is not asked[-1]:
            return None
        unknown = _UNKNOWN.match(text)
        return f"{unknown[0]}{_suggestion(unknown[1], asked[-1])}" if unknown else text
    unexpected = _UNEXPECTED.search(text)
    # A constructor may hand the arguments of the config on, so that another one finds out.
    of_config = unexpected and any(unexpected[1] in (frame.f_locals.get("args") or ()) for frame in asked)
    return text if of_config or frames[-1] is asked[-1] else None


def _suggestion(name: str, frame: FrameType) -> str:
    registry, names = frame.f_locals.get("registry"), set()
    while registry is not None:
        names |= set(registry.module_dict)
        registry = registry.parent
    close = difflib.get_close_matches(name.rpartition(".")[2], names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
