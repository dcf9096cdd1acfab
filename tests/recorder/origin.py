"""An addon of mitmproxy: plays the services that the tools ask for, just well enough for them to go on, and writes what it is sent.
Nothing is forwarded.

Each request is one line of JSON in the file of the tool that is named in the file `current`: method, scheme, host, path, version,
headers in their order, and the body as text, as base64, or as marks (see `recorded.rs` in tests/egress, which reads them)."""
import base64, gzip, hashlib, json, os, re
from urllib.parse import parse_qs, urlsplit
from mitmproxy import http

FOLDER = os.environ["RECORDER"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOKENS = {name: "".join(pieces) for name, pieces in json.load(open(os.environ["RECORDED"] + "/tokens.json")).items()}
LONG = open(os.environ["RECORDED"] + "/long.txt", encoding="utf-8").read()
# The text within a string of JSON, as serializers write it.
LONGS = {"long:ascii": json.dumps(LONG)[1:-1], "long:utf8": json.dumps(LONG, ensure_ascii=False)[1:-1], "long:plain": LONG}
# The metadata services of clouds, which some programs look for: no bottle reaches them.
METADATA = ("169.254.169.254", "metadata.google.internal")
MAX_BODY = 80 << 10


def marked(text):
    """The text without what scanners of repositories take for tokens, and without the long text."""
    for name, long in LONGS.items():
        text = text.replace(long, "{{%s}}" % name)
    # The longest first: one may be a part of another.
    for name, token in sorted(TOKENS.items(), key=lambda one: -len(one[1])):
        text = text.replace(token, "{{token:%s}}" % name)
    # Where it was recorded.
    for folder, other in ((FOLDER + "/work", "/home/me/project"), (FOLDER + "/home", "/home/me"), (FOLDER, "/opt/recorder"), (ROOT, "/opt/recorder")):
        text = text.replace(folder, other).replace(folder[1:], other[1:])
    # What a tool signs itself.
    return re.sub(r"eyJ[A-Za-z0-9_-]{17,}\.eyJ[A-Za-z0-9_-]{17,}\.[A-Za-z0-9_-]{20,}", "{{token:jwt}}", text)


def header(value):
    text = value.decode("utf-8", "surrogateescape")
    basic = re.fullmatch(r"(?i)(basic )([A-Za-z0-9+/]+=*)", text)
    if basic:
        inner = base64.b64decode(basic[2]).decode("utf-8", "replace")
        if marked(inner) != inner and base64.b64encode(inner.encode()).decode() == basic[2]:
            return basic[1] + "{{base64:%s}}" % marked(inner)
    return marked(text)


def body(content):
    try:
        text = marked(content.decode())
        if len(text) <= MAX_BODY:
            return {"text": text}
    except UnicodeDecodeError:
        if len(content) <= MAX_BODY:
            return {"base64": base64.b64encode(content).decode()}
    return None


def shape(flow, content):
    """What makes two requests the same: all but ids, times and random words."""
    split = urlsplit(flow.request.path)
    plain = lambda text: re.sub(r"[0-9a-fA-F-]{8,}|\d+", "0", text)
    names = sorted(name.lower().decode("latin-1") for name, _ in flow.metadata["head"])
    kind = flow.request.headers.get("content-type", "").split(";")[0]
    # Of an API that is called by one path, the fields tell calls apart.
    keys = sorted(set(re.findall(rb'"([a-zA-Z_.]{2,24})"\s*:|\bname="([^"]*)"', content[:20000])))[:40]
    return repr((flow.request.method, flow.request.pretty_host, plain(split.path), sorted(parse_qs(split.query, True)), names, kind, keys))


class Recorder:
    def __init__(self):
        self.seen, self.counts = {}, {}

    def requestheaders(self, flow):
        flow.metadata["head"] = tuple(flow.request.headers.fields)

    def request(self, flow):
        try:
            self.record(flow)
            flow.response = answer(flow)
        except Exception as error:
            import traceback
            traceback.print_exc()
            flow.response = http.Response.make(500, str(error))

    def record(self, flow):
        tool = open(FOLDER + "/current").read().strip()
        content = flow.request.raw_content or b""
        if flow.request.pretty_host in METADATA: return
        shaped, kept = shape(flow, content), body(content)
        if kept is None:
            print("too long:", tool, flow.request.pretty_url, len(content), flush=True)
            return
        seen = self.seen.setdefault(tool, set())
        if shaped in seen or len(seen) >= 24:
            return
        seen.add(shaped)
        http2 = flow.request.http_version.startswith("HTTP/2")
        line = {"tool": tool, "method": flow.request.method, "scheme": flow.request.scheme,
                "host": flow.request.pretty_host + ("" if flow.request.port in (80, 443) else ":%d" % flow.request.port),
                "path": marked(flow.request.path), "version": "2" if http2 else "1.1",
                "headers": [[name.decode("latin-1"), header(value)] for name, value in flow.metadata["head"]]}
        if content:
            line |= kept
        with open("%s/out/%s.jsonl" % (FOLDER, tool), "a") as out:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def events(*all):
    return "".join(("event: %s\n" % e["type"] if "type" in e else "") + "data: %s\n\n" % json.dumps(e) for e in all)


def reply(value, status=200, **headers):
    text = value if isinstance(value, (str, bytes)) else json.dumps(value)
    kind = "text/html" if isinstance(value, str) and value.startswith("<!") else "application/xml" if isinstance(value, str) and value.startswith("<") else \
        "text/event-stream" if isinstance(value, str) and value.startswith(("event:", "data:")) else "application/json"
    fields = {"content-type": kind} | {name.replace("_", "-"): text for name, text in headers.items()}
    return http.Response.make(status, text, fields)


def answer(flow):
    request = flow.request
    host, path, method = request.pretty_host, urlsplit(request.path).path, request.method
    kind = request.headers.get("content-type", "")
    asked = {}
    if "json" in kind:
        try: asked = json.loads(request.raw_content or b"{}")
        except ValueError: pass
    if kind.startswith("application/grpc") and "web" not in kind:
        answered = http.Response.make(200, b"\0\0\0\0\0", {"content-type": "application/grpc"})
        answered.trailers = http.Headers([(b"grpc-status", b"0")])
        return answered
    if "grpc-web" in kind:
        frames = b"\0\0\0\0\0" + b"\x80\0\0\0\x0fgrpc-status:0\r\n"
        return http.Response.make(200, base64.b64encode(frames) if "text" in kind else frames, {"content-type": kind})
    for pattern, play in PLAYS:
        if re.fullmatch(pattern, host):
            played = play(request, host, path, method, asked)
            if played is not None:
                return played
    return reply({})


def anthropic(request, host, path, method, asked):
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "Hi."}],
               "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1}}
    if path.endswith("/count_tokens"): return reply({"input_tokens": 5})
    if path == "/v1/messages" and asked.get("stream"):
        return reply(events({"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}},
            {"type": "message_stop"}))
    if path == "/v1/messages": return reply(message)
    if path == "/v1/files": return reply({"id": "file_1", "type": "file", "filename": "a", "mime_type": "text/plain", "size_bytes": 1, "created_at": "2026-01-01T00:00:00Z"})
    if path == "/v1/messages/batches": return reply({"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress", "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}, "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z"})


def openai(request, host, path, method, asked):
    if path.endswith("/chat/completions"):
        base = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
        if asked.get("stream"):
            chunk = base | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}]}
            last = base | {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            return reply(events(chunk, last) + "data: [DONE]\n\n")
        return reply(base | {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
    if path.endswith("/responses"):
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}
        response = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None, "model": "m", "output": [item], "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14}, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        if asked.get("stream"):
            return reply(events({"type": "response.created", "sequence_number": 0, "response": response | {"status": "in_progress", "output": [], "usage": None}},
                {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item | {"content": []}},
                {"type": "response.output_item.done", "sequence_number": 2, "output_index": 0, "item": item},
                {"type": "response.completed", "sequence_number": 3, "response": response}))
        return reply(response)
    if path.endswith("/embeddings"): return reply({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": "AACAPw==" if asked.get("encoding_format") == "base64" else [1.0]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    if path.endswith("/files"): return reply({"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "batch", "status": "processed"})
    if path.endswith("/batches"): return reply({"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1", "completion_window": "24h", "status": "validating", "created_at": 1})
    if path.endswith("/models"): return reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "o"}]})
    if path.endswith("/transcriptions"): return reply({"text": "Hi"})
    if "/images/" in path: return reply({"created": 1, "data": [{"b64_json": "AAAA"}]})


