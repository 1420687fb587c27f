"""Random histories in which what a session runs with changes: each context shows what held then (P7)."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sessiond import v1
from tests.model.contents import FACTS, MODELS
from tests.model.log import Refused
from tests.model.machines import PICKS, RARELY, Fault, History
from tests.model.model import SETUP


class Setups(History):
    """Prompts, models and configs that are set, and models that usage names."""

    @rule(facts=FACTS, names=st.sets(st.sampled_from(SETUP), min_size=1), pick=PICKS)
    def set_up(self, facts: v1.Session, names: set[str], pick: int) -> None:
        request = v1.UpdateSessionRequest(session=facts)
        request.session.id = self.pair.session_id
        request.update_mask.paths.extend(sorted(names))
        self.stubs.call("UpdateSession", request)
        self.pair.model.UpdateSession(request)
        self.compare(pick)

    @rule(model=MODELS, wanted=RARELY)
    def record_usage(self, model: str, wanted: bool) -> None:
        if wanted:
            request = v1.RecordUsageRequest(session_id=self.pair.session_id)
            request.records.add(model=model).usage.input_tokens = 1
            self.stubs.call("RecordUsage", request)
            self.pair.model.name_model(model)

    @rule(model=MODELS, count=st.integers(1, 3), many=st.booleans(), pick=PICKS)
    def append_with_usage(self, model: str, count: int, many: bool, pick: int) -> None:
        said = [v1.Message(role=v1.Role.ROLE_USER, parts=[v1.Part(text="go on")])] * count
        messages = self.named(said)
        request = v1.AppendMessagesRequest(messages=messages)
        request.usage.model, request.usage.usage.input_tokens = model, 1
        if many:  # such usage is counted by the other way of appends
            request.usage.request_id = messages[0].client_id
        if not isinstance(
            self.pair.call("AppendMessages", self.guard(request, Fault.NONE)), Refused
        ):
            self.sent[self.pair.session_id] += messages
        self.compare(pick)
