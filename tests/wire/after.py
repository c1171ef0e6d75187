"""Finds what before.py made, with the same access key."""

import pathlib
import os

from wire import client, equal

folder = pathlib.Path(os.environ["ENVOL_SOCKET"]).parent
for region in ["us-east-1", "eu-west-1"]:
    kms = client(region)
    opened = kms.decrypt(CiphertextBlob=(folder / region).read_bytes())
    equal(opened["Plaintext"], region.encode())
    key = opened["KeyId"]
    equal(kms.describe_key(KeyId="alias/kept")["KeyMetadata"]["Description"], region)
    equal(kms.list_resource_tags(KeyId=key)["Tags"], [{"TagKey": "Region", "TagValue": region}])
    equal(kms.get_key_rotation_status(KeyId=key)["RotationPeriodInDays"], 365)
