"""Makes a key with a tag and an alias here and in another region, and leaves a ciphertext under each."""

import pathlib
import os

from wire import client

folder = pathlib.Path(os.environ["ENVOL_SOCKET"]).parent
for region in ["us-east-1", "eu-west-1"]:
    kms = client(region)
    key = kms.create_key(Description=region, Tags=[{"TagKey": "Region", "TagValue": region}])["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/kept", TargetKeyId=key)
    kms.enable_key_rotation(KeyId=key)
    sealed = kms.encrypt(KeyId="alias/kept", Plaintext=region.encode())["CiphertextBlob"]
    (folder / region).write_bytes(sealed)
