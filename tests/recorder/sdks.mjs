// What programs in Node send: `node sdks.mjs NAME` calls the library of that name. The services are `origin.py`.
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
const require = createRequire(process.env.RECORDER + '/node/x.js');
const load = name => import(require.resolve(name));
const recorded = process.env.RECORDED;
const tokens = Object.fromEntries(Object.entries(JSON.parse(readFileSync(recorded + '/tokens.json', 'utf8'))).map(([name, pieces]) => [name, pieces.join('')]));
const long = readFileSync(recorded + '/long.txt', 'utf8');
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==', 'base64');
const schema = { type: 'object', properties: { path: { type: 'string', description: 'A path, such as `src\\main.rs`' } }, required: ['path'] };
const api = 'https://api.example.com';
const { setGlobalDispatcher, EnvHttpProxyAgent } = require('undici');
setGlobalDispatcher(new EnvHttpProxyAgent());
process.env.GLOBAL_AGENT_ENVIRONMENT_VARIABLE_NAMESPACE = '';
require('global-agent').bootstrap();
process.on('unhandledRejection', error => console.log('  later:', String(error).slice(0, 160)));
setTimeout(() => process.exit(0), 25000);

// What a fake service answers may be too little for a library, which is said.
async function each(...calls) {
  for (const call of calls) {
    try { await call(); } catch (error) { console.log('  ' + String(error).slice(0, 200)); }
  }
}
async function all(stream) { for await (const _ of stream); }

