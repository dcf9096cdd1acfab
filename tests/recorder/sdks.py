"""What programs in Python send: `sdks.py NAME` calls the library of that name. The services are `origin.py`."""
import base64, io, json, os, sys, tempfile

RECORDED = os.environ["RECORDED"]
TOKENS = {name: "".join(pieces) for name, pieces in json.load(open(RECORDED + "/tokens.json")).items()}
LONG = open(RECORDED + "/long.txt", encoding="utf-8").read()
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/MediaBox[0 0 9 9]>>endobj\nxref\n0 4\ntrailer<</Size 4/Root 1 0 R>>\nstartxref\n9\n%%EOF\n"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string", "description": "The file's path, such as `src/main.rs`.", "pattern": "^[^\\0]+$"},
          "token": {"type": "string", "description": "Authorization: Bearer <token>; password=${PASSWORD}"}}, "required": ["path"], "additionalProperties": False}
WORK = tempfile.mkdtemp()


def write(name, data):
    path = os.path.join(WORK, name)
    open(path, "wb").write(data if isinstance(data, bytes) else data.encode())
    return path


def each(*calls):
    """Makes each call; what a fake service answers may be too little for a library, which is said."""
    for call in calls:
        try: call()
        except Exception as error: print("  %s: %s" % (type(error).__name__, str(error)[:160]))


def requests():
    import requests as r
    s = r.Session()
    s.cookies.set("session", base64.b64encode(os.urandom(48)).decode(), domain="api.example.com")
    at = "https://api.example.com"
    each(lambda: s.get(at + "/search", params={"q": 'a "quoted" <tag> & more', "filter": '{"a": ["b", 1]}', "é": "ü", "empty": ""}),
         lambda: s.post(at + "/items", json={"id": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "sha": "0" * 40, "text": "line\nline\u2028 €"}),
         lambda: s.post(at + "/form", data={"user": "me", "note": "a+b c&d=e", "list": ["1", "2"]}),
         lambda: s.post(at + "/upload", files={"file": ("ü \"q\";x.txt", b"", "text/plain"), "empty": (None, ""), "image": ("i.png", PNG, "image/png")}, data={"k": ""}),
         lambda: s.put(at + "/stream", data=iter([b"first ", b"second"])),
         lambda: s.get(at + "/basic", auth=("me", "correct horse")),
         lambda: s.request("PROPFIND", "https://files.example.com/dav/", headers={"Depth": "1"}, data="<?xml version='1.0'?><propfind xmlns='DAV:'><allprop/></propfind>"),
         lambda: s.get(at + "/conditional", headers={"If-None-Match": 'W/"67ab43"', "Range": "bytes=0-1023", "Accept-Language": "de-CH, de;q=0.9, *;q=0.5"}),
         lambda: s.delete(at + "/items/1"), lambda: s.patch(at + "/items/1", data='[{"op":"replace","path":"/a","value":1}]', headers={"Content-Type": "application/json-patch+json"}))


def httpx():
    import httpx as h
    at = "https://api.example.com"
    with h.Client(http2=True) as c:
        each(lambda: c.get(at + "/a", params={"q": "a b", "x": "<y>"}), lambda: c.post(at + "/json", json={"a": ["ü", 1.5, None]}),
             lambda: c.post(at + "/multi", files={"f": ("a;b.bin", os.urandom(200))}, data={"n": "v"}),
             lambda: c.post(at + "/gen", content=(piece for piece in [b"{", b"}"])),
             lambda: c.get(at + "/c", cookies={"a": "1", "b": "2", "c": "3"}))


