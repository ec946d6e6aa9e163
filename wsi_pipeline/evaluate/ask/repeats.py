"""Names of repeats, taken apart: ``train.repeats`` makes them. No torch."""

import re

_REPEAT = re.compile(r"(.+)-([0-9]+)")


def repeat_of(name: str) -> tuple[str, int] | None:
    """Return what a repeat is called without its number, and the number; None of another name.

    >>> repeat_of("sd-3"), repeat_of("sd"), repeat_of("sd-3b")
    (('sd', 3), None, None)
    """
    found = _REPEAT.fullmatch(name)
    return (found[1], int(found[2])) if found else None
