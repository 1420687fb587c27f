"""How random tests run: the profiles of hypothesis, `default` and `ci`, and how many examples a test tries.

Hypothesis takes `ci` where the variable CI is set. There it tries more examples, and shows a failure as it
found it: minutes of looking for a smaller one would tell nobody more. Either profile prints what repeats it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

_USUAL = 100
_PHASES = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]

# No deadlines: real servers answer, on busy machines.
_SLOW = settings(
    settings.get_profile("default"),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("default", _SLOW, max_examples=_USUAL)
settings.register_profile("ci", _SLOW, max_examples=2 * _USUAL, phases=_PHASES)


def examples(count: int) -> int:
    """How many examples a test tries that usually tries so many: more where the profile has more."""
    return count * settings().max_examples // _USUAL
