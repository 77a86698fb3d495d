"""`--set KEY=VALUE`: any key of the plan from the command line."""

import pytest

from harness.cli.options import changes_of, settings_of
from harness.errors import PlanError
from harness.plan import Plan, with_changes

FLAGS = dict.fromkeys(("peak", "workers", "threads", "flushers", "repeat", "seed"))


def test_values_are_written_as_in_toml_and_words_may_stand_bare():
    given = settings_of(
        ["memcached.evict=false", "queue.patience_s=0.5", "queue.after_patience=refuse", "seed=7"]
    )
    plan = with_changes(Plan(scenario="test"), given, "flags")
    assert not plan.memcached.evict
    assert (plan.queue.patience_s, plan.queue.after_patience, plan.seed) == (0.5, "refuse", 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memcached.evict", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("memcached.=3", "write KEY=VALUE"),
        ("memcached.evit=false", "did you mean 'evict'?"),
        ("memcache.evict=false", "no key 'memcache'; did you mean 'memcached'?"),
        ("seed.evict=false", "seed is no table"),
        ("memcached.evict=flase", "memcached.evict: expected `bool`, got `str`"),
        ("memcached.daemons=17", "memcached.daemons: expected `int` <= 16"),
        ("seed=1\nrepeat=2", "seed: expected `int`, got `str`"),
    ],
)
def test_what_cannot_be_set_is_one_line_that_names_it(text: str, says: str):
    with pytest.raises(PlanError) as refused:
        with_changes(Plan(scenario="test"), settings_of([text]), "flags")
    assert says in str(refused.value)


def test_two_flags_do_not_contradict_each_other():
    flags = FLAGS | {"slo": (), "workers": 3, "settings": ("site.workers=4",)}
    with pytest.raises(PlanError, match="another flag sets it too"):
        changes_of(flags, {})
    remote = {"voters.generators": 2}
    with pytest.raises(PlanError, match="another flag sets it too"):
        changes_of(FLAGS | {"slo": (), "settings": ("voters.generators=3",)}, remote)
    with pytest.raises(PlanError, match="seed is given twice"):
        settings_of(["seed=1", "seed=2"])
