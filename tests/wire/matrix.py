"""Every operation on every kind of key in every state: AWS's table, cell by cell, and nothing served without its row."""

from wire import brought, client, equal, refusal

kms = client()
arn = "{arn}"
OK = "ok"
DISABLED = f"DisabledException: {arn} is disabled."
PENDING = f"KMSInvalidStateException: {arn} is pending deletion."
IMPORT = f"KMSInvalidStateException: {arn} is pending import."
NOT_PENDING = f"KMSInvalidStateException: {arn} is not pending deletion."
EXTERNAL = f"UnsupportedOperationException: {arn} origin is EXTERNAL which is not valid for this operation."
OWN = f"UnsupportedOperationException: {arn} origin is AWS_KMS which is not valid for this operation."
NO_ROTATION = "UnsupportedOperationException: "
NONE_WAITS = f"KMSInvalidStateException: No available key material pending rotation for the key: {arn}."
CIPHERTEXT = "InvalidCiphertextException: "
NO_DEFAULT = "InvalidKeyUsageException: Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048."
NO_OAEP = "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."
SPEC = f"InvalidKeyUsageException: {arn} key KeySpec is RSA_2048 which is not valid for {{operation}}."
USAGE = f"InvalidKeyUsageException: {arn} key usage is {{usage}} which is not valid for {{operation}}."

STATES = ["Enabled", "Disabled", "PendingDeletion", "PendingImport"]
ENCRYPTION, MAC = "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC"
SIGNING, AGREEMENT = "SIGN_VERIFY", "KEY_AGREEMENT"
# Name, how such a key is made; those that import no material are never PendingImport.
KINDS = {
    "symmetric": {"KeyUsage": ENCRYPTION},
    "imported": {"KeyUsage": ENCRYPTION, "Origin": "EXTERNAL"},
    "hmac": {"KeySpec": "HMAC_256", "KeyUsage": MAC},
    "imported hmac": {"KeySpec": "HMAC_256", "KeyUsage": MAC, "Origin": "EXTERNAL"},
    "rsa": {"KeySpec": "RSA_2048", "KeyUsage": ENCRYPTION},
    "signing": {"KeySpec": "ECC_NIST_P256", "KeyUsage": SIGNING},
    "agreement": {"KeySpec": "ECC_NIST_P384", "KeyUsage": AGREEMENT},
}

# What an operation says in each of STATES.
ALWAYS = [OK, OK, OK, OK]
USE = [OK, DISABLED, PENDING, IMPORT]
MISUSE = [USAGE, DISABLED, PENDING, IMPORT]
SWITCH = [OK, OK, PENDING, IMPORT]
CHANGE = [OK, OK, PENDING, OK]


PAIRS = ["rsa", "signing", "agreement"]


def every(outcomes):
    return {kind: outcomes for kind in KINDS}


def only(outcomes, *kinds):
    """Of those kinds; of all others it is a use that they are not for."""
    return {kind: outcomes if kind in kinds else MISUSE for kind in KINDS}


def ciphers(outcomes, of_rsa):
    return {**only(outcomes, "symmetric", "imported"), "rsa": of_rsa}


def by_origin(own, external):
    return {kind: external if "imported" in kind else own for kind in KINDS}


def enabled(outcome):
    return [outcome, DISABLED, PENDING, IMPORT]


CALENDAR = {**every([NO_ROTATION, DISABLED, PENDING, NO_ROTATION]), "symmetric": USE,
            "imported": [EXTERNAL, DISABLED, PENDING, EXTERNAL]}
KEY = {"KeyId": "{key}"}
GRANT = {"GranteePrincipal": "arn:aws:iam::000000000000:user/alice", "Operations": ["DescribeKey"]}
MESSAGE = {**KEY, "MacAlgorithm": "HMAC_SHA_256", "Message": b"text"}
OAEP = {"EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
SIGNED = {**KEY, "SigningAlgorithm": "ECDSA_SHA_256", "Message": b"text"}
WRAPPING = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}

