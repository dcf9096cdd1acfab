"""The models' hosts of every vendor in one server. Without one of the keys in `keys` it answers 401; with it, each protocol's
smallest answer. It tells what it is asked, and holds the answers of models until there is a file `go`, so that a test can look
around meanwhile.

With a file `script.json`, a list of calls, models make those one after the other, each once the result of the one before is there, and
then answer with the last result: {"tool": "shell", "command": …} or {"tool": NAME, "arguments": {…}} for a tool of an MCP server.

With a file `hidden`, it says which of the values there it has seen in a request, and how many stars were in the request.

`vendors.py FOLDER ADDRESS`: FOLDER has these files and the certificate."""
import json, os, ssl, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FOLDER, ADDRESS = sys.argv[1], sys.argv[2]
KEYS = open(FOLDER + "/keys").read().split()
TEXT = "The answer is forty-two."
# A host that is no model's: it says what a test waits for.
PLAIN = "new.example.com"
# The tools by which agents run a command of a shell, and the argument of each.
SHELLS = {"Bash": "command", "exec_command": "cmd", "shell_command": "command", "shell": "command", "run_shell_command": "command"}


def texts(value):
    """All texts of a result, in one."""
    if isinstance(value, str): return value
    if isinstance(value, list): return " ".join(map(texts, value))
    if isinstance(value, dict): return " ".join(map(texts, value.values()))
    return ""


def scripted(step):
    """The same call in JavaScript, for a model whose only tool runs that. It waits for the operator."""
    name, arguments = (step["tool"], step.get("arguments"))
    if name == "shell": name, arguments = "exec_command", {"cmd": step["command"]}
    found = "const found = ALL_TOOLS.find(tool => tool.name.endsWith(%s));" % json.dumps(name)
    call = "text(JSON.stringify(await tools[found.name](%s)));" % json.dumps(arguments)
    return "exec", "functions", '// @exec: {"yield_time_ms": 120000}\n%s\n%s' % (found, call)


def turn(results, tools):
    """What a model does next, by the results so far and the tools that it is offered, as pairs of a name and a namespace: a call as
    (name, namespace, arguments), or a text."""
    try: script = json.load(open(FOLDER + "/script.json"))
    except FileNotFoundError: return TEXT
    print("tools", *["%s%s" % (space or "", name) for name, space in tools], flush=True)
    if not any(name in SHELLS or name == "exec" for name, _ in tools): return TEXT  # A question beside the work, as for a title.
    for number, result in enumerate(results): print("result", number, json.dumps(texts(result))[:600], flush=True)
    if len(results) >= len(script): return "It said: " + texts(results[-1])
    step = script[len(results)]
    if step["tool"] == "shell" and ("exec", "functions") in tools: return scripted(step)
    if step["tool"] == "shell":
        name, space = next(one for one in tools if one[0] in SHELLS)
        command = ["sh", "-c", step["command"]] if name == "shell" else step["command"]
        return name, space, {SHELLS[name]: command} | ({"description": "x"} if name in ("Bash", "run_shell_command") else {})
    found = [one for one in tools if one[0].endswith(step["tool"])]
    if not found and ("exec", "functions") in tools: return scripted(step)
    if not found: return "there is no tool " + step["tool"]
    return *found[0], step["arguments"]


def events(*all):
    """Server-sent events, named by their type."""
    return "".join("event: %s\ndata: %s\n\n" % (e["type"], json.dumps(e)) for e in all)


