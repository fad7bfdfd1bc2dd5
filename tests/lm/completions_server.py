"""A completions server of one model folder, for tests: a process of its own, plain transformers.

    python completions_server.py FOLDER PORT

Speaks OpenAI's protocol as far as prompt log-probabilities go: ``echo`` with ``logprobs``, and
vLLM's ``prompt_logprobs``. What stands before ``/v1`` in the path makes it behave like others:
``/no-echo`` refuses as llama.cpp's server does, ``/ignores-echo`` answers for the generated token
alone, ``/busy`` turns every other request away, ``/down`` all of them, ``/slow`` takes a minute,
``/keyed`` wants the key ``s3cret``, ``/counts`` is well.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
requests = count()


@torch.inference_mode()
def prompt_log_probs(ids: list[int]) -> list[float | None]:
    """log P(token | tokens before it) of each token but the first."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [None, *(logits[at, token].item() for at, token in enumerate(ids[1:]))]


def choice(index: int, ids: list[int], asked: dict[str, object], kind: str) -> dict[str, object]:
    found = prompt_log_probs(ids)
    answer: dict[str, object] = {"index": index, "text": "", "finish_reason": "length"}
    if "prompt_logprobs" in asked:
        answer["prompt_logprobs"] = [
            None if value is None else {str(token): {"logprob": value, "rank": 1}}
            for token, value in zip(ids, found, strict=True)
        ]
    else:
        generated = [-0.5]
        values = generated if kind == "ignores-echo" else found + generated
        answer["logprobs"] = {"token_logprobs": values}
    return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind = self.path.split("/")[1]
        if kind == "slow":
            print("asked", flush=True)
            time.sleep(60)
        if kind == "keyed" and self.headers["authorization"] != "Bearer s3cret":
            return self.answer(401, {"error": "wrong key"})
        if kind == "no-echo" and asked.get("echo"):
            return self.answer(400, {"error": {"message": "Only no echo is supported"}})
        if kind == "down" or (kind == "busy" and next(requests) % 2 == 0):
            return self.answer(503, {"error": "overloaded"}, {"retry-after": "0"})
        prompts = asked["prompt"]
        choices = [choice(index, ids, asked, kind) for index, ids in enumerate(prompts)]
        return self.answer(200, {"choices": choices[::-1]})  # their order is the index's

    def answer(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**(headers or {}), "content-length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()