def google(request, host, path, method, asked):
    if path.startswith("/upload/"):
        if request.headers.get("x-goog-upload-command") == "start" or "uploadType=resumable" in request.path and method == "POST":
            return reply({}, X_Goog_Upload_URL="https://%s%s?upload_id=u1&upload_protocol=resumable" % (host, path), location="https://%s%s?uploadType=resumable&upload_id=u1" % (host, path), x_goog_upload_status="active")
        return reply({"file": {"name": "files/1", "uri": "https://x/files/1", "state": "ACTIVE", "mimeType": "text/plain"}, "name": "o", "bucket": "b", "kind": "storage#object"}, x_goog_upload_status="final")
    result = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}
    if ":streamGenerateContent" in path: return reply("data: %s\r\n\r\n" % json.dumps(result))
    if ":generateContent" in path: return reply(result)
    if ":countTokens" in path: return reply({"totalTokens": 3})
    if "mbedContent" in path: return reply({"embeddings": [{"values": [1.0]}], "embedding": {"values": [1.0]}})
    if path.endswith("/token"): return reply({"access_token": TOKENS["googleoauth"], "expires_in": 3600, "token_type": "Bearer"})


def aws(request, host, path, method, asked):
    query = urlsplit(request.path).query
    if host.startswith("sts."): return reply("<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn><UserId>A</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
    if not (".s3" in host or host.startswith("s3")): return reply({}, x_amzn_requestid="r")
    if "/r/" in path and method in ("GET", "HEAD"): return http.Response.make(404, b"<Error><Code>NoSuchKey</Code></Error>")
    if "prefix=r%2F" in query: return reply("<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>")
    if method == "POST" and query.startswith("uploads"): return reply("<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
    if method == "POST" and "uploadId" in query: return reply("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>")
    if method == "POST" and "delete" in query: return reply("<DeleteResult/>")
    if method == "PUT" and "x-amz-copy-source" in request.headers: return reply("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>")
    if method == "PUT": return reply("", etag='"%s"' % hashlib.md5(request.raw_content or b"").hexdigest())
    if method == "GET" and "list-type" in query: return reply("<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>k</Key><Size>1</Size><ETag>\"e\"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>")
    if method == "GET" and path in ("/", "") and not query.startswith("list"): return reply("<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>")
    return http.Response.make(200, b"x", {"etag": '"e"', "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT", "content-type": "text/plain"})


def registry(request, host, path, method, asked):
    """Images: a token service, blobs, manifests, uploads."""
    if path == "/token" or path.endswith("/oauth2/token"): return reply({"token": TOKENS["jwt"], "access_token": TOKENS["jwt"], "expires_in": 300})
    if "authorization" not in request.headers:
        scope = path.split("/")[2:-2]
        return reply({"errors": [{"code": "UNAUTHORIZED"}]}, 401, www_authenticate='Bearer realm="https://%s/token",service="%s",scope="repository:%s:pull,push"' % ({"registry-1.docker.io": "auth.docker.io"}.get(host, host), host, "/".join(scope)))
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"config":{}}' % hashlib.sha256(b"").hexdigest().encode()
    layer = gzip.compress(b"", mtime=0)
    digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digest(config)}, "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer), "digest": digest(layer)}]}).encode()
    if "/manifests/" in path and method == "PUT": return http.Response.make(201, b"", {"docker-content-digest": digest(request.content)})
    if "/manifests/" in path and method in ("GET", "HEAD") and "pushed" not in path:
        return http.Response.make(200, manifest if method == "GET" else b"", {"content-type": "application/vnd.docker.distribution.manifest.v2+json", "docker-content-digest": digest(manifest)})
    if "/blobs/uploads" in path:
        if method == "POST": return http.Response.make(202, b"", {"location": "https://%s%s1f0a?_state=aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3dE6g" % (host, path if path.endswith("/") else path + "/"), "range": "0-0", "docker-upload-uuid": "1f0a"})
        if method == "PATCH": return http.Response.make(202, b"", {"location": "https://%s%s?_state=bB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3dE6g" % (host, path), "range": "0-%d" % (len(request.content) - 1), "docker-upload-uuid": "1f0a"})
        return http.Response.make(201, b"", {"location": "https://%s/v2/x" % host, "docker-content-digest": parse_qs(urlsplit(request.path).query).get("digest", [""])[0]})
    for data in (config, layer):
        if path.endswith(digest(data)) and "pushed" not in path: return http.Response.make(200, data if method == "GET" else b"", {"content-length": str(len(data))} if method == "GET" else {})
    if "/blobs/" in path or "/manifests/" in path: return reply({"errors": []}, 404)
    return reply({}, docker_distribution_api_version="registry/2.0")


