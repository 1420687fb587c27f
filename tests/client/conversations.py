"""A conversation in the form of each provider: what their APIs take and give, all of which must come back."""

from __future__ import annotations

from typing import Any

from sessiond import dialects

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

OPENAI: list[dict[str, Any]] = [
    {"role": "developer", "content": "You book trips. Never guess a fare."},
    {
        "role": "user",
        "name": "ada",
        "content": [
            {"type": "text", "text": "Where is this, and what is it like there now?"},
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"},
            },
            {"type": "image_url", "image_url": {"url": "https://example.org/tower.jpg"}},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "file", "file": {"file_id": "file-7vQ3kZ9m"}},
        ],
    },
    {
        "role": "assistant",
        "content": "I look both up.",
        "refusal": None,
        "annotations": [],
        "reasoning_content": "The tower is in Lisbon. Weather and fares are independent.",
        "tool_calls": [
            {
                "id": "call_w1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Lisbon"}'},
            },
            {
                "id": "call_f2",
                "type": "function",
                "function": {"name": "fares", "arguments": '{"to":"LIS","max":1e3}'},
            },
        ],
    },
    {"role": "tool", "tool_call_id": "call_f2", "content": '[{"fare": 129.90}]'},
    {
        "role": "tool",
        "tool_call_id": "call_w1",
        "content": [{"type": "text", "text": "18 °C, clear"}],
    },
    {"role": "assistant", "content": None, "refusal": "I can't help with forged papers."},
]

RESPONSES: list[dict[str, Any]] = [
    {"role": "developer", "content": "You book trips."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What does the plan say?"},
            {"type": "input_file", "file_id": "file-7vQ3kZ9m"},
            {"type": "input_file", "filename": "b.txt", "file_data": "data:text/plain;base64,Yg=="},
            {"type": "input_image", "detail": "auto", "image_url": "https://example.org/map.png"},
        ],
    },
    {
        "id": "rs_0a1",
        "type": "reasoning",
        "summary": [
            {"type": "summary_text", "text": "**Reading the plan**"},
            {"type": "summary_text", "text": "**Comparing fares**"},
        ],
        "encrypted_content": "gAAAAABo2Q7xOpaque==",
        "status": None,
    },
    {
        "id": "ws_0a2",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "fares to Lisbon"},
    },
    {
        "id": "msg_0a3",
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [
            {"type": "output_text", "annotations": [], "logprobs": [], "text": "I compare."}
        ],
    },
    {
        "id": "msg_0a4",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [
            {
                "type": "output_text",
                "text": "Two offers:",
                "annotations": [
                    {
                        "type": "url_citation",
                        "start_index": 0,
                        "end_index": 3,
                        "url": "https://example.org/fares",
                        "title": "Fares",
                    }
                ],
            },
            {"type": "refusal", "refusal": "I can't name the third."},
        ],
    },
    {
        "id": "fc_0a5",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_A",
        "name": "hold",
        "arguments": '{"offer":1}',
    },
    {
        "id": "ctc_0a6",
        "type": "custom_tool_call",
        "call_id": "call_B",
        "name": "sql",
        "input": "SELECT 1;",
    },
    {
        "id": "cu_0a7",
        "type": "computer_call",
        "call_id": "call_C",
        "status": "completed",
        "action": {"type": "click", "x": 405, "y": 157, "button": "left"},
        "pending_safety_checks": [],
    },
    {"type": "function_call_output", "call_id": "call_A", "output": "held until 18:00"},
    {"type": "custom_tool_call_output", "call_id": "call_B", "output": "1"},
    {
        "type": "computer_call_output",
        "call_id": "call_C",
        "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"},
        "acknowledged_safety_checks": [],
    },
    {
        "type": "function_call_output",
        "call_id": "call_A",
        "output": [{"type": "input_text", "text": "again"}],
    },
    {"id": "rs_0b1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo2Qnext=="},
    {
        "id": "rs_0b2",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "An open model shows it."}],
    },
    {"role": "assistant", "content": "It is held."},
]