def aiohttp():
    import asyncio, aiohttp as a
    async def go():
        async with a.ClientSession(trust_env=True) as s:
            at = "https://api.example.com"
            form = a.FormData(quote_fields=False); form.add_field("a", ""); form.add_field("f", PNG, filename="ä b.png", content_type="image/png")
            async def one(call):
                try:
                    async with call as r: await r.read()
                except Exception as error: print(error)
            await one(s.get(at + "/x", params={"a": "b c"})); await one(s.post(at + "/form", data=form))
            await one(s.post(at + "/deflate", data=json.dumps({"text": LONG[:9000]}), compress="deflate", headers={"content-type": "application/json"}))
            await one(s.post(at + "/gzip", data=json.dumps({"text": LONG[:9000]}), compress="gzip", headers={"content-type": "application/json"}))
            with a.MultipartWriter("mixed") as m:
                m.append("text"); m.append_json({"a": 1}); m.append(b"\0\1", {"Content-Type": "application/octet-stream"})
            await one(s.post(at + "/mixed", data=m))
            with a.MultipartWriter("form-data", boundary="a;b c") as m:
                m.append("text").set_content_disposition("form-data", name="n")
            await one(s.post(at + "/quoted", data=m))
    asyncio.run(go())


def urllib3():
    import urllib3 as u
    p = u.ProxyManager(os.environ["HTTPS_PROXY"], ca_certs=os.environ["SSL_CERT_FILE"])
    each(lambda: p.request("POST", "https://api.example.com/u", fields={"a": "1", "f": ("x.txt", "content", "text/plain")}),
         lambda: p.request("GET", "https://api.example.com/u", fields={"q": "a|b"}, headers=u.make_headers(accept_encoding=True, user_agent="x/1", basic_auth="me:pass")))


def urllib():
    import urllib.request as u
    each(lambda: u.urlopen("https://api.example.com/lib?q=a%20b").read(), lambda: u.urlopen("https://api.example.com/lib", data=b"a=1&b=%C3%BC").read(),
         lambda: u.urlopen("http://plain.example.com/lib?a=1").read())


def openai():
    import openai as o
    c = o.OpenAI(api_key=TOKENS["openai"], organization="org-aB3dE6gH9jK2mN5p", max_retries=0)
    tools = [{"type": "function", "function": {"name": "read", "description": "Reads a file. Never prints an API key (sk-…).", "parameters": SCHEMA, "strict": True}}]
    image = "data:image/png;base64," + base64.b64encode(PNG * 20).decode()
    history = [{"role": "system", "content": "You are \"helpful\"."}, {"role": "user", "content": "Read it."},
               {"role": "assistant", "content": None, "tool_calls": [{"id": "call_aB3dE6gH9jK2mN5pQ8sT1vW4", "type": "function", "function": {"name": "read", "arguments": json.dumps({"path": "a\\b\"c"})}}]},
               {"role": "tool", "tool_call_id": "call_aB3dE6gH9jK2mN5pQ8sT1vW4", "content": LONG}]
    each(lambda: c.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}]),
         lambda: list(c.chat.completions.create(model="gpt-5", messages=history, tools=tools, stream=True, stream_options={"include_usage": True})),
         lambda: c.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": image}}]}]),
         lambda: c.responses.create(model="gpt-5", instructions="Short.", input=[{"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64," + base64.b64encode(PDF).decode()}, {"type": "input_image", "image_url": image}]}], include=["reasoning.encrypted_content"], store=False),
         lambda: list(c.responses.create(model="gpt-5", input=[{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAAB" + base64.urlsafe_b64encode(os.urandom(1500)).decode()}, {"role": "user", "content": LONG}], stream=True, prompt_cache_key="019ab3de-1f0a-7a53-b7ac-0123456789ab")),
         lambda: c.embeddings.create(model="text-embedding-3-small", input=["one", "two " + LONG[:3000]]),
         lambda: c.files.create(file=("batch.jsonl", b"\n".join(json.dumps({"custom_id": "r%d" % n, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}).encode() for n in range(20))), purpose="batch"),
         lambda: c.batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"),
         lambda: c.audio.transcriptions.create(model="whisper-1", file=("a.mp3", os.urandom(900)), response_format="json"),
         lambda: c.images.edit(model="gpt-image-1", image=("a.png", PNG), prompt="Add a \"hat\"; blue."),
         lambda: c.moderations.create(input="text"), lambda: c.models.list(),
         lambda: c.vector_stores.create(name="a", file_ids=["file-1"]))
    a = o.AzureOpenAI(api_key="0123456789abcdef0123456789abcdef", azure_endpoint="https://mine.openai.azure.com", api_version="2025-04-01-preview", max_retries=0)
    each(lambda: a.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}]))