def presigned(host, rest=""):
    return "https://%s/o/1?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s%%2F20261128%%2Fus-east-1%%2Fs3%%2Faws4_request&X-Amz-Date=20261128T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=%s%s" % (host, TOKENS["aws"], "0123456789abcdef" * 4, rest)


def github(request, host, path, method, asked):
    sas = "sp=r&sv=2018-11-09&sr=b&spr=https&se=2026-12-01T00%3A00%3A00Z&rscd=attachment%3B+filename%3Da.tar.gz&rsct=application%2Foctet-stream&skoid=96c2d410-5711-43a1-aedd-ab1947aa7ab0&sig=" + TOKENS["sas"] + "%3D&jwt=" + TOKENS["jwt"] + "&response-content-disposition=attachment%3B%20filename%3Da.tar.gz&response-content-type=application%2Foctet-stream"
    if path.endswith("/objects/batch"):
        objects = asked.get("objects", [])
        uploads = asked.get("operation") == "upload"
        action = lambda oid: {"upload" if uploads else "download": {"href": presigned("github-cloud.s3.amazonaws.com", "&actor_id=1&key_id=0&repo_id=1&token=1"), "header": {}}} | ({"verify": {"href": "https://lfs.github.com/me/repo/verify", "header": {"Authorization": "RemoteAuth " + TOKENS["jwt"]}}} if uploads else {})
        return http.Response.make(200, json.dumps({"transfer": "basic", "objects": [{"oid": o["oid"], "size": o["size"], "authenticated": True, "actions": action(o["oid"])} for o in objects]}), {"content-type": "application/vnd.git-lfs+json"})
    if path.endswith("/locks/verify"): return reply({"ours": [], "theirs": []})
    if "/releases/download/" in path or re.search(r"/releases/assets/\d+", path): return reply("", 302, location="https://release-assets.githubusercontent.com/github-production-release-asset/1/a?" + sas)
    if re.search(r"/releases/(tags/|latest)", path): return reply({"id": 1, "tag_name": "v1", "name": "v1", "upload_url": "https://uploads.github.com/repos/me/repo/releases/1/assets{?name,label}", "url": "https://api.github.com/repos/me/repo/releases/1", "assets": [{"id": 1, "name": "a.tar.gz", "size": 1, "url": "https://api.github.com/repos/me/repo/releases/assets/1", "state": "uploaded"}]})
    if path == "/graphql":
        return reply({"data": {"viewer": {"login": "me", "id": "U_1"}, "repository": {"id": "R_1", "name": "repo", "owner": {"login": "me"}, "hasIssuesEnabled": True, "viewerPermission": "ADMIN", "defaultBranchRef": {"name": "main"}, "issues": {"nodes": [], "totalCount": 0, "pageInfo": {"hasNextPage": False, "endCursor": ""}}, "pullRequests": {"nodes": [], "totalCount": 0, "pageInfo": {"hasNextPage": False, "endCursor": ""}}}, "createIssue": {"issue": {"id": "I_1", "url": "https://github.com/me/repo/issues/1"}}, "search": {"nodes": [], "issueCount": 0, "pageInfo": {"hasNextPage": False}}}})
    if path in ("/login/device/code", "/login/oauth/access_token"): return reply({"device_code": "d" * 40, "user_code": "ABCD-1234", "verification_uri": "https://github.com/login/device", "expires_in": 60, "interval": 1, "access_token": TOKENS["github"], "token_type": "bearer", "scope": "repo"})
    if path.endswith("/info/refs"): return http.Response.make(200, pkt(b"# service=git-upload-pack\n") + b"0000" + (pkt(b"version 2\n") + pkt(b"agent=git/2\n") + pkt(b"ls-refs=unborn\n") + pkt(b"fetch=shallow filter\n") + pkt(b"object-format=sha1\n")) + b"0000", {"content-type": "application/x-git-upload-pack-advertisement"})
    if path.endswith("/git-upload-pack"):
        if b"command=ls-refs" in (request.content or b""): return http.Response.make(200, pkt(b"%s HEAD symref-target:refs/heads/main\n" % (b"1" * 40)) + pkt(b"%s refs/heads/main\n" % (b"1" * 40)) + b"0000", {"content-type": "application/x-git-upload-pack-result"})
        return http.Response.make(200, b"0000", {"content-type": "application/x-git-upload-pack-result"})
    if host == "uploads.github.com": return reply({"id": 2, "name": "b", "url": "https://api.github.com/repos/me/repo/releases/assets/2"}, 201)
    if host == "api.github.com" and method == "GET" and path.count("/") == 3 and path.startswith("/repos/"): return reply({"id": 1, "name": "repo", "full_name": "me/repo", "owner": {"login": "me"}, "default_branch": "main", "url": "https://api.github.com/repos/me/repo"})
    if host == "api.github.com": return reply({"id": 1, "login": "me", "number": 1, "sha": "1" * 40, "url": "https://api.github.com" + path, "html_url": "https://gist.github.com/1", "items": []} if not path.endswith(("/assets", "/issues", "/comments")) or method == "POST" else [], x_oauth_scopes="repo, read:org, gist")


