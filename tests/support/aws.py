"""A server that plays STS and S3. It takes requests that are signed with the one real key, and no others; the signature is
verified by botocore's own signer. It tells every request that it takes.

`aws.py FOLDER ADDRESS`: FOLDER has the certificate, and the key id, the secret and the session token in `aws`."""
import hashlib, re, ssl, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from html import escape
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

FOLDER, ADDRESS = sys.argv[1], sys.argv[2]
KEY, SECRET, TOKEN = open(FOLDER + "/aws").read().split()
FORM = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=(\w+)$")
OBJECTS, PARTS = {}, {}


def refusal(method, url, headers, body):
    """Why a request is not taken; None if it is."""
    if headers.get("x-amz-security-token") != TOKEN: return "token"
    form = FORM.match(headers.get("authorization", ""))
    if not form: return "no signature"
    key, day, region, service, names, signature = form.groups()
    if key != KEY: return "key id"
    names = names.split(";")
    # As AWS has it: these are signed.
    if [name for name in headers if name.startswith("x-amz-") and name not in names]: return "a header that is not signed"
    said = headers.get("x-amz-content-sha256")
    if said and len(said) == 64 and said != hashlib.sha256(body).hexdigest(): return "digest"
    request = AWSRequest(method, url, data=body)
    for name in names:
        if name not in headers: return "the signed header %s is not there" % name
        if name != "host": request.headers[name] = headers[name]
    request.context["timestamp"] = headers["x-amz-date"]
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(KEY, SECRET, TOKEN), service, region)
    canonical = signer.canonical_request(request)
    if signer.signature(signer.string_to_sign(request, canonical), request) != signature: return "signature"


def unframed(body):
    """The content of S3's framing, and its trailers."""
    content = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        size = int(size.split(b";")[0], 16)
        if not size: return content
        content, body = content + rest[:size], rest[size + 2:]


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"content_type": "application/xml"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        if "content_length" not in headers: self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def handle_expect_100(self):
        self.send_response_only(100)
        self.end_headers()
        return True

    def serve(self):
        body, headers = self.body(), {name.lower(): value for name, value in self.headers.items()}
        host = headers["host"]
        why = refusal(self.command, "https://%s%s" % (host, self.path), headers, body)
        kind = headers.get("x-amz-content-sha256", "none")
        print(self.command, host, self.path, "digest" if len(kind) == 64 else kind, why or "taken", flush=True)
        if why: return self.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code><Message>%s</Message></Error>" % why.encode())
        (self.sts if host.startswith("sts.") else self.s3)(urlsplit(self.path), headers, body)

    def sts(self, url, headers, body):
        self.answer(200, b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/lab of %s</Arn>"
                         b"<UserId>U</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
                         % KEY.encode())

    def s3(self, url, headers, body):
        path, asked = unquote(url.path), parse_qs(url.query, keep_blank_values=True)
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"): body = unframed(body)
        if "list-type" in asked:
            found = "".join("<Contents><Key>%s</Key></Contents>" % escape(key.split("/", 2)[2]) for key in sorted(OBJECTS))
            return self.answer(200, ("<ListBucketResult>%s</ListBucketResult>" % found).encode())
        if self.command == "POST" and "uploads" in asked:
            return self.answer(200, b"<R><UploadId>u/+1</UploadId></R>")
        if self.command == "POST" and "uploadId" in asked:
            OBJECTS[path] = b"".join(PARTS[number] for number in sorted(PARTS))
            return self.answer(200, b"<R><ETag>e</ETag></R>")
        if self.command == "PUT" and "partNumber" in asked:
            PARTS[int(asked["partNumber"][0])] = body
            return self.answer(200, ETag='"e"')
        if self.command == "PUT":
            OBJECTS[path] = body
            return self.answer(200, ETag='"e"')
        if path not in OBJECTS: return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        whole = OBJECTS[path]
        about = {"ETag": '"e"', "content_type": "binary/octet-stream", "last_modified": "Sun, 29 Nov 2026 17:00:00 GMT"}
        if self.command == "HEAD": return self.answer(200, content_length=str(len(whole)), **about)
        wanted = re.match(r"bytes=(\d+)-(\d*)$", headers.get("range", ""))
        if not wanted:
            # Objects may be stored compressed.
            if path.endswith(".gz"): about["content_encoding"] = "gzip"
            return self.answer(200, whole, **about)
        first, last = int(wanted[1]), min(int(wanted[2] or len(whole)), len(whole) - 1)
        self.answer(206, whole[first:last + 1], content_range="bytes %d-%d/%d" % (first, last, len(whole)), **about)

    do_GET = do_POST = do_PUT = do_HEAD = serve


server = ThreadingHTTPServer((ADDRESS, 443), Server)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(FOLDER + "/leaf.pem", FOLDER + "/leaf.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listens", flush=True)
server.serve_forever()