def anthropic():
    import anthropic as n
    c = n.Anthropic(api_key=TOKENS["anthropic"], max_retries=0)
    tools = [{"name": "read", "description": "Reads.", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG * 30).decode()}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(PDF).decode()}}
    signature = base64.b64encode(os.urandom(600)).decode()
    turns = [{"role": "user", "content": "Read it."},
             {"role": "assistant", "content": [{"type": "thinking", "thinking": "I read.", "signature": signature}, {"type": "tool_use", "id": "toolu_01aB3dE6gH9jK2mN5pQ8sT1v", "name": "read", "input": {"path": "a"}}]},
             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01aB3dE6gH9jK2mN5pQ8sT1v", "content": LONG}]}]
    new = lambda **more: c.messages.create(model="claude-sonnet-4-5", max_tokens=100, **more)
    each(lambda: new(messages=[{"role": "user", "content": "Hi"}]), lambda: new(messages=[{"role": "user", "content": [image, pdf, {"type": "text", "text": "What?"}]}]),
         lambda: list(new(messages=turns, tools=tools, stream=True, thinking={"type": "enabled", "budget_tokens": 1024}, system=[{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}], metadata={"user_id": "user_%s_account__session_%s" % ("0123456789abcdef" * 4, "3fa85f64-5717-4562-b3fc-2c963f66afa6")})),
         lambda: c.messages.count_tokens(model="m", messages=turns, tools=tools),
         lambda: c.messages.batches.create(requests=[{"custom_id": "a", "params": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}}]),
         lambda: c.beta.files.upload(file=("a b.pdf", PDF, "application/pdf")), lambda: c.models.list())


def google_genai():
    from google import genai
    from google.genai import types
    c = genai.Client(api_key=TOKENS["google"])
    go = c.models.generate_content
    each(lambda: go(model="gemini-2.5-pro", contents="Hi"), lambda: go(model="gemini-2.5-pro", contents=[types.Part.from_bytes(data=PNG * 9, mime_type="image/png"), "What?", LONG[:40000]]),
         lambda: list(c.models.generate_content_stream(model="gemini-2.5-pro", contents=LONG, config=types.GenerateContentConfig(system_instruction="S", tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="read", parameters_json_schema=SCHEMA)])]))),
         lambda: c.models.embed_content(model="gemini-embedding-001", contents="text"), lambda: c.models.count_tokens(model="gemini-2.5-pro", contents="text"),
         lambda: c.files.upload(file=write("a.pdf", PDF)))


def mistralai():
    try: from mistralai import Mistral
    except ImportError: from mistralai.client import Mistral
    c = Mistral(api_key="aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01X")
    each(lambda: c.chat.complete(model="m", messages=[{"role": "user", "content": "Hi"}]), lambda: c.embeddings.create(model="m", inputs=["a"]), lambda: c.files.upload(file={"file_name": "a.jsonl", "content": b"{}\n"}))


def cohere():
    import cohere as co
    c = co.ClientV2(api_key="aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6EaaB3d")
    each(lambda: c.chat(model="m", messages=[{"role": "user", "content": "Hi"}]), lambda: c.rerank(model="m", query="q", documents=["a", "b"]))


def groq():
    import groq as g
    c = g.Groq(api_key=TOKENS["groq"], max_retries=0)
    each(lambda: c.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}]))


