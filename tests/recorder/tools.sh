#!/bin/bash
# What programs of the command line send: `tools.sh NAME` runs the program of that name in an empty folder. The services are
# `origin.py`; what they answer may be too little for a program, and then it fails.
set -u
PATH=$RECORDER/venv/bin:$RECORDER/node/node_modules/.bin:$PATH
# What other tests have installed.
for programs in "$RECORDER"/../npm/*/node_modules/.bin; do PATH=$PATH:$programs; done
api=https://api.example.com
lines() { seq -f 'line %.0f of a file, with some text' "$1"; }

curl_() {
    printf x > 'a;b "c".txt'; : > empty; lines 100 > lines.txt
    curl -sS -g "$api/q?filter={\"a\":[\"b\"]}&x=<y>|z"
    curl -sS --http1.1 -g "$api/q1?filter={\"a\":[\"b\"]}&x=<y>|z"
    curl -sS --form 'file=@"a;b \"c\".txt";type=text/plain' --form 'empty=' --form 'none=@empty' --form-string 'x;y=@z' $api/form
    curl -sS --data-urlencode 'q=a&b="c"' -d @lines.txt $api/d
    curl -sS -T lines.txt $api/put
    lines 40 | curl -sS -T - $api/chunked
    curl -sS -H 'Expect: 100-continue' --data-binary @lines.txt $api/expect
    curl -sS --json '{"a": 1}' -X PATCH $api/json
    curl -sS -u 'me:pass word' --cookie 'a=b; c="d e"' --compressed -r 0-99 $api/get
    curl -sS -I $api/head
    curl -sS -X OPTIONS -H 'Origin: https://app.example.com' -H 'Access-Control-Request-Method: PUT' $api/cors
    curl -sS -X PROPFIND -H 'Depth: 1' https://files.example.com/dav/
    curl -sS "http://plain.example.com/a?b=%22c%22"
    gzip -c lines.txt | curl -sS --data-binary @- -H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' $api/gzip
    curl -sSL -o /dev/null https://github.com/me/repo/releases/download/v1/a.tar.gz
    curl -sS --aws-sigv4 aws:amz:us-east-1:s3 -u "$TOK_AWS:$TOK_AWSSECRET" -T lines.txt https://bucket.s3.us-east-1.amazonaws.com/k
    curl -sS -H "PRIVATE-TOKEN: $TOK_GITLAB" https://gitlab.com/api/v4/user
    curl -sS -H "X-Vault-Token: $TOK_VAULT" -X LIST https://vault.example.com/v1/secret/metadata
    curl -sS "https://maps.googleapis.com/maps/api/geocode/json?address=a,+b&key=$TOK_GOOGLE"
    curl -sS -X POST "https://api.telegram.org/bot$TOK_TELEGRAM/sendMessage" -d chat_id=1 -d text='hi'
}
wget_() {
    wget -q --ca-certificate="$SSL_CERT_FILE" -O - "$api/w?q=\"a b\"&x=<y>"; wget -q --ca-certificate="$SSL_CERT_FILE" -O - --post-data 'a=b&c=d' $api/w; wget -q --ca-certificate="$SSL_CERT_FILE" -O - --method PUT --body-data '{"a":1}' --header 'Content-Type: application/json' $api/w
    wget -q --ca-certificate="$SSL_CERT_FILE" -O - --user me --password 'pass' --auth-no-challenge $api/basic; wget -q --ca-certificate="$SSL_CERT_FILE" -c -O part http://plain.example.com/a.iso
}
aria2() { aria2c -q --check-certificate=true --ca-certificate="$SSL_CERT_FILE" -x 2 -d . $api/a.bin; }
httpie() { http --ignore-stdin POST $api/h a=b c:=1 X-H:v; http --ignore-stdin --form POST $api/h a@/etc/hostname b=c; http --ignore-stdin GET $api/h q=='a b'; http --ignore-stdin --multipart POST $api/h a=; }
git_() { git ls-remote https://github.com/me/repo.git; git clone -q --depth 1 "https://x-access-token:$TOK_GITHUB@github.com/me/repo.git"; }
git_lfs() {
    git init -q r; cd r || exit; git config lfs.url https://github.com/me/repo.git/info/lfs; git config lfs.https://github.com/me/repo.git/info/lfs.locksverify true
    git config user.email me@example.com; git config user.name me; git lfs install --local -q 2> /dev/null; git lfs track -q '*.bin'; head -c 3000 /dev/urandom > a.bin; git add . ; git commit -qm a; git remote add origin "https://me:$TOK_GITHUB@github.com/me/repo.git"
    git lfs push origin --object-id "$(sha256sum a.bin | cut -d' ' -f1)"; git lfs locks; git lfs lock a.bin
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 3\n' 7 | git lfs smudge
}
skopeo_() {
    skopeo copy -q docker://docker.io/library/alpine:3 dir:image; skopeo inspect docker://ghcr.io/me/tool:1
    skopeo copy -q --dest-creds "me:$TOK_GITHUB" dir:image docker://ghcr.io/me/pushed:1; skopeo list-tags --creds "me:$TOK_DOCKER" docker://docker.io/me/tool; skopeo delete --creds me:pass docker://registry.example.com/a/b:1
}
docker_() { docker manifest inspect alpine:3; echo "$TOK_DOCKER" | docker login -u me --password-stdin; docker buildx imagetools inspect alpine:3; }
gh_() {
    export GH_TOKEN=$TOK_GITHUB
    gh api user; gh api graphql -f query='query($o:String!){repository(owner:$o,name:"repo"){id}}' -f o=me; gh api repos/me/repo/issues -f title='a "b"' -f body='c'
    gh issue create -R me/repo -t t -b 'body <b>'; gh pr list -R me/repo; echo x > a.txt; gh gist create a.txt; gh release view v1 -R me/repo; gh release download v1 -R me/repo -D d; gh release upload v1 a.txt -R me/repo; gh search issues 'a b' ; gh secret list -R me/repo; gh workflow run x.yml -R me/repo -f a=b
    gh api -X PUT repos/me/repo/contents/a.txt -f message=m -f content="$(base64 -w0 a.txt)"; unset GH_TOKEN; timeout 5 gh auth login -h github.com -p https -w < /dev/null
}
kubectl_() {
    cat > config <<CONFIG
{"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [{"name": "k", "cluster": {"server": "https://k8s.example.com", "certificate-authority": "$SSL_CERT_FILE"}}],
 "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}], "users": [{"name": "u", "user": {"token": "$TOK_JWT"}}]}
CONFIG
    export KUBECONFIG=$PWD/config
    kubectl version; kubectl get pods -l 'a in (b,c),!d'; kubectl create configmap new-a --from-literal=b=c; kubectl get deployments -o json
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: new-a, namespace: default}\ndata: {k: "%s"}\n' "$(lines 20 | base64 -w0)" > m.yaml
    kubectl apply -f m.yaml --validate=false; kubectl apply --server-side -f m.yaml --validate=false; kubectl patch configmap a -p '{"data":{"a":"b"}}'; kubectl delete configmap a --wait=false; kubectl scale deployment a --replicas 2; kubectl create token default; timeout 5 kubectl exec a -- ls; timeout 5 kubectl logs a --tail 5
}
aws_() {
    export AWS_ACCESS_KEY_ID=$TOK_AWS AWS_SECRET_ACCESS_KEY=$TOK_AWSSECRET AWS_DEFAULT_REGION=us-east-1 AWS_MAX_ATTEMPTS=1 AWS_EC2_METADATA_DISABLED=true
    lines 50 > a.txt; aws s3 cp a.txt s3://bucket/a.txt; lines 10 | aws s3 cp - s3://bucket/stdin; aws s3 ls s3://bucket/; aws s3 cp s3://bucket/k b.txt; curl -sS "$(aws s3 presign s3://bucket/k)"; aws s3 rm s3://bucket/k; aws s3 cp s3://bucket/a s3://bucket/b
    aws sts get-caller-identity; aws ssm put-parameter --name a --value b --type String; aws ec2 describe-instances --filters 'Name=tag:a,Values=b*'; aws cloudformation validate-template --template-body '{"Resources": {}}'; aws sns publish --topic-arn arn:aws:sns:us-east-1:1:t --message 'a & b'
}
rclone_() {
    unset AWS_CA_BUNDLE
    lines 50 > a.txt; s3=:s3,provider=AWS,access_key_id=$TOK_AWS,secret_access_key=$TOK_AWSSECRET,region=us-east-1:bucket
    o=(--retries 1 --low-level-retries 1 -q); rclone "${o[@]}" copyto a.txt "$s3/a b.txt"; lines 500 | rclone "${o[@]}" rcat "$s3/streamed"; rclone "${o[@]}" lsf "$s3"; rclone "${o[@]}" copyto "$s3/k" c.txt
    rclone "${o[@]}" copyto a.txt ":webdav,url='https://files.example.com/dav',user=me:ü.txt"; rclone "${o[@]}" lsf ":webdav,url='https://files.example.com/dav':"
}
s3cmd_() { lines 50 > a.txt; printf '[default]\nproxy_host = 127.0.0.1\nproxy_port = %s\n' "${HTTPS_PROXY##*:}" > c; o=(-c c --access_key "$TOK_AWS" --secret_key "$TOK_AWSSECRET" --ca-certs "$SSL_CERT_FILE" --no-progress); s3cmd "${o[@]}" put a.txt s3://bucket/a.txt; s3cmd "${o[@]}" ls s3://bucket; s3cmd "${o[@]}" setacl --acl-private s3://bucket/a.txt; }
restic_() { AWS_ACCESS_KEY_ID=$TOK_AWS AWS_SECRET_ACCESS_KEY=$TOK_AWSSECRET RESTIC_PASSWORD=x timeout 20 restic -r s3:https://s3.us-east-1.amazonaws.com/bucket/r init; }
npm_() {
    printf '//registry.npmjs.org/:_authToken=%s\n' "$TOK_NPM" > .npmrc; echo '{"name":"@me/mine","version":"1.0.0","dependencies":{"demo":"^1.0.0"}}' > package.json; lines 30 > README.md
    npm install --loglevel=error; npm audit; npm view demo; npm search demo; npm whoami; npm publish --access public; npm dist-tag ls demo; npm deprecate demo@1 'a "b"'; npm outdated; npm ping
}
pnpm_() { printf '//registry.npmjs.org/:_authToken=%s\n' "$TOK_NPM" > .npmrc; echo '{"name":"@me/mine","version":"1.0.0","dependencies":{"demo":"^1.0.0"}}' > package.json; pnpm install --store-dir store; pnpm audit; pnpm publish --no-git-checks; }
yarn_() { echo '{"name":"mine","version":"1.0.0","license":"MIT","dependencies":{"demo":"^1.0.0"}}' > package.json; yarn install --non-interactive; yarn audit --json; yarn info demo; NPM_AUTH_TOKEN=x yarn publish --non-interactive --new-version 1.0.1; }
bun_() { echo '{"name":"mine","version":"1.0.0","dependencies":{"demo":"^1.0.0"}}' > package.json; bun install; echo 'const f = new FormData(); f.append("a", new Blob(["x"]), "a.txt"); await fetch("https://api.example.com/bun", {method: "POST", body: f}); await fetch("https://api.example.com/bun?a=\"b\"")' > a.ts; bun run a.ts; }
deno_() { echo 'const f = new FormData(); f.append("a", new Blob(["x"]), "a.txt"); await fetch("https://api.example.com/deno", {method: "POST", body: f}); await fetch("https://api.example.com/deno?a=b c")' > a.ts; DENO_CERT=$SSL_CERT_FILE deno run -A a.ts; }
pip_() { pip download -q --no-deps demo -d w; pip install -q --index-url https://me:pass@pypi.org/simple --no-deps --target t demo; pip index versions demo; pip search demo; }
uv_() { mkdir dist; cp "$RECORDER/demo-1.0-py3-none-any.whl" dist; uv venv -q v; VIRTUAL_ENV=v uv pip install -q --no-deps demo; UV_PUBLISH_TOKEN=$TOK_PYPI uv publish -q dist/*; }
twine_() { twine upload --non-interactive -u __token__ -p "$TOK_PYPI" "$RECORDER/demo-1.0-py3-none-any.whl"; twine upload --non-interactive --repository-url https://pypi.example.com/legacy/ -u me -p pass --comment 'a "b"' "$RECORDER/demo-1.0-py3-none-any.whl"; }
poetry_() { printf '[project]\nname = "mine"\nversion = "1.0"\ndescription = "d"\n' > pyproject.toml; mkdir mine dist; : > mine/__init__.py; poetry build -q; POETRY_PYPI_TOKEN_PYPI=$TOK_PYPI poetry publish -q; }
cargo_() {
    cargo -q init --lib --name mine-tool . --vcs none; printf 'description = "d"\nlicense = "MIT"\n' > more; sed -i '/^edition/r more' Cargo.toml
    export CARGO_REGISTRY_TOKEN=$TOK_CRATESIO CARGO_NET_RETRY=0; cargo publish -q --allow-dirty --no-verify; cargo search serde; cargo yank mine-tool --version 0.1.0; cargo owner --list mine-tool; echo 'demo = "1"' >> Cargo.toml; cargo fetch
}
go_() { export GOPROXY=https://proxy.golang.org GOFLAGS=-mod=mod GOMODCACHE=$PWD/cache; go mod init example.com/mine; go get example.com/demo@latest; go list -m -versions example.com/demo; }
go_http() { mkdir m; cp "$RECORDERS/client.go" m/main.go; go run m/main.go; }
maven() { mvn -q -B -s "$RECORDER/settings.xml" org.apache.maven.plugins:maven-deploy-plugin:2.7:deploy-file -Durl=https://maven.example.com/releases -DrepositoryId=mine -Dfile="$RECORDER/demo-1.0-py3-none-any.whl" -DgroupId=a -DartifactId=b -Dversion=1 -Dpackaging=jar; }
java_() { java -Djavax.net.ssl.trustStore="$RECORDER/trust.jks" -Djavax.net.ssl.trustStorePassword=changeit -Djdk.http.auth.tunneling.disabledSchemes= "$RECORDERS/Client.java"; }
apt() { mkdir -p s/lists/partial c/archives/partial; echo 'deb [trusted=yes] http://deb.debian.org/debian bookworm main' > l; touch status; apt-get -qq -o Dir::Etc::sourcelist="$PWD/l" -o Dir::Etc::sourceparts=/dev/null -o Dir::State="$PWD/s" -o Dir::State::status="$PWD/status" -o Dir::Cache="$PWD/c" -o Acquire::http::Proxy="$HTTPS_PROXY" -o Acquire::Retries=0 -o APT::Sandbox::User=root update; }
terraform_() {
    printf 'terraform {\n  cloud {\n    organization = "me"\n    workspaces { name = "w" }\n  }\n}\n' > a.tf; TF_TOKEN_app_terraform_io=$TOK_TERRAFORM terraform init -input=false -no-color; mkdir b; cd b || exit
    printf 'terraform {\n  required_providers { x = { source = "me/x" } }\n}\nmodule "m" { source = "me/m/aws" }\n' > a.tf; terraform init -input=false -no-color
}
svn_() { svn ls --non-interactive --config-option "servers:global:ssl-authority-files=$SSL_CERT_FILE" --config-option servers:global:http-proxy-host=127.0.0.1 --config-option "servers:global:http-proxy-port=${HTTPS_PROXY##*:}" https://files.example.com/svn/trunk; }
ruby_() { ruby -e 'require "net/http"; u = URI("https://api.example.com/ruby"); Net::HTTP.start(u.host, 443, use_ssl: true, ca_file: ENV["SSL_CERT_FILE"]) { |h| r = Net::HTTP::Post.new(u); r.set_form([["a", "b"], ["f", "x", {filename: "a \"b\".txt"}]], "multipart/form-data"); h.request(r) }'; }
gcloud_() { export CLOUDSDK_AUTH_ACCESS_TOKEN=$TOK_GOOGLEOAUTH CLOUDSDK_CORE_PROJECT=p CLOUDSDK_CORE_DISABLE_PROMPTS=1; lines 20 > a.txt; timeout 40 gcloud storage cp a.txt gs://b/a.txt; timeout 20 gcloud storage ls gs://b; timeout 20 gcloud compute instances list; }
perl_() { export PERL_LWP_SSL_CA_FILE=$SSL_CERT_FILE; perl -MHTTP::Tiny -e '$h = HTTP::Tiny->new(SSL_options => {SSL_ca_file => $ENV{SSL_CERT_FILE}}, verify_SSL => 1); print $h->post_form("https://api.example.com/perl", {a => "b c", d => ["e", "f"]})->{status}; print $h->get("http://plain.example.com/perl")->{status}'; }
claude_() { ANTHROPIC_API_KEY=$TOK_ANTHROPIC timeout 60 claude -p 'hello' < /dev/null; }
codex_() { mkdir -p "$HOME/.codex"; OPENAI_API_KEY=$TOK_OPENAI CODEX_API_KEY=$TOK_OPENAI timeout 60 codex exec --skip-git-repo-check hello < /dev/null; }
gemini_() { GEMINI_CLI_TRUST_WORKSPACE=true GEMINI_API_KEY=$TOK_GOOGLE timeout 60 gemini -p hello < /dev/null; }
opencode_() { ANTHROPIC_API_KEY=$TOK_ANTHROPIC timeout 60 opencode run -m anthropic/claude-sonnet-4-5 hello < /dev/null; }
copilot_() { GH_TOKEN=$TOK_GITHUBPAT timeout 60 copilot -p hello --allow-all-tools < /dev/null; }
pi_() { ANTHROPIC_API_KEY=$TOK_ANTHROPIC timeout 60 pi --provider anthropic --model claude-sonnet-4-5 -p hello < /dev/null; }
qwen_() { OPENAI_API_KEY=$TOK_OPENAI OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_MODEL=m timeout 60 qwen -p hello < /dev/null; }

if [ "$1" = --names ]; then declare -F | awk '{print $3}' | grep -v '^lines$'; else "$1"; fi
