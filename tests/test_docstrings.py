"""Examples: each public name has one, and those in docstrings run."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

import xharmonize as xh
from xharmonize import testing
from xharmonize.metrics import registry

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md"), DOCS.parent / "README.md"]
CODE = re.compile(r"```(?:python|\{code-cell\} ipython3)\n(.*?)```", re.S)
PLACES = {
    name: module
    for module in (xh.crops, xh.metrics, xh.sensors, xh.series, xh)
    for name in module.__all__
    if name not in ("__version__", "UNKNOWN")
    and not name.endswith(("Classifier", "Error"))
    and (module in (xh, xh.series, xh.crops) or inspect.isfunction(getattr(module, name)))
    and not inspect.ismodule(getattr(module, name))
}
NAMES = [*PLACES]
OBJECTS = [
    *(getattr(module, name) for name, module in PLACES.items()),
    *(getattr(testing, name) for name in testing.__all__),
]
WITH_EXAMPLES = [
    item for item in OBJECTS if re.search(r">>> (?!.*SKIP)", inspect.getdoc(item) or "")
]


@pytest.fixture(scope="module")
def blocks() -> str:
    """All Python of the guides, which `test_docs` runs."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    return "\n".join(found for text in texts for found in CODE.findall(text))


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_has_an_example(name: str, blocks: str) -> None:
    shown = re.search(rf"\b(?:xh|harmonize)\.(?:\w+\.)?{name}\b", blocks)
    assert shown or ">>>" in (inspect.getdoc(getattr(PLACES[name], name)) or "")


@pytest.mark.parametrize("item", WITH_EXAMPLES, ids=lambda item: item.__name__)
def test_examples_of_docstrings_run(item: object, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "METRICS", dict(registry.METRICS))  # one example adds its own
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    module = inspect.getmodule(item)
    for test in doctest.DocTestFinder(recurse=False).find(item, module=module):
        runner.run(test)
    assert runner.failures == 0
    assert runner.tries > 0