def boto3():
    import boto3 as b, urllib.request as u
    s = b.Session(aws_access_key_id=TOKENS["aws"], aws_secret_access_key=TOKENS["awssecret"], aws_session_token="IQoJb3JpZ2luX2VjE" + base64.b64encode(bytes(range(250))).decode(), region_name="eu-west-1")
    s3 = s.client("s3")
    from boto3.s3.transfer import TransferConfig
    big = write("big.bin", os.urandom(12 << 10))
    from botocore.config import Config
    newer = s.client("s3", config=Config(signature_version="s3v4"))
    post = lambda s3: s3.generate_presigned_post("bucket", "k/${filename}", Fields={"acl": "private"}, Conditions=[{"acl": "private"}, ["content-length-range", 0, 999]])
    def posted(s3):
        import requests as r
        p = post(s3); r.post(p["url"], data=p["fields"], files={"file": ("a.txt", b"hello")})
    def multipart():
        upload = s3.create_multipart_upload(Bucket="bucket", Key="k")["UploadId"]
        tag = s3.upload_part(Bucket="bucket", Key="k", UploadId=upload, PartNumber=1, Body=os.urandom(5 << 10))["ETag"]
        s3.complete_multipart_upload(Bucket="bucket", Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    each(lambda: s3.put_object(Bucket="bucket", Key="a b/ü+c.txt", Body=b"hello", Metadata={"note": "x"}), lambda: s3.upload_file(big, "bucket", "big.bin"), lambda: s3.get_object(Bucket="bucket", Key="k"), multipart,
         lambda: s3.copy_object(Bucket="bucket", Key="k2", CopySource={"Bucket": "bucket", "Key": "ü k"}), lambda: s3.list_objects_v2(Bucket="bucket", Prefix="a/", Delimiter="/"),
         lambda: s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "a"}, {"Key": "<b>"}]}), lambda: s3.upload_fileobj(io.BytesIO(PNG), "bucket", "i.png", ExtraArgs={"ChecksumAlgorithm": "SHA256"}),
         lambda: u.urlopen(s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k", "ResponseContentDisposition": 'attachment; filename="a b.txt"'})).read(),
         lambda: u.urlopen(u.Request(s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "k"}), data=b"x", method="PUT")).read(), lambda: posted(s3), lambda: posted(newer),
         lambda: s.client("sts").get_caller_identity(), lambda: s.client("dynamodb").put_item(TableName="t", Item={"id": {"S": "3fa85f64"}, "b": {"B": os.urandom(60)}}),
         lambda: s.client("sqs").send_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/1/q", MessageBody='{"a": "<b>"}'), lambda: s.client("lambda").invoke(FunctionName="f", Payload=b'{"k": 1}'),
         lambda: s.client("bedrock-runtime").converse(modelId="anthropic.claude", messages=[{"role": "user", "content": [{"text": LONG}]}]), lambda: s.client("ecr").get_authorization_token(),
         lambda: s.client("logs").put_log_events(logGroupName="g", logStreamName="s", logEvents=[{"timestamp": 1, "message": LONG[:2000]}]), lambda: s.client("secretsmanager").get_secret_value(SecretId="a/b"))


def huggingface_hub():
    import huggingface_hub as h
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    a = h.HfApi(token=TOKENS["huggingface"])
    each(lambda: a.whoami(), lambda: a.create_repo("me/m", exist_ok=True), lambda: a.upload_file(path_or_fileobj=b"# hi", path_in_repo="README.md", repo_id="me/m"),
         lambda: a.upload_file(path_or_fileobj=os.urandom(4000), path_in_repo="w.bin", repo_id="me/m"), lambda: h.hf_hub_download("me/m", "config.json", token=TOKENS["huggingface"], cache_dir=WORK),
         lambda: a.model_info("me/m"), lambda: list(a.list_models(search="bert", limit=1)), lambda: h.InferenceClient(token=TOKENS["huggingface"], provider="hf-inference", model="me/m").text_generation("Hi"))


def opentelemetry():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    for compression in (Compression.NoCompression, Compression.Gzip, Compression.Deflate):
        p = TracerProvider()
        p.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter("https://otlp.example.com/v1/traces", headers={"api-key": "0123456789abcdef0123456789abcdef"}, compression=compression)))
        with p.get_tracer("t").start_as_current_span("GET /a", attributes={"http.url": "https://api.example.com/a?b=c", "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}): pass
    m = MeterProvider(metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter("https://otlp.example.com/v1/metrics"))])
    m.get_meter("m").create_counter("c").add(1); m.force_flush(); m.shutdown()


def sentry_sdk():
    import sentry_sdk as s
    s.init("https://0123456789abcdef0123456789abcdef@o123456.ingest.us.sentry.io/1234567", traces_sample_rate=1.0, release="a@1", max_breadcrumbs=5)
    with s.start_transaction(name="t", op="x"):
        try: json.loads("{")
        except ValueError as error: s.capture_exception(error)
    s.capture_message("hello"); s.flush(10)


