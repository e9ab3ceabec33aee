"""What a training is told of samples and of the run, and what all networks are told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from xharmonize.errors import ModelError, OptionError
from xharmonize.models.card import Matching, Part, Within

Name = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,200}")]
Url = Annotated[str, Matching(r"[a-z][a-z0-9+.-]*(://|::)[^\x00-\x1f\x7f]{1,1000}")]
Split = Literal["date", "block", "scene", "random"]


class Settings(Part):
    """A frozen dataclass whose wrong values are an `OptionError`."""

    def __post_init__(self) -> None:
        """Refuse values of wrong types or out of bounds."""
        try:
            super().__post_init__()
        except ModelError as error:
            what = error.what.removeprefix(f"{type(self).__name__}: ")
            raise OptionError(f"{type(self).__name__}: {what}", cure=error.cure) from None


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """What all networks are told.

    Attributes
    ----------
    seed : int
        Of initial weights, order of samples and augmentation.
    steps : int
        Most steps of the optimiser; early stopping may end before.
    epochs : int
        Passes over the training samples, instead of `steps`; 0: `steps` says how long.
    batch : int
        Samples a step, over all ranks: a multiple of their number.
    learning_rate, weight_decay : float
        Of the generator's optimiser.
    date_weight : float
        Weight of the part of the residual that is its date's mean: below 1 a network learns what
        differs within dates rather than the levels of those few it has seen. 1 is a plain mean.
    ema : float
        Decay of the moving average of weights that is scored and kept; 0 keeps the last weights.
    evaluate : int
        Steps between scores on held-out samples.
    patience : int
        Evaluations without a better score after which training ends; 0 never stops early.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """Where `describe` and `make` of the method stand."""
    roles: ClassVar[tuple[str, ...]] = ()
    """Sources that it is given where samples hold several; all if it names none."""
    as_printed: ClassVar[dict[str, Any]] = {}
    """Options that a paper prints, where they differ from the defaults: the recipe that works."""

    seed: Annotated[int, Within(0, 2**31)] = 0
    steps: Annotated[int, Within(1, 10**8)] = 400
    epochs: Annotated[int, Within(0, 10**6)] = 0
    batch: Annotated[int, Within(1, 2**16)] = 8
    learning_rate: Annotated[float, Within(1e-8, 1.0)] = 1e-3
    weight_decay: Annotated[float, Within(0.0, 1.0)] = 0.0
    date_weight: Annotated[float, Within(0.0, 1.0)] = 0.1
    ema: Annotated[float, Within(0.0, 0.99999)] = 0.99
    evaluate: Annotated[int, Within(1, 10**6)] = 25
    patience: Annotated[int, Within(0, 10**6)] = 8

    @classmethod
    def printed(cls, **changes: Any) -> Self:
        """Return the method as its paper prints it, but for `changes`.

        Raises
        ------
        OptionError
            If no paper has it, or an option has a wrong value.
        """
        if not cls.as_printed:
            raise OptionError(f"{cls.name} is in no paper", cure=f"give {cls.__name__}()")
        options = cls.as_printed | changes
        if "steps" in changes and "epochs" not in changes:  # either says how long
            options["epochs"] = 0
        return cls(**options)

    def for_samples(self, n: int) -> Self:
        """Return the method with the steps that its epochs take.

        Parameters
        ----------
        n : int
            Number of training samples.
        """
        if not self.epochs:
            return self
        return replace(self, steps=max(1, -(-self.epochs * n // self.batch)))


AS_PRINTED: dict[str, Any] = {"date_weight": 1.0, "ema": 0.0, "patience": 0}
"""What no paper of these has: a weight of dates, averaged weights, early stopping on dates."""


@dataclass(frozen=True, kw_only=True)
class Data(Settings):
    """Which samples are cut from the pairs, and which are held out.

    Attributes
    ----------
    patch : int
        Side of a sample [target pixels].
    stride : int, optional
        From one sample to the next; by default half a patch.
    min_valid : float
        Minimum fraction of a sample's target pixels that both sensors saw.
    source_bands, target_bands : tuple of str
        Bands that the network is given, and those it gives; by default all. Bands of further
        sources are named with their role (``"fine.red"``); a source of which none is named gives
        all.
    sources : tuple of str
        Roles of the cubes that the network is given, of those the samples hold; ``"cube"`` is that
        which it is applied to. By default those that the method asks for, or all. Samples are the
        same whatever is chosen: methods are compared on the same pixels.
    max_cloud : float
        Pairs of which a larger fraction is missing on either side are left out.
    clip : (float, float)
        Percentiles to which training samples are clipped per band; held-out ones never are.
    split : {"date", "block", "scene", "random"}
        What is held out as a whole: dates of the target, spatial blocks, or scenes (place and
        date). ``"random"`` patches overlap those trained on; it only shows what such a leak gives.
        By default dates, blocks where there are fewer than three.
    holdout : tuple of str
        Target dates or blocks (``"3/5"``, row and column) to test on. By default the share `test`
        of them, drawn with the seed.
    validation, test : float
        Shares of the groups that decide when to stop, and that are scored at the end.
    block : float
        Side of a spatial block [m].
    guard : float
        Width of the ring around held-out blocks, and around cores of held-out samples that reach
        beyond them, that is not trained on [m].
    seed : int
        Of the split.
    """

    patch: Annotated[int, Within(1, 4096)] = 16
    stride: Annotated[int, Within(1, 4096)] | None = None
    source_bands: tuple[Name, ...] = ()
    target_bands: tuple[Name, ...] = ()
    sources: tuple[Name, ...] = ()
    min_valid: Annotated[float, Within(0.0, 1.0)] = 0.8
    max_cloud: Annotated[float, Within(0.0, 1.0)] = 0.3
    clip: tuple[Annotated[float, Within(0.0, 50.0)], Annotated[float, Within(50.0, 100.0)]] = (
        1.0,
        99.0,
    )
    split: Split | None = None
    holdout: tuple[Name, ...] = ()
    validation: Annotated[float, Within(0.0, 0.5)] = 0.2
    test: Annotated[float, Within(0.0, 0.5)] = 0.2
    block: Annotated[float, Within(1.0, 1e6)] = 2000.0
    guard: Annotated[float, Within(0.0, 1e6)] = 200.0
    seed: Annotated[int, Within(0, 2**31)] = 0


@dataclass(frozen=True, kw_only=True)
class Run(Settings):
    """How a training runs; no option of it changes what is learned but by rounding.

    Attributes
    ----------
    ranks : int, optional
        Processes that train together on the workers of a cluster; by default one per worker.
    device : {"auto", "cpu", "cuda"}
        Where networks are trained.
    precision : {"float32", "bfloat16"}
        Of products on a GPU; the CPU always computes in float32.
    threads : int
        Of torch on the CPU. Sums depend on it in their last bits: a training resumes bit for bit
        with as many as it began with.
    accumulate : int
        Parts in which a rank computes the generator on its samples, where memory is short; it is
        computed once more in the backward pass. Refused with batch normalisation, whose
        statistics would be those of a part.
    timeout : float
        How long ranks wait for each other before they take one for lost [s].
    wait : float
        How long to wait for workers on which another training runs [s].
    max_restarts : int
        How often to go on from the last checkpoint after workers were lost.
    port : int
        Where rank 0 listens; 0 takes a free port.
    interface : str
        Network interface that ranks use, such as ``"ib0"``; by default that of the workers.
    samples : str, optional
        URL that workers read and write (``"s3://bucket/samples.zarr"``, ``"file:///scratch/..."``),
        where samples lie while a network is trained; by default beside what is written. Each
        process takes credentials from its environment (``AWS_…``, ``FSSPEC_S3_…``).
    save : int
        Steps between checkpoints.
    log : int
        Steps between lines of the log.
    tensorboard : bool
        Whether to write for TensorBoard too, if it is installed.
    """

    ranks: Annotated[int, Within(1, 2**16)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Within(1, 1024)] = 1
    accumulate: Annotated[int, Within(1, 1024)] = 1
    timeout: Annotated[float, Within(0.1, 1e6)] = 60.0
    wait: Annotated[float, Within(0.0, 1e7)] = 3600.0
    max_restarts: Annotated[int, Within(0, 1000)] = 2
    port: Annotated[int, Within(0, 65535)] = 0
    interface: Name | None = None
    samples: Url | None = None
    save: Annotated[int, Within(1, 10**6)] = 100
    log: Annotated[int, Within(1, 10**6)] = 10
    tensorboard: bool = True
