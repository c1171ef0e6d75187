"""Every operation, as its users know it. Prints the names of those that succeeded."""

import datetime
import hashlib
import hmac
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from wire import brought, client, envol, equal, refusal, spki, succeeded, verified_there

kms = client()
account = "arn:aws:kms:us-east-1:000000000000:"
PREFIX = "ValidationException: 1 validation error detected: Value"

# --- keys
made = kms.create_key(Description="words", Tags=[{"TagKey": "Env", "TagValue": "Test"}])["KeyMetadata"]
key, arn = made["KeyId"], made["Arn"]
equal(arn, f"{account}key/{key}")
expected = {
    "AWSAccountId": "000000000000", "KeyId": key, "Arn": arn, "Enabled": True, "Description": "words",
    "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled", "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
    "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "KeySpec": "SYMMETRIC_DEFAULT",
    "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": False,
}
equal({name: made[name] for name in expected}, expected)
age = datetime.datetime.now(datetime.timezone.utc) - made["CreationDate"]
assert abs(age) < datetime.timedelta(minutes=5), age
equal(kms.describe_key(KeyId=arn)["KeyMetadata"], made)
kms.update_key_description(KeyId=key, Description="other words")
equal(kms.describe_key(KeyId=key)["KeyMetadata"]["Description"], "other words")
policy = kms.get_key_policy(KeyId=key)
equal((policy["PolicyName"], json.loads(policy["Policy"])["Id"]), ("default", "key-default-1"))
equal(kms.list_key_policies(KeyId=key)["PolicyNames"], ["default"])
kms.create_key(Policy=policy["Policy"], Origin="AWS_KMS", MultiRegion=False, KeyUsage="ENCRYPT_DECRYPT")

for members, expected in [
    ({"KeySpec": "RSA_2048"}, "ValidationException: You must specify a KeyUsage value for all KMS keys except for "
     "symmetric encryption keys."),
    ({"KeySpec": "ML_DSA_44", "KeyUsage": "SIGN_VERIFY"}, "UnsupportedOperationException: KeySpec ML_DSA_44 is not "
     "supported by this KMS."),
    ({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL"}, "UnsupportedOperationException: Origin "
     "EXTERNAL with KeySpec RSA_2048 is not supported by this KMS."),
    ({"KeySpec": "RSA_2048", "KeyUsage": "KEY_AGREEMENT"}, "ValidationException: KeyUsage KEY_AGREEMENT is not compatible "
     "with KeySpec RSA_2048"),
    ({"Origin": "AWS_CLOUDHSM"}, "UnsupportedOperationException: Origin AWS_CLOUDHSM is not "
     "supported by this KMS."),
    ({"MultiRegion": True}, "UnsupportedOperationException: MultiRegion is not supported by this KMS."),
    ({"Policy": "{}"}, "MalformedPolicyDocumentException: The policy lacks the element Statement."),
    ({"KeySpec": "none"}, f"{PREFIX} 'none' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set:"),
    ({"Tags": [{"TagKey": "aws:a", "TagValue": ""}]}, "TagException: Tags beginning with aws: are reserved"),
]:
    found = refusal(kms.create_key, **members)
    assert found.startswith(expected), f"{members}: {found}"

# --- tags
kms.tag_resource(KeyId=arn, Tags=[{"TagKey": "Env", "TagValue": "Prod"}, {"TagKey": "A", "TagValue": ""}])
tags = kms.list_resource_tags(KeyId=key)
equal(tags["Tags"], [{"TagKey": "A", "TagValue": ""}, {"TagKey": "Env", "TagValue": "Prod"}])
kms.untag_resource(KeyId=key, TagKeys=["A"])
equal(kms.list_resource_tags(KeyId=key)["Tags"], [{"TagKey": "Env", "TagValue": "Prod"}])

# --- aliases
kms.create_alias(AliasName="alias/a", TargetKeyId=key)
kms.create_alias(AliasName="alias/b", TargetKeyId=arn)
aliases = kms.list_aliases(KeyId=key)["Aliases"]
equal([alias["AliasName"] for alias in aliases], ["alias/a", "alias/b"])
equal((aliases[0]["AliasArn"], aliases[0]["TargetKeyId"]), (f"{account}alias/a", key))
other = kms.create_key()["KeyMetadata"]["KeyId"]
kms.update_alias(AliasName="alias/b", TargetKeyId=other)
equal(kms.describe_key(KeyId="alias/b")["KeyMetadata"]["KeyId"], other)
equal(kms.describe_key(KeyId=f"{account}alias/a")["KeyMetadata"]["KeyId"], key)
kms.delete_alias(AliasName="alias/b")
equal(refusal(kms.describe_key, KeyId="alias/b"), f"NotFoundException: Alias {account}alias/b is not found.")

# An alias stands for a key only where AWS says so.
for call in [
    kms.enable_key, kms.disable_key, kms.schedule_key_deletion, kms.cancel_key_deletion, kms.get_key_policy,
    kms.list_key_policies, kms.list_resource_tags, kms.enable_key_rotation, kms.disable_key_rotation,
    kms.get_key_rotation_status, kms.list_key_rotations, kms.rotate_key_on_demand, kms.list_aliases,
]:
    equal(refusal(call, KeyId="alias/a"), "NotFoundException: Invalid keyId 'alias/a'")
equal(refusal(kms.create_alias, AliasName="alias/c", TargetKeyId="alias/a"), "ValidationException: Aliases must refer to keys. Not aliases")

# --- keys that are not there
absent = "11111111-2222-3333-4444-555555555555"
equal(refusal(kms.describe_key, KeyId="fake-key-id"), "NotFoundException: Invalid keyId 'fake-key-id'")
equal(refusal(kms.describe_key, KeyId=absent), f"NotFoundException: Key '{account}key/{absent}' does not exist")
equal(refusal(kms.describe_key, KeyId=arn.replace("us-east-1", "eu-west-1")), "NotFoundException: Invalid arn eu-west-1")

# --- using keys
context = {"purpose": "test", "number": "1"}
for name in [key, arn, "alias/a", f"{account}alias/a"]:
    sealed = kms.encrypt(KeyId=name, Plaintext=b"text", EncryptionContext=context)
    equal((sealed["KeyId"], sealed["EncryptionAlgorithm"]), (arn, "SYMMETRIC_DEFAULT"))
    for named in [{}, {"KeyId": name}]:
        opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context, **named)
        equal((opened["Plaintext"], opened["KeyId"]), (b"text", arn))
        equal(opened["KeyMaterialId"], kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"])
blob = sealed["CiphertextBlob"]
equal(refusal(kms.decrypt, CiphertextBlob=blob), "InvalidCiphertextException: ")
equal(refusal(kms.decrypt, CiphertextBlob=b"garbage"), "InvalidCiphertextException: ")
equal(refusal(kms.decrypt, CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=context),
      "InvalidCiphertextException: ")
equal(refusal(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=other),
      "IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.")
equal(refusal(kms.decrypt), f"{PREFIX} at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x" * 4097),
      f"{PREFIX} at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096")
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b""),
      f"{PREFIX} at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1")
kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=key, Plaintext=b"x" * 4096)["CiphertextBlob"])
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256"),
      "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.")
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", GrantTokens=["token"]), "InvalidGrantTokenException: ")

again = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context, DestinationKeyId=other,
                       DestinationEncryptionContext={"other": "pair"})
equal((again["SourceKeyId"], again["KeyId"]), (arn, f"{account}key/{other}"))
equal(kms.decrypt(CiphertextBlob=again["CiphertextBlob"], EncryptionContext={"other": "pair"})["Plaintext"], b"text")
equal(refusal(kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=other), "InvalidCiphertextException: ")
equal(refusal(kms.re_encrypt, CiphertextBlob=blob, SourceEncryptionContext=context, SourceKeyId=other,
              DestinationKeyId=key).split(":")[0], "IncorrectKeyException")

for members, length in [({"KeySpec": "AES_128"}, 16), ({"KeySpec": "AES_256"}, 32), ({"NumberOfBytes": 64}, 64),
                        ({"NumberOfBytes": 1024}, 1024), ({"NumberOfBytes": 1}, 1)]:
    data = kms.generate_data_key(KeyId="alias/a", EncryptionContext=context, **members)
    equal((len(data["Plaintext"]), data["KeyId"]), (length, arn))
    equal(kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context)["Plaintext"], data["Plaintext"])
    data = kms.generate_data_key_without_plaintext(KeyId=key, EncryptionContext=context, **members)
    assert "Plaintext" not in data
    opened = kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context)
    equal(len(opened["Plaintext"]), length)
either = "ValidationException: Please specify either number of bytes or key spec."
equal(refusal(kms.generate_data_key, KeyId=key), either)
equal(refusal(kms.generate_data_key, KeyId=key, KeySpec="AES_256", NumberOfBytes=32), either)
equal(refusal(kms.generate_data_key, KeyId=key, NumberOfBytes=0), f"{PREFIX} '0' at 'numberOfBytes' failed to satisfy "
      "constraint: Member must have value greater than or equal to 1")
equal(len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]), 1024)
assert kms.generate_random(NumberOfBytes=32)["Plaintext"] != kms.generate_random(NumberOfBytes=32)["Plaintext"]
equal(refusal(kms.generate_random), "ValidationException: NumberOfBytes is required.")

