"""JSON values changed at random, for tests that feed readers with what others might write."""

from __future__ import annotations

import copy

from hypothesis import strategies as st

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, -1, 1e-320, 1e308, 2**31, "", "..", "/", "\x00", "\ud800", "1220"])
    | st.sampled_from(["\x1b[31m", "http://[", "<VRTDataset/>", "/vsizip/x", "EPSG:1", "NaN", "$"])
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def places_of(value, path=()):
    """Paths of all values within a value."""
    yield path
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from places_of(part, (*path, key))


@st.composite
def changes(draw, original):
    """A JSON value with one to three values replaced, removed, added or exchanged."""
    changed = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in places_of(changed) if path]
        if not paths:
            break
        *parents, last = draw(st.sampled_from(paths))
        place = changed
        for key in parents:
            place = place[key]
        kind = draw(st.sampled_from(["replace", "remove", "add", "double", "nudge"]))
        if kind == "remove":
            del place[last]
        elif kind == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=8) | st.just("xharmonize:x"))] = draw(values)
        elif kind == "double" and isinstance(place, list):
            place.append(place[last])
        elif kind == "nudge" and isinstance(place[last], (int, float)):
            place[last] = place[last] * draw(st.sampled_from([-1, 0, 0.5, 2, 1e9])) + draw(
                st.sampled_from([-1, 0, 1])
            )
        else:
            place[last] = draw(values)
    return changed
