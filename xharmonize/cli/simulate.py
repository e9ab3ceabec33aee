"""``xharmonize simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xharmonize._replace import Mode
from xharmonize.cli import console

if TYPE_CHECKING:
    from xharmonize.simulate import Simulation


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the catalogue; made here.")],
    seed: Annotated[int, typer.Option(help="Same seed, same landscape and weather.")] = 0,
    start: Annotated[str, typer.Option(help="First day.")] = "2022-05-01",
    end: Annotated[str, typer.Option(help="Last day.")] = "2022-08-31",
    size: Annotated[float, typer.Option(help="Width and height in metres.", min=60.0)] = 900.0,
    cloudiness: Annotated[
        float, typer.Option(help="Mean cloud cover, 0 to 1.", min=0.0, max=0.95)
    ] = 0.35,
    sensor: Annotated[
        list[str] | None,
        typer.Option(
            help="sentinel-2-l2a, landsat-c2-l2, gaofen-1-ard or sentinel-1-rtc; may be given "
            "several times. Default: the first two."
        ),
    ] = None,
    variant: Annotated[Literal["a", "b", "c"], typer.Option(help="Variant of the physics.")] = "a",
    baseline: Annotated[
        Literal["with-offset", "without-offset", "mixed"],
        typer.Option(help="Processing baselines of Sentinel-2."),
    ] = "with-offset",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a catalogue that is there.")
    ] = False,
) -> None:
    """Write simulated scenes, their truth known, as COGs with a static STAC catalogue."""
    from xharmonize.simulate import Simulation

    simulation = Simulation(
        seed=seed,
        start=start,
        end=end,
        size=(size, size),
        cloudiness=cloudiness,
        sensors=tuple(sensor or ("sentinel-2-l2a", "landsat-c2-l2")),
        variant=variant,
        baseline=baseline,
    )
    catalog = write_scenes(simulation, out, mode="w" if overwrite else "w-")
    console.say(f"{len(simulation.passes())} scenes: {catalog}")


def write_scenes(simulation: Simulation, out: Path, *, mode: Mode) -> Path:
    """Write a simulation with a progress bar; return its ``catalog.json``."""
    from xharmonize.simulate import write_catalog

    with console.counted("Simulating scenes") as show:
        return write_catalog(simulation, out, mode=mode, progress=show)
