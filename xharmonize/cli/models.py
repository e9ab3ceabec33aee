"""``xharmonize models``."""

from __future__ import annotations

from xharmonize.cli import console


def models() -> None:
    """List the built-in harmonisers: what they map, for which platforms, and their source."""
    from xharmonize.sensors.bandpass import get_table, list_tables

    tables = [get_table(name) for name in list_tables()]
    rows = [
        {
            "model": table.name,
            "direction": table.direction,
            "level": ", ".join(table.levels),
            "platforms": ", ".join(table.platforms),
        }
        for table in tables
    ]
    console.print_table(rows, title="Built-in models")
    for table in tables:
        console.say(f"{table.name}: {table.citation}, doi:{table.doi}")
    console.say("A fitted model is given as the path it was saved to: --model fit.zarr")