def messages(asked):
    """Anthropic's Messages API."""
    usage = {"input_tokens": 5, "output_tokens": 1}
    blocks = [b for m in asked.get("messages", []) if isinstance(m["content"], list) for b in m["content"]]
    results = [b.get("content") for b in blocks if b.get("type") == "tool_result"]
    act = turn(results, [(tool.get("name", ""), None) for tool in asked.get("tools", [])])
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked.get("model", "m"), "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}
    if isinstance(act, str):
        block, begun, reason = {"type": "text", "text": act}, {"type": "text", "text": ""}, "end_turn"
        delta = {"type": "text_delta", "text": act}
    else:
        begun = {"type": "tool_use", "id": "toolu_%d" % len(results), "name": act[0], "input": {}}
        block, reason = begun | {"input": act[2]}, "tool_use"
        delta = {"type": "input_json_delta", "partial_json": json.dumps(act[2])}
    if not asked.get("stream"):
        return json.dumps(message | {"content": [block], "stop_reason": reason})
    return events(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"})


def responses(asked):
    """OpenAI's Responses API."""
    given = asked.get("input", [])
    given = [one for one in given if isinstance(one, dict)]
    results = [one.get("output") for one in given if one.get("type") in ("function_call_output", "custom_tool_call_output")]
    tools = []
    # Newer models get their tools as a part of the conversation.
    for tool in asked.get("tools", []) + [tool for one in given for tool in one.get("tools", [])]:
        # Tools of an MCP server may be in a namespace.
        inside = tool.get("tools") if tool.get("type") == "namespace" else None
        tools += [(one.get("name", ""), tool["name"]) for one in inside] if inside else [(tool.get("name") or tool.get("type", ""), None)]
    act = turn(results, tools)
    if not isinstance(act, str):
        return called(asked, act, len(results))
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": act, "annotations": []}]}
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None,
                "model": asked.get("model", "m"), "output": [item], "usage": usage, "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": []}
    if not asked.get("stream"):
        return json.dumps(response)
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    return events(
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
         "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", "sequence_number": 2, "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", "sequence_number": 3, "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "delta": act},
        {"type": "response.output_text.done", "sequence_number": 4, "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "text": act},
        {"type": "response.output_item.done", "sequence_number": 5, "output_index": 0, "item": item},
        {"type": "response.completed", "sequence_number": 6, "response": response})


def called(asked, act, number):
    """A call in OpenAI's Responses API."""
    # A custom tool takes a text.
    is_custom = isinstance(act[2], str)
    kind, given = ("custom_tool_call", {"input": act[2]}) if is_custom else ("function_call", {"arguments": json.dumps(act[2])})
    item = {"type": kind, "id": "c_%d" % number, "call_id": "call_%d" % number, "name": act[0], "status": "completed"}
    item |= given | ({"namespace": act[1]} if act[1] else {})
    usage = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
             "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14}
    response = {"id": "resp_%d" % number, "object": "response", "created_at": 1, "status": "completed", "error": None,
                "model": asked.get("model", "m"), "output": [item], "usage": usage, "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": []}
    return events(
        {"type": "response.created", "sequence_number": 0, "response": response | {"status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item},
        {"type": "response.output_item.done", "sequence_number": 2, "output_index": 0, "item": item},
        {"type": "response.completed", "sequence_number": 3, "response": response})


def completions(asked):
    """OpenAI's Chat Completions API, which others speak, too."""
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    base = {"id": "c1", "created": 1, "model": asked.get("model", "m")}
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
        return json.dumps(base | {"object": "chat.completion", "choices": [choice], "usage": usage})
    def chunk(delta, reason):
        return base | {"object": "chat.completion.chunk",
                       "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    chunks = [chunk({"role": "assistant", "content": TEXT}, None), chunk({}, "stop") | {"usage": usage}]
    return "".join("data: %s\n\n" % json.dumps(c) for c in chunks) + "data: [DONE]\n\n"


def generated(path, asked):
    """Gemini's API."""
    if path.endswith(":countTokens"):
        return json.dumps({"totalTokens": 5})
    # What Gemini CLI asks first: how hard the question is.
    wants_json = asked.get("generationConfig", {}).get("responseMimeType") == "application/json"
    parts = [part for content in asked.get("contents", []) for part in content.get("parts", [])]
    results = [part["functionResponse"].get("response") for part in parts if "functionResponse" in part]
    tools = [(one["name"], None) for tool in asked.get("tools", []) for one in tool.get("functionDeclarations", [])]
    act = turn(results, tools)
    said = json.dumps({"complexity_reasoning": "x", "complexity_score": 10}) if wants_json else act
    part = {"text": said} if isinstance(said, str) else {"functionCall": {"name": act[0], "args": act[2]}}
    answer = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
              "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9, "totalTokenCount": 14}, "modelVersion": "m"}
    text = json.dumps(answer)
    return "data: %s\n\n" % text if path.endswith(":streamGenerateContent") else text


def described():
    """Models as OpenAI and Copilot list them."""
    limits = {"max_context_window_tokens": 128000, "max_output_tokens": 16000, "max_prompt_tokens": 111000}
    def model(name):
        return {"id": name, "object": "model", "name": name, "vendor": "v", "version": "1", "preview": False,
                "model_picker_enabled": True, "policy": {"state": "enabled", "terms": ""}, "billing": {"multiplier": 1},
                "supported_endpoints": ["/chat/completions"], "created": 1, "owned_by": "v",
                "capabilities": {"family": name, "type": "chat", "object": "model_capabilities", "tokenizer": "o200k_base",
                                 "limits": limits, "supports": {"streaming": True, "tool_calls": True}}}
    return {"object": "list", "data": [model(name) for name in ("gpt-5", "claude-sonnet-4.5", "gpt-5-mini")]}


# What a subscription to Copilot is.
USER = {"login": "octocat", "id": 1, "copilot_plan": "individual", "chat_enabled": True, "access_type_sku": "individual",
        "endpoints": {"api": "https://api.individual.githubcopilot.com", "proxy": "https://proxy.individual.githubcopilot.com",
                      "telemetry": "https://telemetry.individual.githubcopilot.com"}}

class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): pass

    def answer(self, code, body, kind="application/json"):
        body = body if isinstance(body, str) else json.dumps(body)
        kind = "text/event-stream" if body.startswith(("event:", "data:")) else kind
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode() if self.command != "HEAD" else b"")

    def serve(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urlsplit(self.path)
        if os.path.exists(FOLDER + "/hidden"):
            for value in json.load(open(FOLDER + "/hidden")):
                if value.encode() in body or json.dumps(value)[1:-1].encode() in body: print("SEEN", value, flush=True)
            print("stars", body.count(b"*"), flush=True)
        if self.headers.get("host") == PLAIN:
            print(self.command, PLAIN, url.path, flush=True)
            return self.answer(200, "what the host has\n", "text/plain")
        shown = [self.headers.get(name) for name in ("x-api-key", "x-goog-api-key", "authorization")]
        shown = [value.split(" ")[-1] for value in shown if value] + parse_qs(url.query).get("key", [])
        has = "with the key" if set(KEYS) & set(shown) else "with another key" if shown else "without a key"
        print(self.command, self.headers.get("host"), url.path, has, flush=True)
        if has != "with the key":
            said = {"type": "error", "error": {"type": "authentication_error", "message": "invalid key", "code": 401}}
            return self.answer(401, said)
        if self.headers.get("upgrade"):
            return self.answer(426, {})
        try: asked = json.loads(body or b"{}")
        except ValueError: asked = {}
        path, answer = url.path, None
        if path.endswith("/count_tokens"): return self.answer(200, {"input_tokens": 5})
        if self.command == "GET":
            if path.endswith("/models"): return self.answer(200, described())
            if path in ("/user", "/copilot_internal/user"): return self.answer(200, USER)
            return self.answer(404, {"message": "Not Found"})
        if path.endswith("/messages"): answer = messages(asked)
        elif path.endswith("/responses"): answer = responses(asked)
        elif path.endswith("/chat/completions"): answer = completions(asked)
        elif path.startswith("/v1beta/models/"): answer = generated(path, asked)
        if answer is None: return self.answer(404, {"message": "Not Found"})
        print("asked a model", flush=True)
        while not os.path.exists(FOLDER + "/go"): time.sleep(0.02)
        self.answer(200, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve


server = ThreadingHTTPServer((ADDRESS, 443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(FOLDER + "/leaf.pem", FOLDER + "/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listens", flush=True)
server.serve_forever()