def pkt(line):
    return b"%04x" % (len(line) + 4) + line


def packages(request, host, path, method, asked):
    """npm's registry: one package, its search and audits."""
    if path.startswith("/-/npm/v1/security"): return reply({})
    if path == "/-/whoami": return reply({"username": "me"})
    if path.startswith("/-/v1/search"): return reply({"objects": [], "total": 0})
    if path.startswith("/-/package/") and "dist-tags" in path: return reply({"latest": "1.0.0"})
    if method == "PUT": return reply({"ok": True}, 201)
    if path.endswith(".tgz"): return http.Response.make(200, open(FOLDER + "/demo-1.0.0.tgz", "rb").read())
    name = path.strip("/").replace("%2f", "/").replace("%2F", "/")
    if name.startswith("-"): return None
    data = open(FOLDER + "/demo-1.0.0.tgz", "rb").read()
    dist = {"tarball": "https://%s/%s/-/demo-1.0.0.tgz" % (host, name), "shasum": hashlib.sha1(data).hexdigest(), "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()}
    if name in ("mine", "@me/mine"): return reply({"error": "not found"}, 404)
    return reply({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": name, "version": "1.0.0", "dist": dist}}})


def pypi(request, host, path, method, asked):
    if path.startswith("/simple/"): return reply("<!DOCTYPE html><a href='https://files.pythonhosted.org/packages/demo-1.0-py3-none-any.whl'>demo-1.0-py3-none-any.whl</a>")
    if path.endswith(".whl"): return http.Response.make(200, open(FOLDER + "/demo-1.0-py3-none-any.whl", "rb").read())
    if path.endswith("audience"): return reply({"audience": "pypi"})
    return http.Response.make(200, b"ok")


def crates(request, host, path, method, asked):
    if path == "/config.json": return reply({"dl": "https://static.crates.io/crates", "api": "https://crates.io"})
    if host == "index.crates.io": return http.Response.make(404, b"")
    if path.startswith("/api/v1/crates"): return reply({"crates": [], "meta": {"total": 0}, "warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}, "ok": True, "msg": "ok", "users": []})


def hub(request, host, path, method, asked):
    if path == "/api/whoami-v2": return reply({"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}})
    if "/preupload/" in path: return reply({"files": [{"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".bin") else "regular", "shouldIgnore": False} for f in asked.get("files", [])]})
    if path.endswith("/info/lfs/objects/batch"): return http.Response.make(200, json.dumps({"transfer": "basic", "objects": [{"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": presigned("hf-hub-lfs-us-east-1.s3.us-east-1.amazonaws.com", "&x-id=PutObject")}, "verify": {"href": "https://huggingface.co/me/m/verify"}}} for o in asked.get("objects", [])]}), {"content-type": "application/vnd.git-lfs+json"})
    if "/commit/" in path: return reply({"commitUrl": "https://huggingface.co/me/m/commit/1", "commitOid": "1" * 40, "success": True})
    if "/resolve/" in path: return reply("" if method == "HEAD" else "{}", 302 if method == "HEAD" and path.endswith(".bin") else 200, etag='"%s"' % ("1" * 40), x_repo_commit="1" * 40, x_linked_size="2", location="https://cas-bridge.xethub.hf.co/xet/1?X-Xet-Cas-Uid=public&user_id=1")
    if path == "/api/repos/create": return reply({"url": "https://huggingface.co/me/m"})
    if path.startswith(("/api/models", "/api/datasets")): return reply({"id": "me/m", "sha": "1" * 40, "siblings": [], "tags": []} if path.count("/") > 2 else [])


def identity(request, host, path, method, asked):
    if path.endswith("/.well-known/openid-configuration"):
        base = "https://" + host
        return reply({"issuer": base + "/common/v2.0", "token_endpoint": base + "/common/oauth2/v2.0/token", "authorization_endpoint": base + "/authorize", "device_authorization_endpoint": base + "/common/oauth2/v2.0/devicecode", "jwks_uri": base + "/keys"})
    if path.endswith("/devicecode") or "device" in path: return reply({"device_code": "d" * 60, "user_code": "ABCD-1234", "verification_uri": "https://%s/device" % host, "verification_uri_complete": "https://%s/device?c=1" % host, "message": "open it", "expires_in": 60, "interval": 1})
    return reply({"access_token": TOKENS["jwt"], "token_type": "Bearer", "expires_in": 3600, "id_token": TOKENS["jwt"], "refresh_token": "r" * 40, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "active": True})


def kubernetes(request, host, path, method, asked):
    meta = {"metadata": {"name": "a", "namespace": "default", "resourceVersion": "1", "uid": "1"}}
    if path == "/version": return reply({"major": "1", "minor": "32", "gitVersion": "v1.32.0"})
    if path == "/api": return reply({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    if path == "/apis": return reply({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "apps", "versions": [{"groupVersion": "apps/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}]})
    resource = lambda name, kind: {"name": name, "singularName": name[:-1], "namespaced": True, "kind": kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}
    if path == "/api/v1": return reply({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource("pods", "Pod"), resource("configmaps", "ConfigMap"), resource("secrets", "Secret")]})
    if path == "/apis/apps/v1": return reply({"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [resource("deployments", "Deployment")]})
    if path.startswith("/openapi"): return reply({"paths": {}}, 404)
    if method == "GET" and path.endswith(("pods", "secrets", "configmaps", "deployments")): return reply({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []})
    if method == "GET" and path.count("/") >= 6: return reply({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404) if "new" in path else reply({"kind": "Deployment" if "deployments" in path else "ConfigMap", "apiVersion": "apps/v1" if "deployments" in path else "v1"} | meta)
    return reply((asked if asked.get("kind") else {"kind": "ConfigMap", "apiVersion": "v1"}) | meta, 201 if method == "POST" else 200)


def files(request, host, path, method, asked):
    if method == "PROPFIND": return reply("<?xml version='1.0'?><d:multistatus xmlns:d='DAV:'><d:response><d:href>%s</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>" % path, 207)
    if method in ("MKCOL", "PUT", "MOVE", "COPY"): return http.Response.make(201, b"")


def azure(request, host, path, method, asked):
    return http.Response.make(201 if method == "PUT" else 200, b"" if method == "PUT" else b"<EnumerationResults><Blobs/></EnumerationResults>", {"etag": '"e"', "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT", "content-type": "application/xml", "x-ms-request-id": "1", "x-ms-version": "2025-01-05"})


def slack(request, host, path, method, asked):
    if path.endswith("getUploadURLExternal"): return reply({"ok": True, "upload_url": "https://files.slack.com/upload/v1/CwABAAAA", "file_id": "F1"})
    return reply({"ok": True, "ts": "1.1", "channel": "C1", "url": "https://slack.com/", "files": [{"id": "F1"}]})


def modules(request, host, path, method, asked):
    if path.endswith(".info") or path.endswith("@latest"): return reply({"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"})
    if path.endswith(".mod"): return http.Response.make(200, b"module example.com/demo\n")
    if path.endswith("/list"): return http.Response.make(200, b"v1.0.0\n")
    return http.Response.make(404, b"not found")


def elastic(request, host, path, method, asked):
    return reply({"errors": False, "items": [], "took": 1, "hits": {"total": {"value": 0, "relation": "eq"}, "hits": []}, "_id": "1", "result": "created", "version": {"number": "8.0.0"}, "name": "n", "tagline": "You Know, for Search"}, x_elastic_product="Elasticsearch")


def terraform(request, host, path, method, asked):
    if path == "/.well-known/terraform.json": return reply({"providers.v1": "/v1/providers/", "modules.v1": "/v1/modules/", "state.v2": "/api/v2/", "tfe.v2": "/api/v2/", "tfe.v2.1": "/api/v2/", "tfe.v2.2": "/api/v2/"})
    if path.endswith("/versions"): return reply({"versions": [{"version": "1.0.0", "protocols": ["5.0"], "platforms": [{"os": "linux", "arch": "amd64"}]}]})
    if "/download/" in path: return reply({"protocols": ["5.0"], "os": "linux", "arch": "amd64", "filename": "a.zip", "download_url": "https://releases.hashicorp.com/a.zip", "shasums_url": "https://releases.hashicorp.com/S", "shasums_signature_url": "https://releases.hashicorp.com/S.sig", "shasum": "0" * 64, "signing_keys": {"gpg_public_keys": []}})
    if path == "/api/v2/organizations/me/entitlement-set": return reply({"data": {"id": "e", "type": "entitlement-sets", "attributes": {"state-storage": True, "operations": False}}})
    if path.startswith("/api/v2/"): return reply({"data": {"id": "ws-1", "type": "workspaces", "attributes": {"name": "w", "terraform-version": "1.9.0", "operations": False, "execution-mode": "local", "permissions": {"can-update": True, "can-queue-run": True}}}}, tfp_api_version="2.5", tfp_appname="HCP Terraform")


PLAYS = [
    (r"api\.anthropic\.com", anthropic), (r".*\.googleapis\.com", google),
    (r"api\.(openai|groq|mistral|deepseek|together|x)\.(com|ai|xyz)|openrouter\.ai|.*\.openai\.azure\.com", openai),
    (r".*\.amazonaws\.com|.*\.r2\.cloudflarestorage\.com", aws),
    (r"(auth\.)?(registry-1\.docker\.io|ghcr\.io|registry\.example\.com)|auth\.docker\.io", registry),
    (r"(api\.|uploads\.|lfs\.)?github\.com", github), (r"registry\.(npmjs\.org|yarnpkg\.com)", packages),
    (r"(upload\.|test\.)?pypi\.org|files\.pythonhosted\.org", pypi), (r"(index\.|static\.)?crates\.io", crates), (r"huggingface\.co", hub),
    (r"login\.microsoftonline\.com|issuer\.example\.com", identity), (r"k8s\.example\.com", kubernetes), (r"files\.example\.com", files),
    (r".*\.blob\.core\.windows\.net", azure), (r"(files\.)?slack\.com", slack), (r"proxy\.golang\.org|sum\.golang\.org", modules),
    (r"search\.example\.com", elastic), (r"registry\.terraform\.io|app\.terraform\.io", terraform)]

addons = [Recorder()]
