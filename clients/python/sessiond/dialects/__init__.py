"""Messages from and to the forms of model providers.

Each form has a pair of functions: `from_…` takes the dicts that its API takes and gives, and `to_…` gives
them back, equal and in order. Nothing here needs a provider's library.
"""

from __future__ import annotations

from sessiond.dialects.anthropic import from_anthropic, to_anthropic
from sessiond.dialects.gemini import from_gemini, to_gemini
from sessiond.dialects.openai_chat import from_openai, to_openai
from sessiond.dialects.openai_responses import from_openai_responses, to_openai_responses

__all__ = [
    "from_anthropic",
    "from_gemini",
    "from_openai",
    "from_openai_responses",
    "to_anthropic",
    "to_gemini",
    "to_openai",
    "to_openai_responses",
]
