"""Prints requests that botocore signed, one JSON document a line."""

import base64
import datetime
import json

import botocore.auth
import botocore.awsrequest
import botocore.credentials

TIME = datetime.datetime(2027, 1, 15, 8, 0, 0)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

botocore.auth.get_current_datetime = lambda: TIME

for extra, body in [
    ({}, b"{}"),
    ({}, b""),
    ({"Content-Type": "application/x-amz-json-1.1"}, b'{"Limit": 1}'),
    ({"X-Custom": "  two   blanks  and more "}, b"{}"),
    ({"X-Custom": "a,b, c"}, b"{}"),
    ({"X-Quoted": '"a   b"'}, b"{}"),
    ({"X-Empty": ""}, b"{}"),
    ({"Accept": "*/*", "Zebra": "1", "alpha": "2"}, b"{}"),
    ({"X-Amz-Content-Sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, b""),
    ({}, "{\"Description\": \"\u00e4\u20ac\"}".encode()),
    ({}, bytes(range(256)) * 100),
]:
    headers = {"Host": "127.0.0.1:4599", "X-Amz-Target": "TrentService.ListKeys", **extra}
    request = botocore.awsrequest.AWSRequest("POST", "http://127.0.0.1:4599/", headers, body)
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", SECRET)
    botocore.auth.SigV4Auth(credentials, "kms", "eu-west-1").add_auth(request)
    pairs = [[name, value.decode() if isinstance(value, bytes) else value] for name, value in request.headers.items()]
    print(json.dumps({
        "secret": SECRET,
        "headers": pairs,
        "body": base64.b64encode(body).decode(),
        "time": int(TIME.replace(tzinfo=datetime.timezone.utc).timestamp()),
    }))