const programs = {
  async fetch() {
    const form = new FormData();
    form.append('a', ''); form.append('file', new Blob([png], { type: 'image/png' }), 'ä "b";c.png'); form.append('n\r\nx', 'line\nline');
    await each(() => fetch(api + '/f', { method: 'POST', body: form }), () => fetch(api + '/e', { method: 'POST', body: new FormData() }),
      () => fetch(api + '/q?q=' + encodeURIComponent('{"a":"<b>"}') + '&raw={a|b}'), () => fetch(api + '/p', { method: 'POST', body: new URLSearchParams({ a: 'b c', d: 'ü&' }) }),
      () => fetch(api + '/j', { method: 'PUT', headers: { 'content-type': 'application/json', authorization: 'Bearer ' + tokens.jwt }, body: JSON.stringify({ text: '\u2028\ud83e\udd80 "q"' }) }),
      () => fetch(api + '/s', { method: 'POST', duplex: 'half', body: new Blob(['streamed']).stream() }));
  },
  async undici() {
    const { request, FormData } = require('undici');
    const form = new FormData(); form.set('k', 'v');
    await each(async () => (await request(api + '/u', { method: 'POST', body: form })).body.text(), async () => (await request(api + '/u?a=b', { query: undefined, headers: ['X-A', '1', 'x-b', '2'] })).body.text());
  },
  async axios() {
    const axios = require('axios'), FormData = require('form-data');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const http = axios.create({ proxy: false, httpsAgent: new HttpsProxyAgent(process.env.HTTPS_PROXY) });
    const form = new FormData(); form.append('a', 'b'); form.append('f', png, { filename: 'x y.png' });
    await each(() => http.get(api + '/a', { params: { list: [1, 2], o: { a: 'b' }, q: 'a:b,c[d]' } }), () => http.post(api + '/a', { a: 1 }), () => http.post(api + '/form', form), () => http.post(api + '/url', new URLSearchParams({ a: 'b' })), () => http.get(api + '/x', { headers: { Cookie: 'a=b; XSRF-TOKEN=abc' }, auth: { username: 'me', password: 'pass word' } }));
  },
  async got() {
    const { got } = await load('got');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const g = got.extend({ retry: { limit: 0 }, agent: { https: new HttpsProxyAgent(process.env.HTTPS_PROXY) } });
    await each(() => g.post(api + '/g', { json: { a: 1 } }), () => g(api + '/g', { searchParams: { a: 'b c' } }), () => g.post(api + '/form', { form: { a: 'b' } }));
  },
  async openai() {
    const { default: OpenAI, toFile } = await load('openai');
    const c = new OpenAI({ apiKey: tokens.openai, maxRetries: 0 });
    const tools = [{ type: 'function', function: { name: 'read', parameters: schema } }];
    await each(() => c.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'Hi' }], tools }), async () => all(await c.responses.create({ model: 'm', input: long, stream: true })),
      () => c.embeddings.create({ model: 'm', input: 'a' }), async () => c.files.create({ purpose: 'batch', file: await toFile(Buffer.from('{}\n'), 'b.jsonl') }),
      () => c.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,' + png.toString('base64') } }] }] }));
  },
  async anthropic() {
    const { default: Anthropic, toFile } = await load('@anthropic-ai/sdk');
    const c = new Anthropic({ apiKey: tokens.anthropic, maxRetries: 0 });
    const tools = [{ name: 'read', input_schema: schema }];
    await each(() => c.messages.create({ model: 'm', max_tokens: 9, messages: [{ role: 'user', content: 'Hi' }], tools }), async () => all(await c.messages.create({ model: 'm', max_tokens: 9, stream: true, messages: [{ role: 'user', content: long }] })),
      () => c.messages.create({ model: 'm', max_tokens: 9, messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: png.toString('base64') } }] }] }), async () => c.beta.files.upload({ file: await toFile(png, 'a.png') }));
  },
  async google_genai() {
    const { GoogleGenAI } = await load('@google/genai');
    const c = new GoogleGenAI({ apiKey: tokens.google });
    await each(() => c.models.generateContent({ model: 'gemini-2.5-flash', contents: [{ inlineData: { mimeType: 'image/png', data: png.toString('base64') } }, 'What?'] }), async () => all(await c.models.generateContentStream({ model: 'gemini-2.5-flash', contents: long, config: { tools: [{ functionDeclarations: [{ name: 'read', parametersJsonSchema: schema }] }] } })), () => c.models.embedContent({ model: 'e', contents: 'a' }));
  },
  async ai() {
    const { generateText, streamText } = await load('ai');
    const { createOpenAI } = await load('@ai-sdk/openai');
    const { createAnthropic } = await load('@ai-sdk/anthropic');
    const o = createOpenAI({ apiKey: tokens.openai }), a = createAnthropic({ apiKey: tokens.anthropic });
    await each(() => generateText({ model: o('gpt-5'), prompt: long.slice(0, 20000), maxRetries: 0 }), () => generateText({ model: a('claude-sonnet-4-5'), prompt: 'Hi', maxRetries: 0 }));
  },
  async aws_sdk() {
    const s3 = require('@aws-sdk/client-s3');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const { NodeHttpHandler } = require('@smithy/node-http-handler');
    const c = new s3.S3Client({ region: 'us-east-1', maxAttempts: 1, credentials: { accessKeyId: tokens.aws, secretAccessKey: tokens.awssecret }, requestHandler: new NodeHttpHandler({ httpsAgent: new HttpsProxyAgent(process.env.HTTPS_PROXY) }) });
    const { Readable } = await import('node:stream');
    await each(() => c.send(new s3.PutObjectCommand({ Bucket: 'bucket', Key: 'k', Body: 'hello' })), () => c.send(new s3.PutObjectCommand({ Bucket: 'bucket', Key: 's', Body: Readable.from([Buffer.alloc(3000, 'x')]), ContentLength: 3000 })), () => c.send(new s3.GetObjectCommand({ Bucket: 'bucket', Key: 'k' })), () => c.send(new s3.ListObjectsV2Command({ Bucket: 'bucket' })));
  },
  async octokit() {
    const { Octokit } = await load('octokit');
    const c = new Octokit({ auth: tokens.github, retry: { enabled: false } });
    await each(() => c.rest.users.getAuthenticated(), () => c.graphql('query($n: String!) { viewer { login } repository(owner: "me", name: $n) { id } }', { n: 'repo' }), () => c.rest.repos.uploadReleaseAsset({ owner: 'me', repo: 'repo', release_id: 1, name: 'a.png', data: png }), () => c.rest.git.createBlob({ owner: 'me', repo: 'repo', content: png.toString('base64'), encoding: 'base64' }));
  },
  async sentry() {
    const s = require('@sentry/node');
    s.init({ dsn: 'https://0123456789abcdef0123456789abcdef@o123456.ingest.sentry.io/1', tracesSampleRate: 1 });
    s.startSpan({ name: 't' }, () => s.captureException(new Error('x'))); await s.flush(8000);
  },
  async posthog() {
    const { PostHog } = require('posthog-node');
    const c = new PostHog(tokens.posthog, { host: 'https://eu.i.posthog.com', flushAt: 1 });
    c.capture({ distinctId: 'me', event: 'e', properties: { a: long.slice(0, 500) } }); await c.shutdown();
  },
  async segment() {
    const { Analytics } = require('@segment/analytics-node');
    const c = new Analytics({ writeKey: 'aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01X', maxEventsInBatch: 1 });
    c.track({ userId: 'me', event: 'e' }); await c.closeAndFlush();
  },
  async statsig() {
    const s = require('statsig-node');
    await each(() => s.initialize('secret-aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC01XM6E', { initTimeoutMs: 3000 })); s.logEvent({ userID: 'me' }, 'e'); await s.flush();
  },
  async opentelemetry() {
    const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-http');
    const { BasicTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-base');
    for (const compression of ['none', 'gzip']) {
      const e = new OTLPTraceExporter({ url: 'https://otlp.example.com/v1/traces', compression, headers: { 'x-honeycomb-team': 'aB3dE6gH9jK2mN5pQ8sT1v' } });
      const p = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(e)] });
      p.getTracer('t').startSpan('s', { attributes: { a: 'b' } }).end(); await p.forceFlush(); await p.shutdown();
    }
  },
  async slack() {
    const { WebClient } = require('@slack/web-api');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const c = new WebClient(tokens.slack, { retryConfig: { retries: 0 }, agent: new HttpsProxyAgent(process.env.HTTPS_PROXY) });
    await each(() => c.chat.postMessage({ channel: 'C1', text: 'hi', blocks: [{ type: 'divider' }] }), () => c.filesUploadV2({ channel_id: 'C1', file: png, filename: 'a.png' }));
  },
  async stripe() {
    const Stripe = require('stripe');
    const c = new Stripe(tokens.stripe, { maxNetworkRetries: 0 });
    await each(() => c.customers.create({ email: 'me@example.com', metadata: { a: '[b]' } }), () => c.charges.list({ limit: 1 }));
  },
  async graphql_request() {
    const { request } = await load('graphql-request');
    await each(() => request('https://api.example.com/graphql', 'mutation M($t: String!) { add(t: $t) { id } }', { t: 'a "b"' }));
  },
  async connect() {
    const { createGrpcWebTransport, createConnectTransport } = require('@connectrpc/connect-web');
    const { createClient } = require('@connectrpc/connect');
    const { createRegistry } = require('@bufbuild/protobuf');
    const { EmptySchema } = require('@bufbuild/protobuf/wkt');
    // Built from descriptors of the library's own, because nothing generates code here.
    const { FileDescriptorProtoSchema, StringValueSchema, file_google_protobuf_wrappers } = require('@bufbuild/protobuf/wkt');
    const { createFileRegistry, create } = require('@bufbuild/protobuf');
    const file = create(FileDescriptorProtoSchema, { name: 'e.proto', package: 'demo', syntax: 'proto3', dependency: ['google/protobuf/wrappers.proto'], service: [{ name: 'Echo', method: [{ name: 'Say', inputType: '.google.protobuf.StringValue', outputType: '.google.protobuf.StringValue' }] }] });
    const registry = createFileRegistry(file, name => name === 'google/protobuf/wrappers.proto' ? file_google_protobuf_wrappers.proto : undefined);
    const service = registry.getService('demo.Echo');
    for (const transport of [createGrpcWebTransport, createConnectTransport])
      await each(() => createClient(service, transport({ baseUrl: 'https://grpc.example.com' })).say({ value: 'hello ü' }));
  },
  async grpc_web_text() {
    global.XMLHttpRequest = require('xhr2');
    const { GrpcWebClientBase, MethodDescriptor, MethodType } = require('grpc-web');
    const c = new GrpcWebClientBase({ format: 'text' });
    const call = (path, bytes) => new Promise(done => c.rpcCall('https://grpc.example.com' + path, {}, {}, new MethodDescriptor(path, MethodType.UNARY, Object, Object, () => bytes, b => b), error => done(error)));
    await each(() => call('/demo.Echo/Say', Buffer.from('0a0568656c6c6f12020001', 'hex')), () => call('/demo.Echo/Empty', Buffer.alloc(0)), () => call('/demo.Echo/Blob', randomBytes(700)));
  },
  async googleapis() {
    const { JWT, OAuth2Client } = require('google-auth-library');
    const c = new OAuth2Client({ clientId: '1-a.apps.googleusercontent.com', clientSecret: 'secret' });
    c.setCredentials({ access_token: tokens.googleoauth });
    await each(() => c.request({ url: 'https://www.googleapis.com/drive/v3/files', params: { q: "name contains 'a' and trashed = false", fields: 'files(id,name)' } }));
  },
  async socket_io() {
    const { io } = require('socket.io-client');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const s = io('https://api.example.com', { transports: ['polling'], reconnection: false, agent: new HttpsProxyAgent(process.env.HTTPS_PROXY) });
    await new Promise(done => { s.on('connect_error', done); setTimeout(done, 3000); });
  },
  async elastic() {
    const { Client, HttpConnection } = require('@elastic/elasticsearch');
    const { HttpsProxyAgent } = require('https-proxy-agent');
    const c = new Client({ node: 'https://search.example.com', maxRetries: 0, Connection: HttpConnection, agent: () => new HttpsProxyAgent(process.env.HTTPS_PROXY), auth: { apiKey: 'VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==' } });
    await each(() => c.bulk({ operations: [{ index: { _index: 'i' } }, { a: 1 }] }), () => c.search({ index: 'i', q: 'a:(b OR "c d")' }));
  },
};

if (process.argv[2] === '--names') console.log(Object.keys(programs).join(' '));
else await programs[process.argv[2]]();
process.exit(0);
