#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment outside the checkout, and asks its demo for an answer.
# Usage: tests/wheel.sh PYTHON
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

export PIP_CONSTRAINT=$checkout/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$checkout"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$work"/runwire-*.whl
mkdir "$work/empty"
cd "$work/empty"

env -u API_KEY -u OPENAI_API_KEY "$work/venv/bin/runwire" serve --port 0 >"$work/out" 2>&1 &
server=$!
"$work/venv/bin/python" - "$work/out" <<'ASK' || { cat "$work/out"; exit 1; }
import json
import re
import sys
import time
import urllib.request

deadline = time.monotonic() + 60
while not (found := re.search(r"http://\S+", open(sys.argv[1]).read())):
    assert time.monotonic() < deadline, "the server did not come up"
    time.sleep(0.1)
body = {"model": "echo", "messages": [{"role": "user", "content": "out of the wheel"}]}
request = urllib.request.Request(
    found[0] + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
)
with urllib.request.urlopen(request, timeout=30) as response:
    answer = json.load(response)["choices"][0]["message"]["content"]
assert "out of the wheel" in answer, answer
print(f"the wheel answers: {answer}")
ASK
kill -TERM "$server"
wait "$server"