# --- keys that make MACs
macs = {}
for bits in [224, 256, 384, 512]:
    algorithm = f"HMAC_SHA_{bits}"
    made = kms.create_key(KeySpec=f"HMAC_{bits}", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
    equal((made["KeySpec"], made["CustomerMasterKeySpec"], made["KeyUsage"], made["MacAlgorithms"]),
          (f"HMAC_{bits}", f"HMAC_{bits}", "GENERATE_VERIFY_MAC", [algorithm]))
    assert "EncryptionAlgorithms" not in made, made
    named = {"KeyId": made["Arn"], "MacAlgorithm": algorithm, "Message": b"message"}
    mac = kms.generate_mac(**named)
    equal((mac["KeyId"], mac["MacAlgorithm"], len(mac["Mac"])), (made["Arn"], algorithm, bits // 8))
    verified = kms.verify_mac(Mac=mac["Mac"], **named)
    equal((verified["KeyId"], verified["MacAlgorithm"], verified["MacValid"]), (made["Arn"], algorithm, True))
    equal(refusal(kms.verify_mac, Mac=mac["Mac"], **{**named, "Message": b"other"}), "KMSInvalidMacException: ")
    equal(refusal(kms.verify_mac, Mac=b"\0" * (bits // 8), **named), "KMSInvalidMacException: ")
    macs[bits] = named
equal(refusal(kms.generate_mac, **{**macs[224], "MacAlgorithm": "HMAC_SHA_256"}),
      "InvalidKeyUsageException: Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.")
equal(refusal(kms.encrypt, KeyId=macs[256]["KeyId"], Plaintext=b"x"), f"InvalidKeyUsageException: {macs[256]['KeyId']} "
      "key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.")
equal(refusal(kms.generate_mac, **{**macs[256], "KeyId": key}), f"InvalidKeyUsageException: {arn} "
      "key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.")
equal(refusal(kms.generate_mac, **{**macs[256], "Message": b"x" * 4097}),
      f"{PREFIX} at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096")
equal(refusal(kms.create_key, KeySpec="HMAC_256"), "ValidationException: You must specify a KeyUsage value for all KMS "
      "keys except for symmetric encryption keys.")
equal(refusal(kms.create_key, KeySpec="HMAC_256", KeyUsage="ENCRYPT_DECRYPT"),
      "ValidationException: KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec HMAC_256")
equal(refusal(kms.rotate_key_on_demand, KeyId=macs[256]["KeyId"]), "UnsupportedOperationException: ")
kms.create_alias(AliasName="alias/mac", TargetKeyId=macs[512]["KeyId"])
kms.generate_mac(**{**macs[512], "KeyId": "alias/mac"})
kms.delete_alias(AliasName="alias/mac")

# --- key pairs
RSA = [f"RSASSA_{scheme}_SHA_{bits}" for scheme in ["PKCS1_V1_5", "PSS"] for bits in [256, 384, 512]]
pairs = {}
for spec, usage, member, algorithms in [
    ("RSA_2048", "ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
    ("RSA_2048", "SIGN_VERIFY", "SigningAlgorithms", RSA),
    ("RSA_3072", "SIGN_VERIFY", "SigningAlgorithms", RSA),
    ("RSA_4096", "SIGN_VERIFY", "SigningAlgorithms", RSA),
    ("ECC_NIST_P256", "SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_256"]),
    ("ECC_NIST_P384", "SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_384"]),
    ("ECC_NIST_P521", "SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_512"]),
    ("ECC_SECG_P256K1", "SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_256"]),
    ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", "SigningAlgorithms", ["ED25519_PH_SHA_512", "ED25519_SHA_512"]),
    ("ECC_NIST_P256", "KEY_AGREEMENT", "KeyAgreementAlgorithms", ["ECDH"]),
    ("ECC_NIST_P384", "KEY_AGREEMENT", "KeyAgreementAlgorithms", ["ECDH"]),
    ("ECC_NIST_P521", "KEY_AGREEMENT", "KeyAgreementAlgorithms", ["ECDH"]),
]:
    made = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    equal((made["KeySpec"], made["CustomerMasterKeySpec"], made["KeyUsage"], made["Origin"], made[member]),
          (spec, spec, usage, "AWS_KMS", algorithms))
    lists = {name for name in made if name.endswith("Algorithms")}
    equal(lists, {member})
    assert "CurrentKeyMaterialId" not in made, made
    given = kms.get_public_key(KeyId=made["KeyId"])
    equal({name: given[name] for name in ["KeyId", "KeySpec", "KeyUsage", member]},
          {"KeyId": made["Arn"], "KeySpec": spec, "KeyUsage": usage, member: algorithms})
    public = serialization.load_der_public_key(given["PublicKey"])
    pairs[spec, usage] = (made["Arn"], public)
    for call in [kms.rotate_key_on_demand, kms.enable_key_rotation, kms.get_key_rotation_status]:
        equal(refusal(call, KeyId=made["KeyId"]), "UnsupportedOperationException: ")
    if usage != "SIGN_VERIFY":
        continue
    for algorithm in algorithms:
        kind, message = ("DIGEST", b"\7" * 64) if "_PH_" in algorithm else ("RAW", b"message")
        named = {"KeyId": made["Arn"], "SigningAlgorithm": algorithm, "Message": message, "MessageType": kind}
        signed = kms.sign(**named)
        equal((signed["KeyId"], signed["SigningAlgorithm"]), (made["Arn"], algorithm))
        if "_PH_" not in algorithm:
            verified_there(public, algorithm, signed["Signature"], message)
        verified = kms.verify(Signature=signed["Signature"], **named)
        equal((verified["KeyId"], verified["SigningAlgorithm"], verified["SignatureValid"]), (made["Arn"], algorithm, True))
        wrong = {**named, "Message": b"\x08" * len(message)}
        equal(refusal(kms.verify, Signature=signed["Signature"], **wrong), "KMSInvalidSignatureException: ")
        if "ED25519" not in algorithm:
            digest = hashlib.new("sha" + algorithm[-3:], message).digest()
            named.update(Message=digest, MessageType="DIGEST")
            equal(kms.verify(Signature=signed["Signature"], **named)["SignatureValid"], True)
            kms.verify(Signature=kms.sign(**named)["Signature"], **{**named, "Message": message, "MessageType": "RAW"})
            named["Message"] = digest[1:]
        else:
            named["Message"] = b"\7" * 63
            named["MessageType"] = "DIGEST"
        found = refusal(kms.sign, **named)
        expected = f"ValidationException: Digest is invalid length for algorithm {algorithm}."
        if algorithm == "ED25519_SHA_512":
            expected = "ValidationException: MessageType DIGEST is not valid for algorithm ED25519_SHA_512."
        equal(found, expected)

rsa, public = pairs["RSA_2048", "ENCRYPT_DECRYPT"]
kms.create_alias(AliasName="alias/rsa", TargetKeyId=rsa)
for algorithm, digest, most in [("RSAES_OAEP_SHA_1", hashes.SHA1, 214), ("RSAES_OAEP_SHA_256", hashes.SHA256, 190)]:
    how = {"EncryptionAlgorithm": algorithm}
    sealed = kms.encrypt(KeyId="alias/rsa", Plaintext=b"x" * most, **how)
    equal((sealed["KeyId"], sealed["EncryptionAlgorithm"], len(sealed["CiphertextBlob"])), (rsa, algorithm, 256))
    opened = kms.decrypt(KeyId=rsa, CiphertextBlob=sealed["CiphertextBlob"], **how)
    equal((opened["Plaintext"], opened["KeyId"], opened["EncryptionAlgorithm"]), (b"x" * most, rsa, algorithm))
    theirs = public.encrypt(b"text", padding.OAEP(padding.MGF1(digest()), digest(), None))
    equal(kms.decrypt(KeyId=rsa, CiphertextBlob=theirs, **how)["Plaintext"], b"text")
    equal(refusal(kms.encrypt, KeyId=rsa, Plaintext=b"x" * (most + 1), **how), f"ValidationException: Algorithm {algorithm} "
          f"and key spec RSA_2048 cannot encrypt data larger than {most} bytes.")
    equal(refusal(kms.decrypt, KeyId=rsa, CiphertextBlob=b"x" * 256, **how), "InvalidCiphertextException: ")
    equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", **how),
          f"InvalidKeyUsageException: Algorithm {algorithm} is incompatible with key spec SYMMETRIC_DEFAULT.")
    equal(refusal(kms.encrypt, KeyId=rsa, Plaintext=b"x", DryRun=True, **how), "DryRunOperationException: The request would "
          "have succeeded, but the DryRun option is set.")
equal(refusal(kms.decrypt, CiphertextBlob=theirs, **how),
      f"{PREFIX} null at 'keyId' failed to satisfy constraint: Member must not be null")
equal(refusal(kms.encrypt, KeyId=rsa, Plaintext=b"x", EncryptionContext=context, **how), "ValidationException: "
      "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.")
equal(refusal(kms.encrypt, KeyId=rsa, Plaintext=b"x"),
      "InvalidKeyUsageException: Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
equal(refusal(kms.decrypt, KeyId=rsa, CiphertextBlob=theirs), "InvalidCiphertextException: ")
equal(refusal(kms.generate_data_key, KeyId=rsa, NumberOfBytes=32), f"InvalidKeyUsageException: {rsa} key KeySpec is "
      "RSA_2048 which is not valid for GenerateDataKey.")
into = {"DestinationKeyId": rsa, "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
under_rsa = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context, **into)
equal((under_rsa["SourceKeyId"], under_rsa["KeyId"], under_rsa["SourceEncryptionAlgorithm"],
       under_rsa["DestinationEncryptionAlgorithm"]), (arn, rsa, "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256"))
equal(under_rsa["SourceKeyMaterialId"], kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"])
assert "DestinationKeyMaterialId" not in under_rsa, under_rsa
out_of = {"SourceKeyId": rsa, "SourceEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "CiphertextBlob": under_rsa["CiphertextBlob"]}
back = kms.re_encrypt(DestinationKeyId=key, DestinationEncryptionContext=context, **out_of)
equal(kms.decrypt(CiphertextBlob=back["CiphertextBlob"], EncryptionContext=context)["Plaintext"], b"text")
assert "SourceKeyMaterialId" not in back and "DestinationKeyMaterialId" in back, back
both = kms.re_encrypt(**{**out_of, **into, "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_1"})
equal(kms.decrypt(KeyId=rsa, CiphertextBlob=both["CiphertextBlob"], EncryptionAlgorithm="RSAES_OAEP_SHA_1")["Plaintext"],
      b"text")
long = kms.encrypt(KeyId=key, Plaintext=b"x" * 191)["CiphertextBlob"]
for members, expected in [
    ({"CiphertextBlob": long, **into}, "ValidationException: Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt "
     "data larger than 190 bytes."),
    ({"CiphertextBlob": long, **into, "DestinationKeyId": other}, "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is "
     "incompatible with key spec SYMMETRIC_DEFAULT."),
    ({"CiphertextBlob": long, **into, "DestinationEncryptionContext": context}, "ValidationException: EncryptionContext is not "
     "supported when encrypting/decrypting with asymmetric CMKs."),
    ({"CiphertextBlob": long, "DestinationKeyId": rsa}, "InvalidKeyUsageException: Algorithm SYMMETRIC_DEFAULT is incompatible "
     "with key spec RSA_2048."),
    ({**out_of, "SourceKeyId": key, "DestinationKeyId": other}, "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is "
     "incompatible with key spec SYMMETRIC_DEFAULT."),
    ({**out_of, "SourceKeyId": None, "DestinationKeyId": other}, f"{PREFIX} at 'sourceKeyId' failed to satisfy constraint: "
     "Member must not be null"),
    ({**out_of, "CiphertextBlob": b"x" * 256, "DestinationKeyId": other}, "InvalidCiphertextException: "),
    ({**out_of, "DestinationKeyId": other, "DryRun": True}, "DryRunOperationException: The request would have succeeded, but "
     "the DryRun option is set."),
    ({**out_of, "DestinationKeyId": other, "SourceEncryptionAlgorithm": "SM2PKE"}, "UnsupportedOperationException: SM2PKE is "
     "not supported by this KMS."),
]:
    equal(refusal(kms.re_encrypt, **members), expected)
equal(refusal(kms.sign, KeyId=rsa, Message=b"x", SigningAlgorithm="RSASSA_PSS_SHA_256"),
      f"InvalidKeyUsageException: {rsa} key usage is ENCRYPT_DECRYPT which is not valid for Sign.")
kms.delete_alias(AliasName="alias/rsa")

ecc, _ = pairs["ECC_NIST_P256", "SIGN_VERIFY"]
asked = {"KeyId": ecc, "Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"}
for members, expected in [
    ({"SigningAlgorithm": "ECDSA_SHA_384"}, "InvalidKeyUsageException: Algorithm ECDSA_SHA_384 is incompatible with key "
     "spec ECC_NIST_P256."),
    ({"SigningAlgorithm": "ML_DSA_SHAKE_256"}, "InvalidKeyUsageException: Algorithm ML_DSA_SHAKE_256 is incompatible with "
     "key spec ECC_NIST_P256."),
    ({"SigningAlgorithm": "none"}, f"{PREFIX} 'none' at 'signingAlgorithm' failed to satisfy constraint: Member must "
     "satisfy enum value set: [RSASSA_PSS_SHA_256,"),
    ({"MessageType": "EXTERNAL_MU"}, "ValidationException: MessageType EXTERNAL_MU is not valid for algorithm "
     "ECDSA_SHA_256."),
    ({"Message": b""}, f"{PREFIX} at 'message' failed to satisfy constraint: Member must have length greater than or "
     "equal to 1"),
    ({"Message": b"x" * 4097}, f"{PREFIX} at 'message' failed to satisfy constraint: Member must have length less than or "
     "equal to 4096"),
    ({"DryRun": True}, "DryRunOperationException: The request would have succeeded, but the DryRun option is set."),
    ({"GrantTokens": ["token"]}, "InvalidGrantTokenException: "),
]:
    for call, more in [(kms.sign, {}), (kms.verify, {"Signature": b"signature"})]:
        found = refusal(call, **{**asked, **more, **members})
        assert found.startswith(expected), f"{members}: {found}"
kms.sign(**{**asked, "Message": b"x" * 4096})
equal(refusal(kms.get_public_key, KeyId=key), "UnsupportedOperationException: ")

for spec, curve in [("ECC_NIST_P256", ec.SECP256R1), ("ECC_NIST_P384", ec.SECP384R1), ("ECC_NIST_P521", ec.SECP521R1)]:
    agrees, public = pairs[spec, "KEY_AGREEMENT"]
    theirs = ec.generate_private_key(curve())
    asked = {"KeyId": agrees, "KeyAgreementAlgorithm": "ECDH", "PublicKey": spki(theirs.public_key())}
    derived = kms.derive_shared_secret(**asked)
    equal((derived["KeyId"], derived["KeyAgreementAlgorithm"], derived["KeyOrigin"], derived["SharedSecret"]),
          (agrees, "ECDH", "AWS_KMS", theirs.exchange(ec.ECDH(), public)))
equal(refusal(kms.derive_shared_secret, **{**asked, "PublicKey": spki(pairs["ECC_NIST_P256", "KEY_AGREEMENT"][1])}),
      "ValidationException: PublicKey is no DER-encoded SubjectPublicKeyInfo of a key with key spec ECC_NIST_P521.")
equal(refusal(kms.derive_shared_secret, DryRun=True, **asked), "DryRunOperationException: The request would have succeeded, "
      "but the DryRun option is set.")
equal(refusal(kms.derive_shared_secret, **{**asked, "KeyId": ecc}),
      f"InvalidKeyUsageException: {ecc} key usage is SIGN_VERIFY which is not valid for DeriveSharedSecret.")

# --- data key pairs
for spec in ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"]:
    pair = kms.generate_data_key_pair(KeyId="alias/a", KeyPairSpec=spec, EncryptionContext=context)
    equal((pair["KeyId"], pair["KeyPairSpec"], pair["KeyMaterialId"]),
          (arn, spec, kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]))
    private = serialization.load_der_private_key(pair["PrivateKeyPlaintext"], None)
    equal(spki(private.public_key()), pair["PublicKey"])
    opened = kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"], EncryptionContext=context)
    equal(opened["Plaintext"], pair["PrivateKeyPlaintext"])
    sealed = kms.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec=spec)
    assert "PrivateKeyPlaintext" not in sealed, sealed
    opened = kms.decrypt(CiphertextBlob=sealed["PrivateKeyCiphertextBlob"])["Plaintext"]
    equal(spki(serialization.load_der_private_key(opened, None).public_key()), sealed["PublicKey"])
for spec in ["SM2", "ML_KEM_512"]:
    equal(refusal(kms.generate_data_key_pair, KeyId=key, KeyPairSpec=spec),
          f"UnsupportedOperationException: KeyPairSpec {spec} is not supported by this KMS.")
for named, expected in [
    ({"KeyId": ecc}, f"InvalidKeyUsageException: {ecc} key usage is SIGN_VERIFY which is not valid for GenerateDataKeyPair."),
    ({"KeyId": rsa}, f"InvalidKeyUsageException: {rsa} key KeySpec is RSA_2048 which is not valid for GenerateDataKeyPair."),
    ({"KeyId": key, "DryRun": True}, "DryRunOperationException: The request would have succeeded, but the DryRun option is "
     "set."),
]:
    equal(refusal(kms.generate_data_key_pair, KeyPairSpec="RSA_4096", **named), expected)

# --- imported material
for number, (algorithm, bits) in enumerate([
    ("RSAES_OAEP_SHA_1", 2048), ("RSAES_OAEP_SHA_256", 3072), ("RSA_AES_KEY_WRAP_SHA_1", 4096),
    ("RSA_AES_KEY_WRAP_SHA_256", 2048),
]):
    wrapping = {"WrappingAlgorithm": algorithm, "WrappingKeySpec": f"RSA_{bits}"}
    never = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    made = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]
    equal((made["Origin"], made["KeyState"], made["Enabled"]), ("EXTERNAL", "PendingImport", False))
    assert not {"CurrentKeyMaterialId", "ExpirationModel", "ValidTo"} & set(made), made
    given = kms.get_parameters_for_import(KeyId=made["KeyId"], **wrapping)
    equal(given["KeyId"], made["Arn"])
    day = given["ParametersValidTo"] - datetime.datetime.now(datetime.timezone.utc)
    assert abs(day - datetime.timedelta(days=1)) < datetime.timedelta(minutes=5), day
    material = bytes([number] * 32)
    wrapped = {"ImportToken": given["ImportToken"], "EncryptedKeyMaterial": brought(given, wrapping, material)}
    done = kms.import_key_material(KeyId=made["KeyId"], KeyMaterialDescription="first", **wrapped, **never)
    equal((done["KeyId"], len(done["KeyMaterialId"])), (made["Arn"], 64))
    shown = kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"]
    equal((shown["KeyState"], shown["ExpirationModel"], shown["CurrentKeyMaterialId"]),
          ("Enabled", "KEY_MATERIAL_DOES_NOT_EXPIRE", done["KeyMaterialId"]))
    sealed = kms.encrypt(KeyId=made["KeyId"], Plaintext=b"text")["CiphertextBlob"]
    gone = kms.delete_imported_key_material(KeyId=made["KeyId"])
    equal((gone["KeyId"], gone["KeyMaterialId"]), (made["Arn"], done["KeyMaterialId"]))
    equal(refusal(kms.decrypt, CiphertextBlob=sealed), f"KMSInvalidStateException: {made['Arn']} is pending import.")
    other_material = {**wrapped, "EncryptedKeyMaterial": brought(given, wrapping, b"\xff" * 32)}
    equal(refusal(kms.import_key_material, KeyId=made["KeyId"], **other_material, **never), "IncorrectKeyMaterialException: ")
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    kms.import_key_material(KeyId=made["KeyId"], ValidTo=until, **wrapped)
    shown = kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"]
    equal(shown["ExpirationModel"], "KEY_MATERIAL_EXPIRES")
    assert abs(shown["ValidTo"] - until) < datetime.timedelta(seconds=1), shown["ValidTo"]
    equal(kms.decrypt(CiphertextBlob=sealed)["Plaintext"], b"text")
    entry, = kms.list_key_rotations(KeyId=made["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    equal((entry["ImportState"], entry["KeyMaterialDescription"], entry["KeyMaterialState"]), ("IMPORTED", "first", "CURRENT"))

imported = {"KeyId": made["KeyId"], **wrapped}
equal(refusal(kms.import_key_material, **imported),
      "ValidationException: A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
equal(refusal(kms.import_key_material, **{**imported, "ImportToken": b"token"}, **never), "InvalidImportTokenException: ")
equal(refusal(kms.import_key_material, **{**imported, "EncryptedKeyMaterial": b"x" * 300}, **never),
      "InvalidCiphertextException: ")
equal(refusal(kms.get_parameters_for_import, KeyId=key, **wrapping), f"UnsupportedOperationException: {arn} origin is "
      "AWS_KMS which is not valid for this operation.")
for members in [{"WrappingAlgorithm": "RSAES_PKCS1_V1_5"}, {"WrappingKeySpec": "SM2"}]:
    found = refusal(kms.get_parameters_for_import, KeyId=made["KeyId"], **{**wrapping, **members})
    assert found.startswith("UnsupportedOperationException: "), found

# New material waits for a rotation by hand.
newer = {**wrapped, "EncryptedKeyMaterial": brought(given, wrapping, b"\x99" * 32)}
second = kms.import_key_material(KeyId=made["KeyId"], ImportType="NEW_KEY_MATERIAL", **newer, **never)["KeyMaterialId"]
equal(kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"]["CurrentKeyMaterialId"], done["KeyMaterialId"])
states = lambda: [(entry["KeyMaterialId"], entry["KeyMaterialState"]) for entry in kms.list_key_rotations(
    KeyId=made["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]]
equal(states(), [(second, "PENDING_ROTATION"), (done["KeyMaterialId"], "CURRENT")])
kms.rotate_key_on_demand(KeyId=made["KeyId"])
equal(states(), [(second, "CURRENT"), (done["KeyMaterialId"], "NON_CURRENT")])
equal(kms.decrypt(CiphertextBlob=sealed)["KeyMaterialId"], done["KeyMaterialId"])
equal(kms.generate_data_key(KeyId=made["KeyId"], NumberOfBytes=32)["KeyMaterialId"], second)

# An imported key makes the MACs that everybody makes with it.
made = kms.create_key(Origin="EXTERNAL", KeySpec="HMAC_384", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]
given = kms.get_parameters_for_import(KeyId=made["KeyId"], **wrapping)
secret = bytes(range(48))
kms.import_key_material(KeyId=made["KeyId"], ImportToken=given["ImportToken"],
                        EncryptedKeyMaterial=brought(given, wrapping, secret), **never)
mac = kms.generate_mac(KeyId=made["KeyId"], MacAlgorithm="HMAC_SHA_384", Message=b"message")["Mac"]
equal(mac, hmac.digest(secret, b"message", "sha384"))

# --- the last use
unused = kms.create_key()["KeyMetadata"]
usage = kms.get_key_last_usage(KeyId=unused["KeyId"])
equal((usage["KeyId"], usage["KeyLastUsage"]), (unused["KeyId"], {}))
equal((usage["KeyCreationDate"], usage["TrackingStartDate"]), (unused["CreationDate"],) * 2)
for operation, call in [
    ("Encrypt", lambda: kms.encrypt(KeyId=unused["KeyId"], Plaintext=b"x")),
    ("GenerateDataKey", lambda: kms.generate_data_key(KeyId=unused["Arn"], NumberOfBytes=32)),
    ("ReEncrypt", lambda: kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context,
                                         DestinationKeyId=unused["KeyId"])),
]:
    request = call()["ResponseMetadata"]["RequestId"]
    for used in [unused["KeyId"]] + ([key] if operation == "ReEncrypt" else []):
        last = kms.get_key_last_usage(KeyId=used)["KeyLastUsage"]
        equal((last["Operation"], last["KmsRequestId"]), (operation, request))
        equal(envol("audit", "show", last["CloudTrailEventId"])["requestID"], request)
equal(refusal(kms.get_key_last_usage, KeyId="alias/a"), "NotFoundException: Invalid keyId 'alias/a'")

# --- dry runs: the answer that the operation would have had, and nothing done
dry = "DryRunOperationException: The request would have succeeded, but the DryRun option is set."
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True), dry)
equal(refusal(kms.generate_mac, **macs[256], DryRun=True), dry)
equal(refusal(kms.verify_mac, **macs[256], Mac=b"x", DryRun=True), dry)
equal(refusal(kms.decrypt, CiphertextBlob=blob, DryRun=True), dry)
equal(refusal(kms.generate_data_key, KeyId=key, NumberOfBytes=32, DryRun=True), dry)
equal(refusal(kms.generate_data_key_without_plaintext, KeyId=key, NumberOfBytes=32, DryRun=True), dry)
equal(refusal(kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=other, DryRun=True), dry)
kms.disable_key(KeyId=key)
disabled = f"DisabledException: {arn} is disabled."
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True), disabled)
equal(refusal(kms.re_encrypt, CiphertextBlob=blob, DestinationKeyId=other, DryRun=True), disabled)
equal(refusal(kms.encrypt, KeyId=key, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_1"), disabled)
kms.enable_key(KeyId=key)

# --- rotation
equal(kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], False)
kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
status = kms.get_key_rotation_status(KeyId=arn)
equal((status["KeyId"], status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (key, True, 90))
days = status["NextRotationDate"] - datetime.datetime.now(datetime.timezone.utc)
assert abs(days - datetime.timedelta(days=90)) < datetime.timedelta(minutes=5), days
equal(refusal(kms.enable_key_rotation, KeyId=key, RotationPeriodInDays=89), f"{PREFIX} '89' at 'rotationPeriodInDays' "
      "failed to satisfy constraint: Member must have value greater than or equal to 90")
equal(kms.rotate_key_on_demand(KeyId=key)["KeyId"], arn)
equal(kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"], b"text")
rotations = kms.list_key_rotations(KeyId=key)["Rotations"]
equal([(entry["RotationType"], entry["KeyMaterialState"]) for entry in rotations], [("ON_DEMAND", "CURRENT")])
every = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL", Limit=1)
rest = kms.list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL", Marker=every["NextMarker"])
equal((every["Truncated"], rest["Truncated"], rest["Rotations"][0]["KeyMaterialState"]), (True, False, "NON_CURRENT"))
assert "RotationDate" not in rest["Rotations"][0]
kms.disable_key_rotation(KeyId=key)
status = kms.get_key_rotation_status(KeyId=key)
equal((status["KeyRotationEnabled"], "NextRotationDate" in status), (False, False))

# --- deletion
gone = kms.schedule_key_deletion(KeyId=other, PendingWindowInDays=7)
equal((gone["KeyId"], gone["KeyState"], gone["PendingWindowInDays"]), (f"{account}key/{other}", "PendingDeletion", 7))
equal(kms.describe_key(KeyId=other)["KeyMetadata"]["DeletionDate"], gone["DeletionDate"])
equal(kms.cancel_key_deletion(KeyId=other)["KeyId"], f"{account}key/{other}")
equal(kms.describe_key(KeyId=other)["KeyMetadata"]["KeyState"], "Disabled")
equal(refusal(kms.schedule_key_deletion, KeyId=other, PendingWindowInDays=6), f"{PREFIX} '6' at 'pendingWindowInDays' "
      "failed to satisfy constraint: Member must have value greater than or equal to 7")
equal(kms.schedule_key_deletion(KeyId=other)["PendingWindowInDays"], 30)

# --- lists a page at a time
for number in range(5):
    kms.create_alias(AliasName=f"alias/page-{number}", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
every = {entry["KeyId"] for entry in kms.list_keys()["Keys"]}
pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
assert len(pages) > 3, len(pages)
paged = [entry["KeyId"] for page in pages for entry in page["Keys"]]
equal((len(paged), set(paged)), (len(every), every))
pages = list(kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2}))
names = [entry["AliasName"] for page in pages for entry in page["Aliases"]]
equal(names, ["alias/a"] + [f"alias/page-{number}" for number in range(5)])
marker = kms.list_keys(Limit=1)["NextMarker"]
invalid = "InvalidMarkerException: The marker was not given out by this list."
equal(refusal(kms.list_aliases, Marker=marker), invalid)
equal(refusal(kms.list_keys, Marker="AAAA"), invalid)
for call, most, members in [(kms.list_keys, 1000, {}), (kms.list_aliases, 100, {}),
                            (kms.list_resource_tags, 50, {"KeyId": key}), (kms.list_key_rotations, 1000, {"KeyId": key}),
                            (kms.list_key_policies, 1000, {"KeyId": key})]:
    call(Limit=most, **members)
    equal(refusal(call, Limit=most + 1, **members), f"{PREFIX} '{most + 1}' at 'limit' failed to satisfy constraint: "
          f"Member must have value less than or equal to {most}")

# --- regions: the keys of one are not those of another
abroad = client("eu-west-1")
equal(abroad.list_keys()["Keys"], [])
foreign = abroad.create_key()["KeyMetadata"]["Arn"]
assert foreign.startswith("arn:aws:kms:eu-west-1:000000000000:key/"), foreign
equal(refusal(kms.describe_key, KeyId=foreign), "NotFoundException: Invalid arn eu-west-1")
equal(refusal(abroad.decrypt, CiphertextBlob=blob, EncryptionContext=context),
      "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this "
      "region, or you are not allowed to access.")

# --- the key managed for volumes may be looked at, and used by the daemon alone
managed = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]
equal((managed["KeyManager"], kms.get_key_rotation_status(KeyId=managed["KeyId"])["KeyRotationEnabled"]), ("AWS", True))
for call, members in [(kms.encrypt, {"Plaintext": b"x"}), (kms.generate_data_key, {"NumberOfBytes": 32}),
                      (kms.disable_key, {}), (kms.schedule_key_deletion, {}), (kms.disable_key_rotation, {})]:
    found = refusal(call, KeyId=managed["KeyId"], **members)
    assert found.startswith("AccessDeniedException: User: arn:aws:iam::000000000000:root is not authorized"), found

# --- policies and grants (access.py has what they give)
kms.put_key_policy(KeyId=key, PolicyName="default", Policy=policy["Policy"])
equal(kms.get_key_policy(KeyId=key)["Policy"], policy["Policy"])
grantee = {"GranteePrincipal": "arn:aws:iam::000000000000:user/alice", "Operations": ["Encrypt", "Decrypt"]}
retiring = "arn:aws:iam::000000000000:role/retires"
grant = kms.create_grant(KeyId=arn, Name="named", RetiringPrincipal=retiring, **grantee)
equal(kms.create_grant(KeyId=arn, Name="named", RetiringPrincipal=retiring, **grantee)["GrantId"], grant["GrantId"])
constraint = {"EncryptionContextSubset": {"a": "b"}}
other_grant = kms.create_grant(KeyId=key, Constraints=constraint, **grantee)
listed = {entry["GrantId"]: entry for entry in kms.list_grants(KeyId=key)["Grants"]}
equal(set(listed), {grant["GrantId"], other_grant["GrantId"]})
equal(len(grant["GrantId"]), 64)
shown = listed[grant["GrantId"]]
equal((shown["Name"], shown["RetiringPrincipal"], shown["IssuingAccount"], shown["Operations"], shown["KeyId"]),
      ("named", retiring, "arn:aws:iam::000000000000:root", ["Decrypt", "Encrypt"], arn))
equal((listed[other_grant["GrantId"]]["Name"], listed[other_grant["GrantId"]]["Constraints"]), ("", constraint))
equal([entry["GrantId"] for entry in kms.list_retirable_grants(RetiringPrincipal=retiring)["Grants"]], [grant["GrantId"]])
kms.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=[grant["GrantToken"]])
kms.retire_grant(GrantToken=grant["GrantToken"])
kms.revoke_grant(KeyId=key, GrantId=other_grant["GrantId"])
equal(kms.list_grants(KeyId=key)["Grants"], [])

# --- what is not here says so
for call, members in [
    (kms.get_public_key, {"KeyId": key}), (kms.describe_custom_key_stores, {}),
    (kms.create_grant, {"KeyId": key, "GranteeServicePrincipal": "a.amazonaws.com", "Operations": ["Decrypt"]}),
]:
    found = refusal(call, **members)
    assert found.startswith("UnsupportedOperationException: "), found

# --- one KMS, two doors
kms.tag_resource(KeyId=key, Tags=[{"TagKey": "Env", "TagValue": "Prod"}])
kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=180)
shown = envol("key", "show", key)
equal((shown["description"], shown["tags"]["Env"], shown["rotation_period_days"]), ("other words", "Prod", 180))
next_date = kms.get_key_rotation_status(KeyId=key)["NextRotationDate"]
apart = datetime.datetime.fromisoformat(shown["next_rotation_date"].replace("Z", "+00:00")) - next_date
assert abs(apart) < datetime.timedelta(seconds=2), apart

print(json.dumps(sorted(succeeded)))
