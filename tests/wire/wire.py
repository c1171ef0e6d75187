"""What the scripts of this folder share: a boto3 client whose every response is held against the service model."""

import json
import os
import subprocess

import boto3
import botocore.config
import botocore.exceptions
import botocore.validate
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

# Every operation that has succeeded.
succeeded = set()


def known(shape, value, path):
    """Fails where `value` has members that the model does not know, which botocore would drop unseen."""
    if shape.type_name == "structure":
        for name, member in value.items():
            assert name in shape.members, f"{path}.{name} is not in the model"
            known(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for item in value:
            known(shape.member, item, path)


def check(http_response, parsed, model, **_):
    assert http_response.headers["x-amzn-RequestId"], "every answer has a request id"
    if http_response.status_code != 200:
        return
    succeeded.add(model.name)
    body = http_response.content
    if model.output_shape is None:
        assert body == b"", f"{model.name} answers nothing, not {body}"
        return
    known(model.output_shape, json.loads(body), model.name)
    members = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
    if "Grants" in members:
        # AWS gives a grant without a name the name "", against its own model.
        members["Grants"] = [{name: value for name, value in grant.items() if (name, value) != ("Name", "")}
                             for grant in members["Grants"]]
    report = botocore.validate.ParamValidator().validate(members, model.output_shape)
    assert not report.has_errors(), f"{model.name}: {report.generate_report()}"


def client(region="us-east-1", key=None):
    credentials = {"aws_access_key_id": key[0], "aws_secret_access_key": key[1]} if key else {}
    # What a request lacks must be the KMS's to say, not the client's.
    config = botocore.config.Config(parameter_validation=False, retries={"max_attempts": 0})
    made = boto3.client("kms", region_name=region, config=config, **credentials)
    made.meta.events.register("after-call.kms", check)
    return made


def brought(given, wrapping, material):
    """`material`, wrapped as `wrapping` says for what GetParametersForImport has given."""
    public = serialization.load_der_public_key(given["PublicKey"])
    equal(f"RSA_{public.key_size}", wrapping["WrappingKeySpec"])
    digest = hashes.SHA256 if wrapping["WrappingAlgorithm"].endswith("256") else hashes.SHA1
    oaep = padding.OAEP(padding.MGF1(digest()), digest(), None)
    if wrapping["WrappingAlgorithm"].startswith("RSAES"):
        return public.encrypt(material, oaep)
    key = os.urandom(32)
    return public.encrypt(key, oaep) + keywrap.aes_key_wrap_with_padding(key, material)


def spki(public):
    """A public key as AWS has it."""
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def verified_there(public, algorithm, signature, message):
    """Fails where OpenSSL does not find `signature` to be one of `message`."""
    if algorithm == "ED25519_SHA_512":
        return public.verify(signature, message)
    digest = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}[algorithm[-3:]]()
    if algorithm.startswith("ECDSA"):
        return public.verify(signature, message, ec.ECDSA(digest))
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return public.verify(signature, message, pss if "PSS" in algorithm else padding.PKCS1v15(), digest)


def envol(*words):
    """What `envol WORDS --json` answers."""
    output = subprocess.run([os.environ["ENVOL"], *words, "--json"], capture_output=True, check=True)
    return json.loads(output.stdout)


def refusal(call, **members):
    """`exception: message` of a call that is refused."""
    try:
        call(**members)
    except botocore.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status == 400, f"{error}: {status}"
        return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
    return "ok"


def equal(found, expected):
    assert found == expected, f"\nfound    {found!r}\nexpected {expected!r}"
