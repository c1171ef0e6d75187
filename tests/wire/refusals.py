"""Requests that are refused before they come to a key."""

import datetime
import http.client
import json
import os
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from wire import client, envol, equal, refusal

endpoint = os.environ["AWS_ENDPOINT_URL_KMS"]
own = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
real_clock = botocore.auth.get_current_datetime


def send(target="TrentService.ListKeys", body=b"{}", key=own, headers=(), method="POST", path="/", minutes=0,
         service="kms", region="us-east-1", change=lambda headers: headers, token=None):
    """Status and error of a request that botocore signs and `change` changes."""
    url = urllib.parse.urlsplit(endpoint)
    named = {"Host": url.netloc, "X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1", **dict(headers)}
    request = botocore.awsrequest.AWSRequest(method, endpoint + "/", named, body)
    botocore.auth.get_current_datetime = lambda: real_clock() + datetime.timedelta(minutes=minutes)
    credentials = botocore.credentials.Credentials(*key, token=token)
    botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    connection = http.client.HTTPConnection(url.netloc)
    connection.request(method, path, body, change(dict(request.headers.items())))
    response = connection.getresponse()
    answer = response.read()
    assert response.headers["x-amzn-RequestId"], "every answer has a request id"
    answer = json.loads(answer or b"{}")
    return response.status, answer.get("__type"), answer.get("message")


def without(*names):
    return lambda headers: {name: value for name, value in headers.items() if name not in names}


def instead(**values):
    return lambda headers: {**headers, **{name.replace("_", "-"): value for name, value in values.items()}}


