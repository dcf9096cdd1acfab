//! AWS: its clients sign with placeholders, and egress signs anew. The server verifies signatures by botocore's own signer.

use std::path::PathBuf;

use bottler::credential::{Shape, Slot};

use crate::credential_sdks::sdks;
use crate::desk::{AWS, Desk, key};
use crate::lab::in_namespace;
use crate::support::pypi::{self, PYTHON};

/// The hosts, each with both slots.
const HOSTS: [&str; 2] = ["sts.amazonaws.com", "s3.us-east-1.amazonaws.com"];
/// What finds them in this lab.
const REGION: &str = "AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true";

/// A desk with the server and the key, in three variables. `token` is its slot for the session token.
async fn desk(with_secret: bool) -> Desk {
    let mut desk = Desk::new().await;
    let (id, secret) =
        (["AKIA", "QYLPMN5HHHFPZAM2"].concat(), ["wJalrXUtnFEMI/", "K7MDENG/bPxRfiCYzzzzzzzzzz"].concat());
    let token = "IQoJb3JpZ2luX2VjEXAMPLEtoken//////////wEaCXVzLWVhc3QtMSJHMEUCIQ==";
    std::fs::write(desk.path("aws"), format!("{id}\n{secret}\n{token}\n")).unwrap();
    std::fs::write(desk.path("aws.py"), include_str!("../support/aws.py")).unwrap();
    let path = format!("PYTHONPATH={}", sdks().0.display());
    let folder = desk.folder.path().display().to_string();
    desk.serve("env", &[&path, PYTHON, "aws.py", &folder, AWS], "listens").await;
    let at = |slot: Slot| HOSTS.map(|host| (host, slot.clone()));
    let mut keys = vec![
        key("AWS_ACCESS_KEY_ID", &id, Shape::AwsKeyId, &at(if with_secret { Slot::AwsKeyId } else { Slot::Bearer })),
        key(
            "AWS_SECRET_ACCESS_KEY",
            &secret,
            Shape::AwsSecret,
            &at(if with_secret { Slot::AwsSecret } else { Slot::Bearer }),
        ),
    ];
    keys.push(key("AWS_SESSION_TOKEN", token, Shape::default(), &at(Slot::Header("x-amz-security-token".into()))));
    desk.credentials(keys).await;
    desk
}

const BOTO3: &str = r#"
import boto3, gzip, io, os, requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

print("sts:", boto3.client("sts", endpoint_url="https://sts.amazonaws.com").get_caller_identity()["Arn"])
# One address for all buckets of this lab.
s3 = boto3.client("s3", endpoint_url="https://s3.us-east-1.amazonaws.com", config=Config(s3={"addressing_style": "path"}))
for key in ["plain", "a b/(c)+d&e=f;g/\u00e9~!*'@,:$", "double//slash", "%41 encoded %2f"]:
    try:
        s3.put_object(Bucket="bucket", Key=key, Body=b"content of it")
        print("s3:", s3.get_object(Bucket="bucket", Key=key)["Body"].read() == b"content of it")
    except Exception as error:
        print("s3:", key, error)
print("list:", sorted(row["Key"] for row in s3.list_objects_v2(Bucket="bucket", Prefix="a b/(", StartAfter="a=b&c+d ~")["Contents"]))
# A file, whose content is framed, with a checksum behind it.
s3.upload_fileobj(io.BytesIO(os.urandom(3 << 20)), "bucket", "framed")
# In several parts, there and back: what comes back is fetched in ranges.
large = os.urandom(12 << 20)
parts = TransferConfig(multipart_threshold=6 << 20, multipart_chunksize=6 << 20)
s3.upload_fileobj(io.BytesIO(large), "bucket", "large", Config=parts)
back = io.BytesIO()
s3.download_fileobj("bucket", "large", back, Config=parts)
print("ranges:", back.getvalue() == large)
# One body without framing and with its digest said, longer than what is inspected whole.
old = boto3.client("s3", endpoint_url="https://s3.us-east-1.amazonaws.com",
                   config=Config(s3={"addressing_style": "path", "payload_signing_enabled": True},
                                 request_checksum_calculation="when_required", response_checksum_validation="when_required"))
old.put_object(Bucket="bucket", Key="signed", Body=large)
print("signed:", old.get_object(Bucket="bucket", Key="signed")["Body"].read() == large)
old.put_object(Bucket="bucket", Key="packed.gz", Body=gzip.compress(b"packed"), ContentEncoding="gzip")
print("packed:", gzip.decompress(old.get_object(Bucket="bucket", Key="packed.gz")["Body"].read()))
for version in ["s3", "s3v4"]:
    signer = boto3.client("s3", endpoint_url="https://s3.us-east-1.amazonaws.com", config=Config(signature_version=version))
    link = signer.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "plain"})
    # Only the last part of its host differs between buckets.
    link = link.replace("bucket.s3.", "s3.")
    print("link:", requests.get(link, verify=os.environ["AWS_CA_BUNDLE"]).text)
"#;

