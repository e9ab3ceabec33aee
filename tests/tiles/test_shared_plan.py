"""The plan that all tasks of a generator carry."""

import pickle

from xharmonize.tiles.graph import Shared


class Plan:
    """Any value; this one counts how often it is read."""

    n_read = 0

    def __setstate__(self, state):
        type(self).n_read += 1


def test_a_process_reads_a_plan_once_however_many_tasks_carry_it():
    Plan.n_read = 0
    shared = Shared(Plan())
    shared.plan.name = "a"  # a state to be read
    sent = [pickle.dumps(shared) for _ in range(3)]
    found = [pickle.loads(data) for data in sent]
    assert found[0] is found[1] is found[2]
    assert Plan.n_read == 1
    assert pickle.loads(pickle.dumps(found[0])) is found[0]  # passed on by a worker


def test_plans_that_differ_are_not_mistaken_for_one_another():
    one, other = (pickle.loads(pickle.dumps(Shared(plan))) for plan in ("one", "other"))
    assert (one.plan, other.plan) == ("one", "other")