# --- signatures
equal(send(), (200, None, None))
equal(send(change=without("Authorization")), (400, "MissingAuthenticationTokenException", "Missing Authentication Token"))
mismatch = (400, "InvalidSignatureException", "The request signature we calculated does not match the signature you "
            "provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
equal(send(key=(own[0], own[1][:-1] + "!")), mismatch)
equal(send(change=instead(X_Amz_Target="TrentService.CreateKey")), mismatch)
equal(send(change=instead(Content_Type="application/json")), mismatch)
unknown = (400, "UnrecognizedClientException", "The security token included in the request is invalid.")
equal(send(key=("AKIAAAAAAAAAAAAAAAAA", own[1])), unknown)
equal(send(token="a session of nobody"), unknown)
for minutes, word in [(-6, "Signature expired: "), (6, "Signature not yet current: ")]:
    status, exception, message = send(minutes=minutes)
    equal((status, exception, message.startswith(word)), (400, "InvalidSignatureException", True))
for minutes in [-4, 4]:
    equal(send(minutes=minutes)[0], 200)
equal(send(service="s3"), (400, "InvalidSignatureException", "Credential should be scoped to correct service: 'kms'."))
equal(send(region="../x")[1], "IncompleteSignatureException")
equal(send(region="eu-west-3", target="TrentService.Sign")[:2], (400, "ValidationException"))
equal(send(region="eu-west-3", target="TrentService.Decapsulate",
           body=b'{"KeyId": "k", "SharedSecretCiphertextBlob": "AA==", "EncapsulationAlgorithm": "ML_KEM"}')[:2],
      (400, "UnsupportedOperationException"))
equal(send(region="US_EAST"), (400, "InvalidSignatureException", "Credential should be scoped to a valid region."))
equal(send(change=without("X-Amz-Date"))[1], "IncompleteSignatureException")

# --- shapes
equal(send(target="TrentService.NoSuchOperation")[:2], (400, "UnknownOperationException"))
equal(send(target="Other.ListKeys")[:2], (400, "UnknownOperationException"))
equal(send(body=b""), (200, None, None))
equal(send(body=b"{")[:2], (400, "SerializationException"))
equal(send(body=b"[]")[:2], (400, "SerializationException"))
equal(send(body=b'{"Limit": "1"}'), (400, "SerializationException", "STRING_VALUE can not be converted to an Integer"))
equal(send(body=b'{"Unknown": 1, "Limit": null}'), (200, None, None))
equal(send(path="/other")[:2], (404, "UnknownOperationException"))
equal(send(path="/?Action=ListKeys")[:2], (404, "UnknownOperationException"))
equal(send(body=b"x" * (1 << 20))[:2], (413, "RequestEntityTooLargeException"))
equal(send(target="TrentService.EnableKey"), (400, "ValidationException", "1 validation error detected: Value null at "
      "'keyId' failed to satisfy constraint: Member must not be null"))

# --- users: none but root has any right, whatever the operation
made = envol("kms", "access-key", "create", "--user", "alice")
alice = client(key=(made["access_key_id"], made["secret_access_key"]))
root = client()
key = root.create_key()["KeyMetadata"]
blob = root.encrypt(KeyId=key["KeyId"], Plaintext=b"x")["CiphertextBlob"]
root.create_alias(AliasName="alias/a", TargetKeyId=key["KeyId"])
shaped = {"KeyId": key["KeyId"], "SourceKeyId": key["KeyId"], "TargetKeyId": key["KeyId"], "DestinationKeyId": key["KeyId"], "CiphertextBlob": blob,
          "Plaintext": b"x", "NumberOfBytes": 32, "Description": "", "Tags": [], "TagKeys": [], "AliasName": "alias/a",
          "Message": b"x", "Mac": b"x", "MacAlgorithm": "HMAC_SHA_256", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": b"x",
          "KeyAgreementAlgorithm": "ECDH", "PublicKey": b"x", "KeyPairSpec": "ECC_NIST_P256", "WrappingAlgorithm": "RSAES_OAEP_SHA_256",
          "WrappingKeySpec": "RSA_2048", "ImportToken": b"x", "EncryptedKeyMaterial": b"x",
          "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE", "Policy": "{}", "Operations": ["Decrypt"],
          "GranteePrincipal": "arn:aws:iam::000000000000:user/alice", "GrantId": "0" * 64,
          "RetiringPrincipal": "arn:aws:iam::000000000000:user/alice"}
denied = 0
for method, operation in alice.meta.method_to_api_mapping.items():
    shape = alice.meta.service_model.operation_model(operation).input_shape
    members = {name: value for name, value in shaped.items() if name in shape.members}
    if operation == "RetireGrant":
        continue
    if operation in ["CreateKey", "CreateAlias"]:
        members.update({"Tags": [], "AliasName": "alias/new"})
        members = {name: value for name, value in members.items() if name in shape.members}
    found = refusal(getattr(alice, method), **members)
    if found.startswith(("UnsupportedOperationException", "ValidationException")):
        continue
    action = {"ReEncrypt": "ReEncryptFrom"}.get(operation, operation)
    resource = "*" if operation in ["CreateKey", "ListKeys", "GenerateRandom", "ListRetirableGrants"] else key["Arn"]
    if operation.endswith("Alias"):
        resource = f"arn:aws:kms:us-east-1:000000000000:{members['AliasName']}"
    equal(found, "AccessDeniedException: User: arn:aws:iam::000000000000:user/alice is not authorized to perform: "
          f"kms:{action} on resource: {resource} because no identity-based policy allows the kms:{action} action")
    denied += 1
equal(denied, 45)
grant = root.create_grant(KeyId=key["KeyId"], GranteePrincipal="arn:aws:iam::000000000000:user/bob", Operations=["Decrypt"])
found = refusal(alice.retire_grant, GrantToken=grant["GrantToken"])
assert found.startswith("AccessDeniedException: User: arn:aws:iam::000000000000:user/alice is not authorized to perform: "
                        "kms:RetireGrant on this resource because the resource does not exist"), found
for call, members in [(alice.decrypt, {}), (alice.re_encrypt, {"DestinationKeyId": key["KeyId"]})]:
    equal(refusal(call, CiphertextBlob=blob, **members), "AccessDeniedException: The ciphertext refers to a customer master key "
          "that does not exist, does not exist in this region, or you are not allowed to access.")
nowhere = client("eu-west-3", key=(made["access_key_id"], made["secret_access_key"]))
for call, members in [(nowhere.create_key, {}), (nowhere.encrypt, {"KeyId": "alias/a", "Plaintext": b"x"})]:
    found = refusal(call, **members)
    assert found.startswith("AccessDeniedException: User: arn:aws:iam::000000000000:user/alice is not"), found
equal(root.describe_key(KeyId="alias/a")["KeyMetadata"], key)