def posthog():
    from posthog import Posthog
    p = Posthog(TOKENS["posthog"], host="https://us.i.posthog.com", sync_mode=True)
    each(lambda: p.capture("event", distinct_id="me", properties={"a": 1}), lambda: p.feature_enabled("flag", "me"))


def segment():
    import segment.analytics as a
    a.write_key, a.sync_mode = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01X", True
    each(lambda: a.track("me", "Did", {"a": 1}), lambda: a.identify("me", {"email": "me@example.com"}))


def mixpanel():
    from mixpanel import Mixpanel
    m = Mixpanel("0123456789abcdef0123456789abcdef")
    each(lambda: m.track("me", "Did", {"a": "ü"}), lambda: m.people_set("me", {"$name": "Me"}))


def slack_sdk():
    from slack_sdk import WebClient
    c = WebClient(TOKENS["slack"])
    each(lambda: c.auth_test(), lambda: c.chat_postMessage(channel="C1", text="hi <@U1> & `code`", blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": "*a*"}}]), lambda: c.files_upload_v2(channel="C1", file=write("a.txt", "x"), title="a"))


def stripe():
    import stripe as s
    s.api_key, s.max_network_retries, s.ca_bundle_path = TOKENS["stripe"], 0, os.environ["SSL_CERT_FILE"]
    each(lambda: s.Customer.create(email="me@example.com", metadata={"a": "b c"}, idempotency_key="3fa85f64-5717-4562-b3fc-2c963f66afa6"), lambda: s.Charge.list(limit=3, created={"gt": 1}), lambda: s.File.create(purpose="dispute_evidence", file=open(write("a.png", PNG), "rb")))


def pygithub():
    import github as g
    c = g.Github(auth=g.Auth.Token(TOKENS["github"]))
    each(lambda: c.get_user().login, lambda: c.get_repo("me/repo").create_issue("t", body="b", labels=["a"]), lambda: c.get_repo("me/repo").create_file("a b.txt", "m", LONG[:5000]))


def gitlab():
    import gitlab as g
    c = g.Gitlab("https://gitlab.com", private_token=TOKENS["gitlab"])
    each(lambda: c.auth(), lambda: c.projects.get("me/repo"), lambda: c.http_post("/projects/1/repository/commits", post_data={"branch": "b", "commit_message": "m", "actions": [{"action": "create", "file_path": "a", "content": base64.b64encode(LONG[:4000].encode()).decode(), "encoding": "base64"}]}), lambda: c.http_post("/projects/1/uploads", files={"file": ("a.txt", b"x")}))


def twilio():
    from twilio.rest import Client
    c = Client(TOKENS["twilio"], "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01X", "AC0123456789abcdef0123456789abcdef")
    each(lambda: c.messages.create(to="+15005550006", from_="+15005550001", body="hi ü"), lambda: c.calls.list(limit=1))


def sendgrid():
    import sendgrid as s
    from sendgrid.helpers.mail import Mail, Attachment
    m = Mail("a@example.com", "b@example.com", "S", html_content="<b>x</b>"); m.attachment = Attachment(base64.b64encode(PDF).decode(), "a.pdf", "application/pdf")
    each(lambda: s.SendGridAPIClient(TOKENS["sendgrid"]).send(m))


def azure():
    from azure.storage.blob import BlobServiceClient
    from azure.identity import ClientSecretCredential, DeviceCodeCredential
    key = base64.b64encode(bytes(range(64))).decode()
    c = BlobServiceClient("https://mine.blob.core.windows.net", credential=key)
    b = c.get_blob_client("c", "a b.txt")
    sas = BlobServiceClient("https://mine.blob.core.windows.net?sp=rw&sv=2025-01-05&sr=c&sig=%s%%3D" % TOKENS["sas"]).get_blob_client("c", "d")
    secret = ClientSecretCredential("3fa85f64-5717-4562-b3fc-2c963f66afa6", "11111111-5717-4562-b3fc-2c963f66afa6", TOKENS["azure"])
    each(lambda: b.upload_blob(b"hello", overwrite=True, metadata={"a": "b"}), lambda: b.stage_block(base64.b64encode(b"1").decode(), b"x" * 500), lambda: b.commit_block_list([]), lambda: sas.upload_blob(b"x", overwrite=True), lambda: list(c.get_container_client("c").list_blobs()), lambda: secret.get_token("https://graph.microsoft.com/.default"))


def msal():
    import msal as m
    a = m.PublicClientApplication("11111111-5717-4562-b3fc-2c963f66afa6", authority="https://login.microsoftonline.com/common", instance_discovery=False)
    each(lambda: a.acquire_token_by_device_flow(a.initiate_device_flow(["User.Read"])))
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives import serialization as z
    key = rsa.generate_private_key(65537, 2048).private_bytes(z.Encoding.PEM, z.PrivateFormat.PKCS8, z.NoEncryption()).decode()
    each(lambda: m.ConfidentialClientApplication("1111", authority="https://login.microsoftonline.com/common", instance_discovery=False, client_credential={"private_key": key, "thumbprint": "0" * 40}).acquire_token_for_client(["x/.default"]))


def google_cloud_storage():
    from google.oauth2 import service_account
    from google.cloud import storage
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives import serialization as z
    key = rsa.generate_private_key(65537, 2048).private_bytes(z.Encoding.PEM, z.PrivateFormat.PKCS8, z.NoEncryption()).decode()
    account = service_account.Credentials.from_service_account_info({"type": "service_account", "private_key": key, "client_email": "a@b.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token", "private_key_id": "1"}, scopes=["https://www.googleapis.com/auth/devstorage.read_write"])
    c = storage.Client("p", account); b = c.bucket("b")
    each(lambda: b.blob("a b").upload_from_string("hello"), lambda: b.blob("c").upload_from_file(io.BytesIO(os.urandom(3000)), size=None), lambda: list(c.list_blobs("b")),
         lambda: urllib3_get(b.blob("a").generate_signed_url(expiration=600, version="v4")))


def urllib3_get(url):
    import requests as r
    r.get(url)


def elasticsearch():
    from elasticsearch import Elasticsearch, helpers
    c = Elasticsearch("https://search.example.com:443", api_key="VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==", ca_certs=os.environ["SSL_CERT_FILE"])
    c = proxied_elastic(c)
    each(lambda: helpers.bulk(c, [{"_index": "i", "_id": n, "_source": {"t": "x" * n}} for n in range(9)]), lambda: c.search(index="i", query={"match": {"t": "a"}}))


def proxied_elastic(client):
    # It has no setting for a proxy: its transport is given one.
    from elastic_transport import RequestsHttpNode
    from elasticsearch import Elasticsearch
    return Elasticsearch("https://search.example.com:443", api_key="VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==", node_class=RequestsHttpNode, http_compress=True)


def qdrant_client():
    from qdrant_client import QdrantClient, models as m
    c = QdrantClient(url="https://mine.cloud.qdrant.example.com", port=443, api_key=TOKENS["jwt"], check_compatibility=False)
    each(lambda: c.upsert("c", [m.PointStruct(id=1, vector=[0.1] * 64, payload={"a": "b"})]), lambda: c.query_points("c", query=[0.1] * 4))


def grpcio():
    import grpc
    # The proxy is this process' environment's. The stubs are without code that was generated.
    credentials = grpc.ssl_channel_credentials(open(os.environ["SSL_CERT_FILE"], "rb").read())
    call = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(TOKENS["jwt"]))
    raw = dict(request_serializer=lambda b: b, response_deserializer=lambda b: b)
    message = b"\x0a\x05hello\x12\x24" + b"3fa85f64-5717-4562-b3fc-2c963f66afa6" + b"\x1a\x20" + os.urandom(32)
    with grpc.secure_channel("grpc.example.com:443", call) as c:
        each(lambda: c.unary_unary("/demo.Echo/Say", **raw)(message, timeout=10, metadata=[("x-request-id", "1"), ("trace-bin", os.urandom(24))]),
             lambda: c.stream_unary("/demo.Echo/Collect", **raw)(iter([message] * 5), timeout=10),
             lambda: c.unary_unary("/demo.Echo/Packed", **raw)(message * 50, timeout=10, compression=grpc.Compression.Gzip),
             lambda: list(c.stream_stream("/demo.Echo/Chat", **raw)(iter([message, b""]), timeout=10)))


def requests_oauthlib():
    from requests_oauthlib import OAuth2Session, OAuth1Session
    from oauthlib.oauth2 import BackendApplicationClient
    at = "https://issuer.example.com/token"
    s = OAuth2Session(client=BackendApplicationClient("client-1"))
    each(lambda: s.fetch_token(at, client_id="client-1", client_secret="3fa85f64-5717-4562-b3fc-2c963f66afa6"), lambda: s.get("https://api.example.com/userinfo"),
         lambda: OAuth2Session("client-1", redirect_uri="https://localhost/cb").fetch_token(at, code="aB3dE6gH9jK2mN5p", client_secret="x" * 24, code_verifier="v" * 60),
         lambda: OAuth1Session("k" * 20, "s" * 40, "t" * 30, "u" * 40).post("https://api.example.com/1.1/statuses/update.json", data={"status": "hi & bye"}))


def authlib():
    from authlib.integrations.httpx_client import OAuth2Client
    c = OAuth2Client("client-1", "3fa85f64-5717-4562-b3fc-2c963f66afa6", token_endpoint_auth_method="client_secret_post")
    at = "https://issuer.example.com/token"
    each(lambda: c.fetch_token(at, grant_type="client_credentials", scope="a b"),
         lambda: c.fetch_token(at, grant_type="urn:ietf:params:oauth:grant-type:token-exchange", audience="https://api.example.com", scope="read", requested_token_type="urn:ietf:params:oauth:token-type:access_token"),
         lambda: c.fetch_token(at, grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code="d" * 60), lambda: c.introspect_token(at + "/introspect", token="r" * 40),
         lambda: c.revoke_token(at + "/revoke", token="r" * 40), lambda: c.get("https://api.example.com/me"))


def kubernetes():
    from kubernetes import client as k
    c = k.Configuration(host="https://k8s.example.com"); c.ssl_ca_cert = os.environ["SSL_CERT_FILE"]; c.proxy = os.environ["HTTPS_PROXY"]
    c.api_key = {"authorization": "Bearer " + TOKENS["jwt"]}
    v = k.CoreV1Api(k.ApiClient(c))
    each(lambda: v.list_namespaced_pod("default", label_selector="a in (b,c)"), lambda: v.create_namespaced_config_map("default", {"metadata": {"name": "a"}, "data": {"f": LONG[:4000]}}), lambda: v.patch_namespaced_config_map("a", "default", {"data": {"b": "c"}}))


def notion():
    from notion_client import Client
    c = Client(auth=TOKENS["notion"])
    each(lambda: c.search(query="a"), lambda: c.pages.create(parent={"page_id": "3fa85f6457174562b3fc2c963f66afa6"}, properties={"title": [{"text": {"content": "T"}}]}))


def telegram():
    import asyncio, telegram as t
    from telegram.request import HTTPXRequest
    async def go():
        b = t.Bot(TOKENS["telegram"])
        for call in (lambda: b.get_me(), lambda: b.send_message(1, "hi *x*"), lambda: b.send_document(1, PDF, filename="a.pdf")):
            try: await call()
            except Exception as error: print(error)
    asyncio.run(go())


def supabase():
    from supabase import create_client
    c = create_client("https://abcdefghijklmnopqrst.supabase.co", TOKENS["jwt"])
    each(lambda: c.table("t").select("a,b(c)").eq("id", 1).or_("a.gt.1,b.lt.2").execute(), lambda: c.table("t").upsert([{"a": 1}]).execute(), lambda: c.storage.from_("b").upload("a b.png", PNG), lambda: c.auth.sign_in_with_password({"email": "me@example.com", "password": "correct horse battery"}))


def gql():
    from gql import Client, gql as q
    from gql.transport.requests import RequestsHTTPTransport
    c = Client(transport=RequestsHTTPTransport("https://api.linear.app/graphql", headers={"Authorization": TOKENS["linear"]}))
    each(lambda: c.execute(q("query($id: String!) { issue(id: $id) { title description } }"), variable_values={"id": "ENG-1"}))


def webdav():
    from webdav3.client import Client
    c = Client({"webdav_hostname": "https://files.example.com/dav", "webdav_login": "me", "webdav_password": "correct horse"})
    each(lambda: c.list("/"), lambda: c.mkdir("new dir"), lambda: c.upload_sync("a ü.txt", write("u.txt", "x")), lambda: c.move("a", "b"))


def langsmith():
    import langsmith as l
    c = l.Client(api_key=TOKENS["langsmith"], auto_batch_tracing=False)
    each(lambda: c.create_run("r", {"text": LONG[:5000]}, "llm", project_name="p"), lambda: list(c.list_projects(limit=1)))


def wandb():
    import requests as r
    os.environ |= {"WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567", "WANDB_SILENT": "true", "WANDB_DIR": WORK}
    import wandb as w
    each(lambda: w.Api(timeout=5).viewer)


def discord():
    import asyncio, discord as d
    async def go():
        c = d.Client(intents=d.Intents.default(), proxy=os.environ["HTTPS_PROXY"])
        try: await c.login(TOKENS["discord"])
        except Exception as error: print(error)
        try: await c.http.send_message(1, params=d.http.handle_message_parameters(content="hi", file=d.File(io.BytesIO(PNG), "a.png")))
        except Exception as error: print(error)
        await c.close()
    asyncio.run(go())


def snowflake():
    import snowflake.connector as s
    each(lambda: s.connect(user="me", password="correct horse battery", account="ab12345", login_timeout=5, ocsp_fail_open=True, disable_ocsp_checks=True))


def datadog():
    import datadog as d
    d.initialize(api_key="0123456789abcdef0123456789abcdef", app_key="0123456789abcdef0123456789abcdef01234567", api_host="https://api.datadoghq.com")
    each(lambda: d.api.Metric.send(metric="m", points=1), lambda: d.api.Event.create(title="t", text="x"))


def statsig():
    import requests as r
    import statsig_python_core as s
    c = s.Statsig("secret-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6E", s.StatsigOptions(proxy_config=s.ProxyConfig(proxy_host="127.0.0.1", proxy_port=int(os.environ["HTTPS_PROXY"].rsplit(":", 1)[1]), proxy_protocol="http")))
    c.initialize().wait(); c.check_gate(s.StatsigUser("me"), "g"); c.shutdown().wait()


def dropbox():
    import dropbox as d
    c = d.Dropbox("sl." + "aB3dE6gH9jK2mN5pQ8sT" * 4, max_retries_on_error=0)
    each(lambda: c.users_get_current_account(), lambda: c.files_upload(b"x", "/a ü.txt"))


def jira():
    import jira as j
    c = j.JIRA("https://mine.atlassian.net", basic_auth=("me@example.com", "aB3dE6gH9jK2mN5pQ8sT1vW4"), get_server_info=False, max_retries=0)
    each(lambda: c.search_issues('project = "A" AND text ~ "x|y"'), lambda: c.create_issue(project="A", summary="s", description="{code}x{code}", issuetype={"name": "Bug"}))


def pinecone():
    from pinecone import Pinecone
    c = Pinecone(api_key="0123abcd-5717-4562-b3fc-2c963f66afa6", proxy_url=os.environ["HTTPS_PROXY"], ssl_ca_certs=os.environ["SSL_CERT_FILE"])
    each(lambda: c.list_indexes(), lambda: c.Index(host="i-abc.svc.pinecone.io").upsert([("a", [0.1] * 32, {"t": "x"})]), lambda: c.Index(host="i-abc.svc.pinecone.io").query(vector=[0.1] * 32, top_k=3))


ALL = {name: call for name, call in globals().items() if callable(call) and getattr(call, "__module__", "") == "__main__" and name not in ("write", "each", "urllib3_get", "proxied_elastic")}
if __name__ == "__main__":
    if sys.argv[1] == "--names": print(" ".join(ALL))
    else: ALL[sys.argv[1]]()
