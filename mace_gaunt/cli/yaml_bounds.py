"""What a yaml file may hold: plain values, not nested without end, and not more of them than a file can mean."""

from typing import Any

MOST_VALUES = 100_000
"""Aliases counted as often as they stand: a page of them can stand for more values than there is memory."""
DEEPEST = 50
"""Nested lists and mappings; a configuration has some five."""
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")} | {"!", None}


def check_bounds(text: str) -> None:
    """Refuse text that cannot be a configuration, before anything is built from it.

    Args:
        text: Of a yaml file.

    Raises:
        ValueError: If it is nested too deeply, too large, refers to itself, or has tags of other than plain values.
        yaml.YAMLError: If it is not yaml.
    """
    import yaml

    sizes: dict[str, int] = {}
    # Anchor and size of every list and mapping that is not closed yet; the document is the first.
    waiting: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text):
        if isinstance(event, yaml.NodeEvent):
            _check_tag(event)
        if isinstance(event, yaml.CollectionStartEvent):
            waiting.append((event.anchor, 1))
            if len(waiting) > DEEPEST:
                raise ValueError(f"more than {DEEPEST} lists and mappings in each other, {_place(event)}")
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in waiting):
                raise ValueError(f"*{event.anchor} stands for what it is a part of, {_place(event)}")
            anchor, size = None, sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = waiting.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        waiting[-1] = (waiting[-1][0], waiting[-1][1] + size)
        if waiting[-1][1] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values, {_place(event)}")


def _check_tag(event: Any) -> None:
    if getattr(event, "tag", None) not in TAGS:
        raise ValueError(f"{event.tag.replace('tag:yaml.org,2002:', '!!')} is no tag of plain values, {_place(event)}")


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
