"""The hosts that tools log in to, in one server: an index of Python packages (Basic), an index of crates whose `config.json`
says `auth-required`, git by `git http-backend` with LFS, the part of GitHub's API that `gh` asks, and a registry of images
with a token service. Each answers 401 without its key, and tells who asked for what and with what.

`forge.py FOLDER ADDRESS`: FOLDER has the certificate, `keys.json`, and what is served."""
import base64, hashlib, json, os, ssl, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FOLDER, ADDRESS = sys.argv[1], sys.argv[2]
KEYS = json.load(open(FOLDER + "/keys.json"))


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# An image of one layer (OCI image specification).
LAYER = open(FOLDER + "/layer.tar.gz", "rb").read()
TYPES = "application/vnd.oci.image."
CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                     "rootfs": {"type": "layers", "diff_ids": [digest(open(FOLDER + "/layer.tar", "rb").read())]}}).encode()
def described(kind, data):
    return {"mediaType": TYPES + kind, "size": len(data), "digest": digest(data)}
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": TYPES + "manifest.v1+json",
                       "config": described("config.v1+json", CONFIG),
                       "layers": [described("layer.v1.tar+gzip", LAYER)]}).encode()
BLOBS = {digest(data): data for data in (LAYER, CONFIG)}
# What the token service hands out.
TOKEN = "the-registry-has-handed-this-out"


class Forge(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): pass

    def answer(self, code, body=b"", kind="application/json", **headers):
        body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def shown(self):
        """What stands in `Authorization`; of Basic, the name and the password."""
        text = self.headers.get("authorization") or ""
        scheme, _, rest = text.partition(" ")
        return base64.b64decode(rest).decode() if scheme.lower() == "basic" else text

    def serve(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.unchunked() if "chunked" in (self.headers.get("transfer-encoding") or "") else self.rfile.read(length)
        host, url = self.headers["host"].split(":")[0].split(".")[0], urlsplit(self.path)
        has = "with the key" if self.shown() == KEYS.get(host) else "with something" if self.shown() else "without a key"
        print(self.command, host, url.path, has, flush=True)
        getattr(self, host)(url, body, has == "with the key")

    def unchunked(self):
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def file(self, path):
        path = FOLDER + "/www" + path
        path = path + "index.html" if path.endswith("/") else path
        if not os.path.isfile(path): return self.answer(404, {})
        self.answer(200, open(path, "rb").read(), "text/html" if path.endswith(".html") else "application/octet-stream")

    def pypi(self, url, _, has):
        if not has: return self.answer(401, "{}", www_authenticate='Basic realm="pypi"')
        self.file(url.path)

    def crates(self, url, _, has):
        if not has: return self.answer(401, "{}", www_authenticate="Cargo login_url=\"https://crates.example.com/me\"")
        self.file(url.path)

    def api(self, url, _, has):
        if not has: return self.answer(401, {"message": "Bad credentials"})
        if url.path in ("/", "/user"):
            return self.answer(200, {"login": "octocat"}, x_oauth_scopes="repo, read:org, gist")
        if url.path == "/graphql": return self.answer(200, {"data": {"viewer": {"login": "octocat"}}})
        self.answer(404, {"message": "Not Found"})

    def git(self, url, body, has):
        # An object that the server has signed a link to, in a header of its own.
        if url.path.startswith("/objects/"):
            return self.answer(200 if self.shown() == "RemoteAuth minted" else 403, b"large\n")
        if not has: return self.answer(401, "", www_authenticate='Basic realm="git"')
        if url.path.endswith("/info/lfs/objects/batch"):
            objects = [one | {"actions": {"download": {"href": "https://git.example.com/objects/" + one["oid"],
                                                       "header": {"Authorization": "RemoteAuth minted"}}}}
                       for one in json.loads(body)["objects"]]
            return self.answer(200, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")
        if "/info/lfs/" in url.path: return self.answer(404, {"message": "Not Found"})
        kind = {name: self.headers[header] for name, header in
                (("CONTENT_TYPE", "content-type"), ("HTTP_CONTENT_ENCODING", "content-encoding"),
                 ("HTTP_GIT_PROTOCOL", "git-protocol")) if self.headers.get(header)}
        env = os.environ | kind | {
            "GIT_PROJECT_ROOT": FOLDER + "/www", "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": url.path, "QUERY_STRING": url.query,
            "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)), "REMOTE_USER": "a", "REMOTE_ADDR": "127.0.0.1",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        out = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True).stdout
        head, _, rest = out.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines()]
        said = {name.lower(): value for name, value in lines}
        self.answer(int(said.get("status", "200").split()[0]), rest, said.get("content-type", "text/plain"))

    def registry(self, url, _, __):
        if self.shown() != "Bearer " + TOKEN:
            realm = 'Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:demo:pull"'
            return self.answer(401, {"errors": [{"code": "UNAUTHORIZED"}]}, www_authenticate=realm,
                               docker_distribution_api_version="registry/2.0")
        parts = url.path.split("/")
        if url.path == "/v2/": return self.answer(200, {}, docker_distribution_api_version="registry/2.0")
        if url.path == "/v2/demo/tags/list": return self.answer(200, {"name": "demo", "tags": ["1"]})
        if parts[-2] == "manifests":
            return self.answer(200, MANIFEST, TYPES + "manifest.v1+json", docker_content_digest=digest(MANIFEST))
        if parts[-1] in BLOBS: return self.answer(200, BLOBS[parts[-1]], "application/octet-stream")
        self.answer(404, {"errors": [{"code": "NAME_UNKNOWN"}]})

    def auth(self, _, __, has):
        self.answer(200, {"token": TOKEN, "expires_in": 300}) if has else self.answer(401, {})

    do_GET = do_POST = do_PUT = do_HEAD = serve


server = ThreadingHTTPServer((ADDRESS, 443), Forge)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(FOLDER + "/leaf.pem", FOLDER + "/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listens", flush=True)
server.serve_forever()