# Operation, its members, and for each of KINDS what it says.
TABLE = [
    ("CancelKeyDeletion", KEY, every([NOT_PENDING, NOT_PENDING, OK, NOT_PENDING])),
    ("CreateAlias", {"AliasName": "alias/new", "TargetKeyId": "{key}"}, every(CHANGE)),
    ("CreateGrant", {**KEY, **GRANT}, every(USE)),
    ("Decrypt", {**KEY, "CiphertextBlob": "{blob}"}, ciphers(USE, enabled(CIPHERTEXT))),
    ("Decrypt", {**KEY, "CiphertextBlob": "{blob}", **OAEP},
     {**only(USE, "rsa"), "symmetric": enabled(NO_OAEP), "imported": enabled(NO_OAEP)}),
    ("DeleteAlias", {"AliasName": "alias/subject"}, every(ALWAYS)),
    ("DeleteImportedKeyMaterial", KEY, by_origin([OWN] * 4, ALWAYS)),
    ("DeriveSharedSecret", {**KEY, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "{public}"}, only(USE, "agreement")),
    ("DescribeKey", KEY, every(ALWAYS)),
    ("DisableKey", KEY, every(SWITCH)),
    ("DisableKeyRotation", KEY, CALENDAR),
    ("EnableKey", KEY, every(SWITCH)),
    ("EnableKeyRotation", KEY, CALENDAR),
    ("Encrypt", {**KEY, "Plaintext": b"text"}, ciphers(USE, enabled(NO_DEFAULT))),
    ("Encrypt", {**KEY, "Plaintext": b"text", **OAEP},
     {**only(USE, "rsa"), "symmetric": enabled(NO_OAEP), "imported": enabled(NO_OAEP)}),
    ("GenerateDataKey", {**KEY, "NumberOfBytes": 64}, ciphers(USE, enabled(SPEC))),
    ("GenerateDataKeyPair", {**KEY, "KeyPairSpec": "ECC_NIST_P256"}, ciphers(USE, enabled(SPEC))),
    ("GenerateDataKeyPairWithoutPlaintext", {**KEY, "KeyPairSpec": "ECC_NIST_P256"}, ciphers(USE, enabled(SPEC))),
    ("GenerateDataKeyWithoutPlaintext", {**KEY, "NumberOfBytes": 64}, ciphers(USE, enabled(SPEC))),
    ("GenerateMac", MESSAGE, only(USE, "hmac", "imported hmac")),
    ("GetKeyLastUsage", KEY, every(ALWAYS)),
    ("GetKeyPolicy", KEY, every(ALWAYS)),
    ("GetKeyRotationStatus", KEY, {**every([NO_ROTATION] * 4), "symmetric": ALWAYS, "imported": [EXTERNAL] * 4}),
    ("GetPublicKey", KEY, {**every(enabled(NO_ROTATION)), **{kind: USE for kind in PAIRS}}),
    ("GetParametersForImport", {**KEY, **WRAPPING}, by_origin([OWN, OWN, PENDING, None], CHANGE)),
    ("ImportKeyMaterial", {**KEY, "EncryptedKeyMaterial": "{wrapped}", "ImportToken": "{token}",
                           "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"},
     by_origin([OWN, OWN, PENDING, None], CHANGE)),
    ("ListAliases", KEY, every(ALWAYS)),
    ("ListGrants", KEY, every(ALWAYS)),
    ("ListKeyPolicies", KEY, every(ALWAYS)),
    ("ListKeyRotations", KEY, {**every([NO_ROTATION] * 4), "symmetric": ALWAYS, "imported": ALWAYS}),
    ("ListResourceTags", KEY, every(ALWAYS)),
    ("ReEncrypt", {"SourceKeyId": "{key}", "CiphertextBlob": "{blob}", "DestinationKeyId": "{cipher}"},
     ciphers(USE, enabled(CIPHERTEXT))),
    ("ReEncrypt", {"CiphertextBlob": "{others}", "DestinationKeyId": "{key}"}, ciphers(USE, enabled(NO_DEFAULT))),
    ("PutKeyPolicy", {**KEY, "Policy": kms.get_key_policy(KeyId=kms.create_key()["KeyMetadata"]["KeyId"])["Policy"]},
     every(ALWAYS)),
    ("RetireGrant", {"KeyId": "{arn}", "GrantId": "{grant}"}, every(ALWAYS)),
    ("RevokeGrant", {**KEY, "GrantId": "{grant}"}, every(ALWAYS)),
    ("RotateKeyOnDemand", KEY, {**every([NO_ROTATION, DISABLED, PENDING, IMPORT]), "symmetric": USE,
                                "imported": [NONE_WAITS, DISABLED, PENDING, IMPORT]}),
    ("ScheduleKeyDeletion", KEY, every(CHANGE)),
    ("Sign", SIGNED, only(USE, "signing")),
    ("TagResource", {**KEY, "Tags": [{"TagKey": "a", "TagValue": ""}]}, every(CHANGE)),
    ("UntagResource", {**KEY, "TagKeys": ["a"]}, every(CHANGE)),
    ("UpdateAlias", {"AliasName": "alias/other", "TargetKeyId": "{key}"}, every(CHANGE)),
    ("UpdateKeyDescription", {**KEY, "Description": "words"}, every(CHANGE)),
    ("Verify", {**SIGNED, "Signature": "{signature}"}, only(USE, "signing")),
    ("VerifyMac", {**MESSAGE, "Mac": "{code}"}, only(USE, "hmac", "imported hmac")),
]
LOOKS = ("Decrypt", "Derive", "Describe", "Encrypt", "Generate", "Get", "List", "ReEncrypt", "Sign", "Verify")
WITHOUT_KEY = ["CreateKey", "GenerateRandom", "ListKeys", "ListRetirableGrants"]

