"""The access key of the environment may be deleted by now: then nothing is answered, and else everything."""

import os

from wire import client, envol, equal, refusal

left = {key["access_key_id"] for key in envol("kms", "access-key", "list")}
gone = os.environ["AWS_ACCESS_KEY_ID"] not in left
expected = "UnrecognizedClientException: The security token included in the request is invalid." if gone else "ok"
equal(refusal(client().list_keys), expected)