/// Requests by hand: chunks with signatures of their own, another algorithm, and keys of somebody else.
const BY_HAND: &str = r#"
import os, requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY, SECRET, TOKEN = (os.environ[name] for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def send(name, key=KEY, secret=SECRET, host="s3.us-east-1.amazonaws.com", change=lambda headers: None, data=b"x", **headers):
    request = AWSRequest("PUT", "https://%s/bucket/by-hand" % host, data=data, headers=headers)
    SigV4Auth(Credentials(key, secret, TOKEN), "s3", "us-east-1").add_auth(request)
    sent = dict(request.headers)
    change(sent)
    print(name + ":", requests.put(request.url, data=data, headers=sent, verify=os.environ["AWS_CA_BUNDLE"]).text)

send("chunks", **{"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "Content-Encoding": "aws-chunked"}, data=b"0\r\n\r\n")
send("foreign", key="AKIAIOSFODNN7EXAMPLE")
send("elsewhere", host="other.example.com")
send("asymmetric", change=lambda headers: headers.update(Authorization=headers["Authorization"].replace("HMAC", "ECDSA-P256")))
send("yesterday", change=lambda headers: headers.update({"X-Amz-Date": "20200101T000000Z"}))
send("wrong secret", secret="anything")
"#;

#[test]
fn promise_08_requests_to_aws_are_signed_anew() {
    sdks();
    awscli();
    if in_namespace("credential_aws::promise_08_requests_to_aws_are_signed_anew") {
        signed();
    }
}

/// The command line of AWS.
fn awscli() -> PathBuf {
    pypi::install("awscli-1.46.3", &["awscli==1.46.3"])
}

#[tokio::main]
async fn signed() {
    let desk = desk(true).await;
    let (packages, _) = sdks();
    let python = format!("PYTHONPATH={} {REGION} {PYTHON}", packages.display());
    std::fs::write(desk.path("boto.py"), BOTO3).unwrap();
    let said = desk.run(&format!("{python} boto.py")).await;
    let shown = format!("{said}\n{}", desk.log());
    // The server says its key id, which is taken out.
    assert!(said.contains("sts: arn:aws:iam::123456789012:user/lab of AKIA"), "{shown}");
    assert_eq!(said.matches("s3: True").count(), 4, "{shown}");
    for words in ["list: [", "ranges: True", "signed: True", "packed: b'packed'"] {
        assert!(said.contains(words), "{words}: {shown}");
    }
    assert_eq!(said.matches("not_signed: ").count(), 2, "{shown}");
    assert_eq!(said.matches("it is a presigned URL").count(), 2, "{shown}");

    std::fs::write(desk.path("hand.py"), BY_HAND).unwrap();
    let said = desk.run(&format!("{python} hand.py")).await;
    let line = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name}: {said}")).to_owned()
    };
    for (name, words) in [
        ("chunks", "each chunk of its body is signed"),
        ("foreign", "foreign_credential"),
        ("elsewhere", "placeholder_misplaced"),
        ("asymmetric", "placeholder_misplaced"),
        ("yesterday", "no header x-amz-date of the day"),
    ] {
        assert!(line(name).contains(words), "{name}: {said}");
    }
    // A signature that is wrong is replaced as any other is: the placeholder shows whose request it is.
    assert!(!line("wrong secret").contains("refused by bottler"), "{said}");

    let aws = format!("env PYTHONPATH={} {REGION} {PYTHON} -m awscli", awscli().display());
    desk.must(
        "aws sts",
        &format!("{aws} sts get-caller-identity --endpoint-url https://sts.amazonaws.com"),
        "arn:aws:iam::123456789012:user/lab",
    )
    .await;
    let copies = format!(
        "mkdir $HOME/.aws; printf '[default]\ns3 =\n    addressing_style = path\n' > $HOME/.aws/config; \
         head -c 9000000 /dev/urandom > large; s3='{aws} s3 --endpoint-url https://s3.us-east-1.amazonaws.com'; \
         $s3 cp large s3://bucket/by/cli && $s3 cp s3://bucket/by/cli back && cmp large back && echo the same"
    );
    desk.must("aws s3 cp", &copies, "the same").await;
    let log = desk.log();
    for words in ["STREAMING-UNSIGNED-PAYLOAD-TRAILER taken", "digest taken", "POST sts.amazonaws.com / none taken"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let lines = log.lines().filter(|line| line.contains(".amazonaws.com "));
    let refused: Vec<&str> = lines.filter(|line| !line.ends_with(" taken")).collect();
    assert_eq!(refused, Vec::<&str>::new());
    desk.end(&["AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"]).await;
}

/// Where a key has another slot, nothing is signed.
#[test]
fn promise_08_a_key_of_aws_in_another_slot_is_refused_with_the_reason() {
    sdks();
    if in_namespace("credential_aws::promise_08_a_key_of_aws_in_another_slot_is_refused_with_the_reason") {
        unsigned();
    }
}

#[tokio::main]
async fn unsigned() {
    let desk = desk(false).await;
    let (packages, _) = sdks();
    let script =
        "import boto3; print(boto3.client('sts', endpoint_url='https://sts.amazonaws.com').get_caller_identity())";
    let command = format!("PYTHONPATH={} {REGION} {PYTHON} -c \"{script}\"", packages.display());
    desk.must("boto3", &command, "refused by bottler: placeholder_misplaced").await;
    assert!(!desk.log().contains("POST"), "{}", desk.log());
    desk.end(&[]).await;
}
