"""The official client against the scripted endpoint: what it reads is what the script says.

    python anthropic_client.py [http://127.0.0.1:PORT]

The endpoint plays anthropic_script.yaml; without a URL it is built and started here. Nothing else is reached. The last
line counts, as cargo's tests do.
"""

import atexit
import os
import subprocess
import sys
import traceback
from pathlib import Path

import anthropic

HERE = Path(__file__).resolve().parent


def serve():
    cargo = [os.environ.get("CARGO", "cargo"), "run", "--quiet", "-p", "server", "--example", "scripted", "--"]
    command = [*cargo, str(HERE / "anthropic_script.yaml")]
    server = subprocess.Popen(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    return server.stdout.readline().strip()


url = sys.argv[1] if len(sys.argv) > 1 else serve()
client = anthropic.Anthropic(api_key="sk-scripted", base_url=url, max_retries=2, timeout=20)
TOOLS = [{"name": "read", "description": "reads", "input_schema": {"type": "object"}}]


def ask(text, **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return dict(model="scripted/oracle", max_tokens=1000, messages=messages, **more)


def streamed(text, **more):
    with client.messages.stream(**ask(text, **more)) as stream:
        return "".join(stream.text_stream), stream.get_final_message()


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def whole_message():
    message = client.messages.create(**ask("hi"))
    assert message.content[0].text == "Hello, ünïcode 漢!", message
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", "scripted/oracle"), message
    assert message.id.startswith("msg_") and message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def streamed_message():
    text, message = streamed("hi")
    assert text == message.content[0].text == "Hello, ünïcode 漢!", text
    assert message.model_dump() == client.messages.create(**ask("hi")).model_dump(), "streamed and whole are the same"


def named_as_scripted():
    response = client.messages.with_raw_response.create(**ask("hi"))
    assert response.headers["vteam-scripted"] == "oracle", response.headers


def tool_loop():
    _, message = streamed("tools", tools=TOOLS)
    thinking, text, first, second = message.content
    assert (thinking.thinking, thinking.signature, text.text) == ("Two files.", "c2ln", "Reading."), message
    assert (first.name, first.input, second.input) == ("read", {"path": "a.txt", "lines": [1, 2]}, {}), message
    assert first.id != second.id and message.stop_reason == "tool_use"
    usage = message.usage
    counted = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens, usage.output_tokens)
    assert counted == (11, 12, 13, 14), usage
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "content of a"} for use in (first, second)]
    history = [
        {"role": "user", "content": "tools"},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
        {"role": "user", "content": results},
    ]
    text, message = streamed("", messages=history, tools=TOOLS)
    assert (text, message.stop_reason) == ("Both read.", "end_turn"), message


def retries_when_overloaded():
    assert client.messages.create(**ask("busy")).content[0].text == "After all."


def refused_key():
    error = raises(anthropic.AuthenticationError, lambda: client.messages.create(**ask("key")))
    assert error.status_code == 401 and error.body["error"]["type"] == "authentication_error", error.body


def rate_limit_that_is_not_to_be_retried():
    raises(anthropic.RateLimitError, lambda: client.messages.create(**ask("limit")))


def error_in_mid_stream():
    raises(anthropic.APIStatusError, lambda: streamed("breaks"))


def dropped_connection():
    raises(Exception, lambda: streamed("drops"))


def truncated_stream():
    text, message = streamed("ends early")
    assert (text, message.stop_reason) == ("Half of ", None), (text, message)


def unknown_things():
    for words in ("new event", "new delta", "new block"):
        text, message = streamed(words)
        assert (text, message.stop_reason) == ("Still here.", "end_turn"), (words, text, message)


def stop_reason():
    assert client.messages.create(**ask("long")).stop_reason == "max_tokens"


def count_tokens():
    counted = client.messages.count_tokens(model="scripted/oracle", messages=[{"role": "user", "content": "hi " * 100}])
    assert 50 < counted.input_tokens < 200, counted


def bad_request():
    error = raises(anthropic.BadRequestError, lambda: client.messages.create(**ask("", messages=[])))
    assert error.body["error"]["type"] == "invalid_request_error", error.body


CHECKS = [
    whole_message, streamed_message, named_as_scripted, tool_loop, retries_when_overloaded, refused_key,
    rate_limit_that_is_not_to_be_retried, error_in_mid_stream, dropped_connection, truncated_stream, unknown_things,
    stop_reason, count_tokens, bad_request,
]

if __name__ == "__main__":
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"test anthropic_client::{check.__name__} ... ok")
        except Exception:
            failed += 1
            print(f"test anthropic_client::{check.__name__} ... FAILED")
            traceback.print_exc()
    outcome = "FAILED" if failed else "ok"
    print(f"test result: {outcome}. {len(CHECKS) - failed} passed; {failed} failed; 0 ignored")
    sys.exit(1 if failed else 0)