ANTHROPIC: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
            },
            {"type": "image", "source": {"type": "url", "url": "https://example.org/tower.jpg"}},
            {
                "type": "document",
                "source": {"type": "file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"},
                "title": "plan.pdf",
                "citations": {"enabled": True},
            },
            {
                "type": "text",
                "text": "Where is this?",
                "cache_control": {"type": "ephemeral", "ttl": "5m"},
            },
        ],
    },
    {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [
            {
                "type": "thinking",
                "thinking": "A tower by a river. Weather and fares at once.",
                "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pki",
            },
            {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a"},
            {"type": "text", "text": "That looks like Lisbon.", "citations": None},
            {
                "type": "server_tool_use",
                "id": "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
                "name": "web_search",
                "input": {"query": "Belém tower"},
            },
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
                "content": [
                    {
                        "type": "web_search_result",
                        "url": "https://example.org/belem",
                        "title": "Belém",
                        "encrypted_content": "EqgfCioIARgBIiQ3YTAwMjY1",
                        "page_age": "April 30, 2025",
                    }
                ],
            },
            {
                "type": "thinking",
                "thinking": "",
                "signature": "ErUBCkYIBRgCIkDSecond",
            },
            {
                "type": "tool_use",
                "id": "toolu_01A09q90qw90lq917835lq9",
                "name": "weather",
                "input": {"city": "Lisbon", "days": 2, "from": 1.5},
            },
            {
                "type": "tool_use",
                "id": "toolu_01B",
                "name": "fares",
                "input": {},
            },
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 2095, "output_tokens": 503},
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_01B",
                "is_error": True,
                "content": "no route",
            },
            {
                "type": "tool_result",
                "tool_use_id": "toolu_01A09q90qw90lq917835lq9",
                "content": [
                    {"type": "text", "text": "18 °C"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    },
                ],
            },
            {"type": "tool_result", "tool_use_id": "toolu_01C"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_01D",
                "content": [{"type": "text", "text": "in a list"}],
            },
            {"type": "text", "text": "And by train?"},
        ],
    },
    {"role": "assistant", "content": "By train it takes two days."},
    {"role": "user", "content": [{"type": "text", "text": "Thanks."}]},
    {
        "role": "assistant",
        "content": [{"type": "container_upload", "file_id": "file_9"}, {"type": "later", "x": [1]}],
    },
]

GEMINI: list[dict[str, Any]] = [
    {
        "role": "user",
        "parts": [
            {"text": "Where is this?"},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
            {
                "fileData": {
                    "mimeType": "video/mp4",
                    "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc-123",
                },
                "videoMetadata": {"fps": 2},
            },
            {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        ],
    },
    {
        "parts": [
            {"text": "**Locating the tower**\n\nIt is in Lisbon.", "thought": True},
            {"text": "I look it up."},
            {
                "functionCall": {"name": "weather", "args": {"city": "Lisbon"}},
                "thoughtSignature": "CpcBAdHtim9T0p4que",
            },
            {"functionCall": {"name": "weather", "args": {"city": "Porto", "days": 2.0}}},
            {"functionCall": {"id": "f-1", "name": "fares"}},
            {"executableCode": {"id": "c-1", "language": "PYTHON", "code": "print(2**10)\n"}},
            {"codeExecutionResult": {"id": "c-1", "outcome": "OUTCOME_OK", "output": "1024\n"}},
        ],
        "role": "model",
    },
    {
        "role": "user",
        "parts": [
            {"functionResponse": {"name": "weather", "response": {"output": "18 °C"}}},
            {"functionResponse": {"name": "weather", "response": {"error": "no such city"}}},
            {
                "functionResponse": {
                    "id": "f-1",
                    "name": "fares",
                    "response": {"fares": [129.9, {"then": None}]},
                }
            },
        ],
    },
    {"role": "model", "parts": [{"text": "18 °C."}, {"text": "", "thoughtSignature": "CtEnd"}]},
    {"parts": [{"text": "Thanks"}]},
]

FORMS: dict[str, tuple[Any, Any, list[dict[str, Any]]]] = {
    "openai": (dialects.from_openai, dialects.to_openai, OPENAI),
    "openai_responses": (
        dialects.from_openai_responses,
        dialects.to_openai_responses,
        RESPONSES,
    ),
    "anthropic": (dialects.from_anthropic, dialects.to_anthropic, ANTHROPIC),
    "gemini": (dialects.from_gemini, dialects.to_gemini, GEMINI),
}
"""To messages, back, and a conversation, by the form's name."""
