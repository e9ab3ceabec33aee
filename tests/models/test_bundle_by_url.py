"""Bundles and fits from and to URLs, in a real S3 over HTTP on loopback."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import dask.base
import numpy as np
import pytest
import xarray as xr
from helpers.bundles import generator_card, weights
from helpers.object_store import environment, files

import xharmonize as xh
from xharmonize.harmonizers import fit_linear, save_model
from xharmonize.models import copy_bundle, open_bundle, read_weights, write_bundle
from xharmonize.testing import example_cube

pytest.importorskip("safetensors.numpy")
PLACE = "s3://bucket/models/tiny"


def test_a_bundle_is_written_to_a_url_and_read_from_there(options, tmp_path):
    ref = write_bundle(PLACE, generator_card(), weights(), storage_options=options)
    bundle = open_bundle(PLACE, storage_options=options)
    assert bundle.ref == ref
    assert "secret" not in repr(ref)
    on_worker = pickle.loads(pickle.dumps(ref))  # options travel with the task
    for name, array in read_weights(on_worker).items():
        np.testing.assert_array_equal(array, weights()[name], strict=True)
    local = copy_bundle(ref, tmp_path / "tiny")
    assert dask.base.tokenize(local) == dask.base.tokenize(ref)
    assert copy_bundle(local, f"{PLACE}-2", storage_options=options).digest == ref.digest
    for mode in ("w-", "w"):
        with pytest.raises(xh.errors.StoreError, match=r"tiny exists, and object stores cannot"):
            write_bundle(PLACE, generator_card(), weights(1), mode=mode, storage_options=options)
    assert not files(options).exists("bucket/models/.tiny.lock")
    for call in (open_bundle, xh.load_model):
        with pytest.raises(xh.errors.XHarmonizeError, match=f"lost a slash.*'{PLACE}'"):
            call(Path(PLACE))
    files(options).pipe_file("bucket/other/a.txt", b"")
    with pytest.raises(xh.errors.StoreError, match=r"holds something else: a\.txt"):
        write_bundle("s3://bucket/other", generator_card(), weights(), storage_options=options)


@pytest.mark.slow
def test_a_model_is_saved_and_applied_by_url(options, tmp_path):
    pytest.importorskip("torch")
    write_bundle(tmp_path / "tiny", generator_card(), weights())
    model = xh.load_model(tmp_path / "tiny")
    model.save(PLACE, storage_options=options)
    there = xh.load_model(PLACE, storage_options=options)
    assert (there.ref.digest, there.ref.location) == (model.ref.digest, PLACE)
    dead = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(xh.errors.XHarmonizeError, match="Could not connect"):
        xh.load_model(PLACE, storage_options=options | dead)
    # The text alone serves where a process has its settings in the environment, as commands do.
    settings = {f"FSSPEC_S3_{name.upper()}": value for name, value in options.items()}
    command = [sys.executable, "-m", "xharmonize", "models", "show", PLACE]
    done = subprocess.run(command, env=environment() | settings, capture_output=True, text=True)
    assert model.ref.digest[:12] in done.stdout, done.stderr


@pytest.mark.slow
def test_a_fit_is_saved_to_a_url(options):
    target = example_cube("landsat-c2-l2", platform="landsat-8", seed=2)
    fit = fit_linear(xh.match_pairs(example_cube(), target, tolerance="1D"))
    place = "s3://bucket/fits/lines.zarr"
    save_model(fit, place, storage_options=options)
    xr.testing.assert_equal(xh.load_model(place, storage_options=options), fit)
    with pytest.raises(xh.errors.StoreError, match="exists, and object stores cannot"):
        save_model(fit, place, mode="w", storage_options=options)
    with pytest.raises(xh.errors.ModelError, match=r"netCDF .* name it fit\.zarr"):
        save_model(fit, "s3://bucket/fits/lines.nc", storage_options=options)


WRITE = """
import sys
from helpers.bundles import generator_card, weights
from helpers.object_store import die_at, options_of
from xharmonize.models import write_bundle
die_at("item.json")
write_bundle(sys.argv[1], generator_card(), weights(), storage_options=options_of(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_bundle_that_a_killed_process_wrote_in_part_is_not_there(options):
    command = [sys.executable, "-c", WRITE, PLACE, options["endpoint_url"]]
    done = subprocess.run(command, env=environment())
    assert done.returncode == -signal.SIGKILL
    assert files(options).exists("bucket/models/tiny/weights.safetensors")
    with pytest.raises(xh.errors.ModelError, match="there is no bundle at s3://"):
        open_bundle(PLACE, storage_options=options)
    ref = write_bundle(PLACE, generator_card(), weights(1), storage_options=options)
    assert open_bundle(PLACE, storage_options=options).ref == ref