MATERIAL = b"\x2a" * 32
cipher = kms.create_key()["KeyMetadata"]["KeyId"]
others = kms.encrypt(KeyId=cipher, Plaintext=b"text")["CiphertextBlob"]
siblings = {usage: kms.create_key(**KINDS[kind])["KeyMetadata"]["KeyId"]
            for usage, kind in [(ENCRYPTION, "symmetric"), (MAC, "hmac"), (SIGNING, "signing"), (AGREEMENT, "agreement")]}
siblings["rsa"] = kms.create_key(**KINDS["rsa"])["KeyMetadata"]["KeyId"]
public = kms.get_public_key(KeyId=siblings[AGREEMENT])["PublicKey"]


def made(kind, state):
    """A key of that kind in that state, and what the members of requests may name."""
    key = kms.create_key(**KINDS[kind])["KeyMetadata"]
    names = {"{key}": key["KeyId"], "{arn}": key["Arn"], "{cipher}": cipher, "{others}": others, "{blob}": others,
             "{code}": b"code", "{wrapped}": b"wrapped", "{token}": b"token", "{public}": public, "{signature}": b"signature"}
    if key["Origin"] == "EXTERNAL":
        given = kms.get_parameters_for_import(KeyId=key["KeyId"], **WRAPPING)
        names.update({"{token}": given["ImportToken"], "{wrapped}": brought(given, WRAPPING, MATERIAL)})
        kms.import_key_material(KeyId=key["KeyId"], ImportToken=names["{token}"], EncryptedKeyMaterial=names["{wrapped}"],
                                ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE")
    if key["KeyUsage"] == MAC:
        names["{code}"] = kms.generate_mac(**{**MESSAGE, "KeyId": key["KeyId"]})["Mac"]
    elif key["KeyUsage"] == ENCRYPTION:
        how = OAEP if kind == "rsa" else {}
        names["{blob}"] = kms.encrypt(KeyId=key["KeyId"], Plaintext=b"text", **how)["CiphertextBlob"]
    elif key["KeyUsage"] == SIGNING:
        names["{signature}"] = kms.sign(**{**SIGNED, "KeyId": key["KeyId"]})["Signature"]
    names["{grant}"] = kms.create_grant(KeyId=key["KeyId"], **GRANT)["GrantId"]
    if state == "Disabled":
        kms.disable_key(KeyId=key["KeyId"])
    elif state == "PendingDeletion":
        kms.schedule_key_deletion(KeyId=key["KeyId"])
    elif state == "PendingImport":
        kms.delete_imported_key_material(KeyId=key["KeyId"])
    equal(kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"], state)
    return names


def tried(operation, members, kind, state, outcome, names):
    usage = KINDS[kind]["KeyUsage"]
    key = names["{key}"]
    kms.create_alias(AliasName="alias/other", TargetKeyId=siblings["rsa" if kind == "rsa" else usage])
    if state != "PendingDeletion":
        kms.create_alias(AliasName="alias/subject", TargetKeyId=key)
    elif operation == "DeleteAlias":
        # An alias cannot be made for such a key; one that it has stays.
        kms.cancel_key_deletion(KeyId=key)
        kms.create_alias(AliasName="alias/subject", TargetKeyId=key)
        kms.schedule_key_deletion(KeyId=key)
    filled = {name: names.get(value, value) if isinstance(value, str) else value for name, value in members.items()}
    found = refusal(methods[operation], **filled)
    expected = outcome.format(arn=names["{arn}"], usage=usage, operation=operation)
    assert found == expected, f"{operation} of a key that is {kind} and {state}:\n{found}\n{expected}"
    for alias in kms.list_aliases()["Aliases"]:
        kms.delete_alias(AliasName=alias["AliasName"])


methods = {kms.meta.method_to_api_mapping[name]: getattr(kms, name) for name in kms.meta.method_to_api_mapping}
cells = 0
for kind in KINDS:
    for number, state in enumerate(STATES):
        if state == "PendingImport" and "imported" not in kind:
            continue
        names = None
        for operation, members, table in TABLE:
            names = names or made(kind, state)
            outcome = table[kind][number]
            tried(operation, members, kind, state, outcome, names)
            cells += 1
            # A key that was changed is not used again.
            names = names if outcome != OK or operation.startswith(LOOKS) else None
equal(cells, len(TABLE) * (3 * 5 + 4 * 2))

# Every operation that is served has its row.
rows = {row[0] for row in TABLE} | set(WITHOUT_KEY)
for operation, method in methods.items():
    if operation not in rows:
        found = refusal(method)
        assert found.startswith(("UnsupportedOperationException: ", "ValidationException: ")), f"{operation}: {found}"
equal(len(rows), 46)
