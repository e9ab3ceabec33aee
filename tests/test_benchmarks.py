"""Every benchmark runs, at a tiny size, and says what it should."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.cube.pairs import on_target_grid

pytestmark = pytest.mark.slow


def test_loading(tmp_path):
    loading = import_benchmark("loading")
    (tmp_path / "warm-up").mkdir()
    loading.write_items(tmp_path / "warm-up", n_dates=1, size=64)
    items = loading.write_items(tmp_path, n_dates=2, size=64)
    for case in loading.CASES:
        assert loading.run_case(case, items)["seconds"] > 0
    suite = loading.Loading()
    assert suite.params == loading.CASES
    found, bare = loading._ours(items, "stackstac"), loading._bare_stackstac(items)
    expected = (bare[:, :-1].values - 1000.0) / 1e4
    is_clear = np.broadcast_to(bare[:, -1:] == 4, expected.shape)
    np.testing.assert_allclose(found.values[is_clear], expected[is_clear], atol=1e-7)
    assert np.isnan(found.values[~is_clear]).all()


def test_regridding():
    regridding = import_benchmark("regridding")
    results = regridding.main(["--small"])
    assert set(results) == set(regridding.CASES)
    assert all(took["xharmonize"] > 0 for took in results.values())


def test_storing_ten_times_the_dates_needs_hardly_more_memory(capsys, monkeypatch, tmp_path):
    storing = import_benchmark("storing")
    assert storing.growth(short=2, long=20, size=640) <= 1.3  # 20 and 197 MB of pixels
    assert "limit 1.3x" in capsys.readouterr().out

    def measure_here(kind, n_times, size):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            return storing.write(kind, n_times, size, folder)

    monkeypatch.setattr(storing, "measure", measure_here)
    assert storing.speed(n_times=2, size=64) > 0
    assert "beside xarray's to_zarr" in capsys.readouterr().out


def test_of_pixels_nothing_goes_through_the_client_to_an_object_store(capsys):
    pytest.importorskip("distributed")
    pytest.importorskip("icechunk")
    pytest.importorskip("moto.server")
    runs = import_benchmark("object_storage").compare(1, n_times=4, size=512, repeats=1)
    for kind, run in runs.items():  # some 12 MB of compressed pixels
        assert run["workers"] > 5e6, kind
        assert run["client"] + run["dask"] < 1e6, kind
        assert run["others"] < 1e5, kind  # of no known process: left out of the sums
    assert "by boto3" in capsys.readouterr().out


def test_tables(capsys):
    lut = import_benchmark("lut")
    assert all(ratio > 0 for ratio in lut.main(["--small"]).values())
    took = lut.main(["--small", "--tile"])
    assert {"matching", "UNet-LUT", "UNet-LUT with its convolution"} < set(took)
    assert "A6000" in capsys.readouterr().out


def test_importing():
    seconds = import_benchmark("importing").main(n_runs=1)
    assert seconds["xharmonize"] > 0


def test_mapping_ten_times_the_dates_needs_hardly_more_memory(capsys):
    growth = import_benchmark("growth").compare(
        "generator", 2, 3, ("10x the dates",)
    )  # 33 and 332 MB of pixels
    assert growth["10x the dates"] <= 1.3
    assert "limit 1.3x" in capsys.readouterr().out


def test_graphs_of_models():
    result = import_benchmark("graph").main(["--small"])
    assert result["graph"] < 1e4
    assert result["loads"] == 1


def test_a_region_is_rehearsed(tmp_path, capsys):
    for extra in ("distributed", "stackstac", "torch", "uvicorn"):
        pytest.importorskip(extra)
    region = import_benchmark("region")
    took = region.compare("year", ["copy", "line"], pixels=402, dates=3, place=tmp_path)
    assert took["line"]["dates"] == 6
    assert took["line"]["peak"] > 0
    assert took["line"]["spilled"] == took["line"]["restarts"] == 0
    assert "x copy" in capsys.readouterr().out


def test_graphs_of_whole_tiles_grow_by_a_few_tasks_per_block():
    took = import_benchmark("region").graph(n_dates=20)
    blocks = 20 * 6**2  # of 2048 pixels a side
    assert took["tasks"] < 12 * blocks  # 1,000 dates: fewer than 432,000
    assert took["fused"] < 2.5 * blocks  # 84,000: one reads, one does the rest
    assert took["build"] < 5


def test_tiles_as_tasks_beside_their_blocks(tmp_path):
    for extra in ("distributed", "stackstac", "torch", "uvicorn"):
        pytest.importorskip(extra)
    took = import_benchmark("region").jobs(tmp_path, pixels=402, dates=2, n_runs=1)
    assert took["tasks"]["tiles"] == 4
    assert took["tasks"]["blocks"] > 4


def test_network_beside_sgemm(capsys):
    rates = import_benchmark("network").main(["--small"])
    assert min(rates.values()) > 0
    assert "x sgemm" in capsys.readouterr().out.replace("×", "x")


def test_operations_are_those_that_torch_counts():
    counter = pytest.importorskip("torch.utils.flop_counter")
    import torch

    from xharmonize.models.architectures import build_empty

    network = import_benchmark("network")
    card = network.make_card()
    images = [torch.empty(array.shape, device="meta") for array in network.make_batch(card, 1)]
    with counter.FlopCounterMode(display=False) as found:
        build_empty(card).eval()(*images)
    assert network.flops_per_tile(card) == found.get_total_flops()


@pytest.mark.parametrize(
    "section",
    ["lut", "network", "transfers", "tables-on-a-tile", "generator-on-a-tile", "memory"],
)
def test_sections_of_the_gpu_benchmark_run_on_a_cpu(section):
    rows = import_benchmark("gpu").SECTIONS[section](is_gpu=False, is_small=True)
    assert all(len(row) == 4 and row[1] >= 0 for row in rows)


def test_the_gpu_benchmark_says_that_there_is_no_gpu(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    import_benchmark("gpu").main([])
    assert "no CUDA device" in capsys.readouterr().out


def test_metrics(capsys):
    metrics = import_benchmark("metrics")
    results = metrics.main(["--small"])
    assert set(metrics.CASES) < set(results)
    assert all(results[case]["two chunks"] > 0 for case in metrics.CASES)
    assert abs(results["wrong"]["xharmonize"]) < 0.1
    assert results["memory"] <= 1.3
    assert "times the memory" in capsys.readouterr().out


def test_smoothing():
    pytest.importorskip("whittaker_eilers")
    assert import_benchmark("smoothing").main(["--small"])["ratio"] > 1


def test_smoothing_beside_straight_lines(capsys):
    found = import_benchmark("smoothing_real").main(["--small"])
    assert 0.5 < found["left out"].loc["geometric mean", "dates and gaps"] < 1.1
    assert set(found["left out"].index) > {f"simulated {seed}" for seed in range(3)}
    assert "chosen on all of them: " in capsys.readouterr().out


def test_coverage_of_the_uncertainty_of_smooth_series():
    found = import_benchmark("smoothing_coverage").main(["--small"])
    assert (found[0.6].loc["whittaker"] < found[0.0].loc["whittaker"]).all()


def test_generator(capsys):
    pytest.importorskip("torch")
    generator = import_benchmark("generator")
    results = generator.main(["--small"])
    assert set(results) == set(generator.CASES)
    assert all(min(rates.values()) > 0 for rates in results.values())
    assert "× bare" in capsys.readouterr().out


def test_two_orbits_come_nearer(data, capsys):
    """Later minus earlier, as the reference says: .0079 .0104 .0088 .0207 before."""
    found = import_benchmark("nadir_real").main(data / "austria-two-orbits", every=5)
    before, after = (np.abs(found[case]["mean"]) for case in ("as it is", "per pixel"))
    np.testing.assert_allclose(before, [0.0079, 0.0104, 0.0088, 0.0207], atol=3e-4)
    assert (after < [0.0064, 0.0074, 0.0073, 0.0035]).all()
    west, east = found["apart"][:, 0, 3], found["apart"][:, 1, 3]
    assert (west < -0.003).all()  # one angle per item leaves this in
    assert (east > 0.003).all()
    assert "s a granule" in capsys.readouterr().out


def test_coverage():
    found = import_benchmark("covering").main((10, 40))
    assert all(row["difference"] < 1e-7 for row in found.values())
    assert found[40]["exactextract"] < found[40]["shapely"]


def test_fields(data, capsys):
    found = import_benchmark("fields").compare(data / "flanders-2018", "2018-07")
    assert found["0.25 to 1 ha", 60]["few"] > found["0.25 to 1 ha", 20]["few"]
    assert 0 < found["1 ha and more", 30]["rmse"] < 0.1


def test_our_reader_of_weights_holds_them_once():
    pytest.importorskip("safetensors")
    found = import_benchmark("weights").main(20.0)
    ours, library = (found[name][1] - found["bare"][1] for name in ("ours", "library"))
    assert ours < 40 < library + 5


def test_registration(capsys):
    pytest.importorskip("skimage")
    errors = import_benchmark("registration").main(["--small"])
    for what in ("clear", "changed and cloudy"):
        assert (errors[f"xharmonize, {what}"] < 1).all()
        assert (errors[f"xharmonize, {what}"] < errors[f"phase_cross_correlation, {what}"]).all()
    assert "not found: 0" in capsys.readouterr().out


@pytest.mark.real_data
def test_networks_on_real_pairs(data, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    options = ["--steps", "2", "--dates", "2018-07-17", "--when", "2018-06-20/2018-08-05"]
    found = import_benchmark("networks_flanders").main(options)
    assert found.index.get_level_values("method").tolist()[-1] == "small-conv"
    # It begins at a line, and ends there if two steps are no better.
    assert found.loc["small-conv", "ergas"].item() < found.loc["identity", "ergas"].item()
    assert "2018-07-17 left out" in capsys.readouterr().out


@pytest.mark.real_data
def test_patches_of_a_real_pair(data, monkeypatch):
    alberta = import_benchmark("patches_alberta")
    pairs = alberta.load_pairs(data)
    north, south = alberta.halves(pairs)
    gap = north["target"].y[-1] - south["target"].y[0]
    assert float(gap) == 60 + alberta.GUARD
    scores = alberta.compare(pairs, seed=0, methods=())["ergas"].droplevel("reference")
    for part in ("blocks, patches of 16", "southern half"):
        assert scores[part]["ten-band line"] < scores[part]["six-band line"]
    assert scores["southern half"]["auto"] < scores["southern half"]["hls-v2"]


@pytest.mark.real_data
def test_the_rule_for_shipping_asks_all_four_scores(data):
    shipping = import_benchmark("shipping")
    pairs = import_benchmark("networks_flanders").load_pairs(data)
    found = shipping.compare({"the same": "hls-v2", "line": xh.fit_linear(on_target_grid(pairs))},
                             pairs)  # fmt: skip
    assert found["ships"].to_dict() == {
        "identity": False, "HLS v2": False, "the same": False, "line": True,
    }  # fmt: skip


@pytest.mark.real_data
def test_samples_of_crops_are_classified_by_cells_that_were_not_seen(data):
    pytest.importorskip("sklearn")
    crops = import_benchmark("crop_samples")
    table = crops.read_samples(data)
    assert len(table) == 472
    seen = np.isfinite(crops.monthly(table, "VV"))
    assert set(seen.mean(axis=1)) == {0.0, 1.0}  # gaps are filled, but for what was never seen
    few = table.groupby("sampling_label").head(11).reset_index(drop=True)
    scores = crops.score(few, crops.features_of(few, ("B08",), range(2)), 0)
    assert 0 < scores["OA"] < 100


def test_steps_of_training_beside_forward_passes(capsys):
    pytest.importorskip("torch")
    rows = import_benchmark("training_speed").main(["--small"])
    assert all(row["step"] > 0 and row["forward"] > 0 for row in rows.values())
    assert rows["cpu: tile-lut"]["parameters"] > rows["cpu: global-lut"]["parameters"] == 1024
    assert "ms per sample" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")  # of cut-off tiles
def test_tables_of_the_papers_at_a_tiny_size(tmp_path, capsys):
    pytest.importorskip("torch")
    papers = import_benchmark("papers")
    tiny = [str(tmp_path), "--places", "8", "--seeds", "0", "--steps", "2", "--evaluate", "1"]
    found = papers.main(["001", *tiny])
    assert {"identity", "HLS v2", "line", "hls-gan"} < set(found.index.get_level_values("method"))
    assert set(found.index.get_level_values("split")) == {"random", "scene"}
    found = papers.main(["000", *tiny])
    on_truth = found.loc["not trained on", "truth"]
    assert {"mgan", "mgan, L1 only", "small-conv", "linear kernel", "same pair"} < {*on_truth.index}
    assert "reference: observed Landsat" in on_truth.index
    found = papers.main(["002", *tiny, "--side", "64"])
    assert {"tile-lut-conv", "line per band"} < {*found.loc["scene", "truth"].index}
    told = capsys.readouterr().out
    parts = ("slope per band", "patch", "closeness", "adjacent", "seconds", "frequency")
    assert all(f"\n{part}\n" in told for part in parts)


def test_crop_maps_leave_groups_out_and_pixels_that_a_method_lacks(capsys):
    crop_maps = import_benchmark("crop_maps")
    random = np.random.default_rng(0)
    codes = np.repeat([1, 2], 60).astype(np.int32)
    values = codes + random.normal(0, 0.1, (3, codes.size))
    lacking = values.copy()
    lacking[0, :4] = np.nan
    names = ["a", "b", "c"]
    features = {
        ("5 dates", method): crop_maps.on_grid(part.astype("f4")).assign_coords(feature=names)
        for method, part in {"raw": values, "HLS v2": lacking, "noise": 0 * values}.items()
    }
    features["5 dates", "noise"] += random.normal(size=features["5 dates", "noise"].shape)
    site = crop_maps.Labelled(
        features=features,
        labels=crop_maps.on_grid(codes),
        groups={"places": crop_maps.on_grid((np.arange(120) // 10).astype(np.int32) + 1)},
    )
    found = crop_maps.table(site, seeds=1, max_per_class=30).loc["places", "5 dates"]
    assert found.loc["raw", "OA"] > 99 > 75 > found.loc["noise", "OA"]
    assert "116 labelled pixels: {1: 56, 2: 60}" in capsys.readouterr().out


@pytest.mark.slow
def test_crop_maps_of_simulated_places(tmp_path):
    pytest.importorskip("torch")
    tiny = ["simulated", str(tmp_path), "--places", "6", "--tested", "4", "--seeds", "1"]
    found = import_benchmark("crop_maps").main([*tiny, "--steps", "2"])
    assert {"raw", "mgan", "small-conv", "truth"} < set(found.loc["places", "6 dates"].index)
    assert found["OA"].between(0, 100).all()


@pytest.mark.real_data
def test_haze_scores_alike_in_a_year_and_in_a_summer(data, monkeypatch, capsys):
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    table = import_benchmark("haze").main(["--real"])
    scores = table.loc["S2 2018-07-18"]
    assert (scores > 4).all()
    assert scores.max() - scores.min() < 1.5
    assert (table.filter(like="L8", axis="index").max() < 2).all()
    assert "L8: 7 clear, 0 dropped" in capsys.readouterr().out


@pytest.mark.slow
def test_haze_of_simulated_seasons(capsys):
    table = import_benchmark("haze").main(["--seeds", "11", "--to", "2022-05-31"])
    is_hazy, is_out = table["haze"] > 0.01, table["score"] > 2
    assert is_out[is_hazy].mean() > 3 * is_out[table["haze"] < 0.003].mean()
    assert "haze-free: " in capsys.readouterr().out


def test_ranks(tmp_path, capsys):
    pytest.importorskip("torch")
    ranks = import_benchmark("ranks")
    slow = ranks.Network(latency=0.0, bandwidth=1e6)
    assert ranks.ring(1, 1e6, slow) == 0
    assert ranks.ring(4, 1e6, slow) == pytest.approx(1.5)  # each sends 1.5 times its own, at 1 MB/s
    assert ranks.speed_up(16, 1.0, 1e6, ranks.NETWORKS["10 Gbit/s Ethernet"], grows=True) < 16
    seconds = ranks.implied(14, 16, 1e6, slow)
    assert ranks.speed_up(16, seconds, 1e6, slow, grows=True) == pytest.approx(14)
    config = ranks.methods(small=True)["small-conv"]
    found = ranks.measure(config, ranks.make_pairs(48), 2)
    assert found["step"] == pytest.approx(found["computing"] + found["ranks"] + found["samples"])
    assert found["ranks"] > 0
    assert found["memory"] > 50
    assert ranks.measure_exchange(small=True).bandwidth > 0
    ranks.draw({"one": (0.1, 1e6, slow, True)}, str(tmp_path / "ranks.svg"))
    assert (tmp_path / "ranks.svg").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.real_data
def test_faulty_dates_over_the_salton_sea(data, monkeypatch, capsys):
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    table = import_benchmark("salton_real").main()
    assert (table["alarm"] == table["faulty"]).all()
    assert "caught 4 of 4; false alarms: 0 of 92 days" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.real_data
def test_closed_forms_on_chips(data, monkeypatch, tmp_path):
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    picture = tmp_path / "a.png"
    table = import_benchmark("chips_real").main(
        [str(tmp_path / "b"), "--only", "", "--picture", str(picture)]
    )
    assert table.index.levshape == (5, 3)
    assert np.isfinite(table.drop(columns="kge").values).all()  # a constant has no KGE
    assert picture.stat().st_size > 1000


def test_scores_of_paper_004():
    paper = import_benchmark("paper_004")
    random = np.random.default_rng(0)
    image = random.uniform(0.02, 0.4, (4, 20, 20)).astype(np.float32)
    ok = np.ones((20, 20), bool)
    ok[:3] = False
    same = {row["band"]: row for row in paper.scores(image, image, ok)}
    assert all(row["rmse"] == 0 and row["r2"] == 1 for row in same.values())
    off = {row["band"]: row for row in paper.scores(image + np.float32(0.01), image, ok)}
    assert off["red"]["rmse"] == pytest.approx(0.01, rel=1e-4)
    a, b = (one[0][ok].astype(float) for one in (image + np.float32(0.01), image))
    angle = np.arccos(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert off["blue"]["sam"] == pytest.approx(angle, rel=1e-6)
    cover = np.where(np.arange(20) < 10, 1, 6) * np.ones((20, 1), int)
    sums = {row["cover"]: row for row in paper.by_cover(image + 0.01, image, ok, cover)}
    assert sums["crop"]["pixels"] == sums["built"]["pixels"] == 170
    assert sums["crop"]["square"] == pytest.approx(170 * 1e-4, rel=1e-4)
    assert sums["water"]["pixels"] == 0


@pytest.mark.slow
@pytest.mark.real_data
def test_filling(data, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    table = import_benchmark("fill_real").main(["--small", "--picture", str(tmp_path / "a.png")])
    assert {"rmse nir", "kge", "ssim", "within 1 sd", "dates"} <= set(table.columns)
    assert set(table.index.get_level_values("method")) >= {"temporal", "sar, other place"}
    assert "sar, own place" in capsys.readouterr().out
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.real_data
def test_sharpening_of_real_dates(data, tmp_path):
    picture = tmp_path / "sharpened.png"
    found = import_benchmark("sharpen_real").main([str(data), "--picture", str(picture)])
    scores = found["flanders-2018"]
    assert np.isfinite(scores["ergas"]).all()
    assert scores.loc["bilinear, corrected", "flagged"] == 0
    assert scores.loc["atprk", "ergas"] < scores.loc["bilinear", "ergas"]
    panned = found["landsat_c2"]["ergas"]
    assert panned["atprk"] < 0.9 * panned["bilinear"]
    assert picture.exists()


def test_networks_of_fusion(capsys):
    found = import_benchmark("fusion_networks").main(["--small"])
    assert all(rate > 0 for rates in found.values() for rate in rates.values())
    assert capsys.readouterr().out.count("× bare") == 2


def test_kernels_of_fusion(capsys):
    found = import_benchmark("fusion").main(["--small"])
    assert found["STARFM-SI"]["numpy, pixel by pixel"] > 10 * found["STARFM-SI"]["ours"]
    assert all(took > 0 for table in found.values() for took in table.values())
    assert "share of the bound" in capsys.readouterr().out


@pytest.mark.real_data
def test_landsat_from_modis(data, monkeypatch, tmp_path):
    monkeypatch.setenv("XHARMONIZE_DATA", str(data))
    picture = tmp_path / "shenzhen.png"
    table = import_benchmark("fusion_real").main(["--picture", str(picture)])
    for date in ("2000", "2002"):
        rmse = table["rmse"].loc[date]
        for method in ("STARFM", "STARFM-SI", "ATPRK"):
            assert (rmse.loc[method] < rmse.loc["mean change"] * 1.15).all()
            assert (rmse.loc[method] < rmse.loc["nothing"]).all()
    assert picture.stat().st_size > 10_000
