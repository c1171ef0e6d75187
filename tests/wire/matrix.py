"""Every operation on a key that is Enabled, Disabled and PendingDeletion: AWS's table, cell by cell."""

import itertools

from wire import client, equal, refusal

kms = client()
arn = "{arn}"
OK = "ok"
DISABLED = f"DisabledException: {arn} is disabled."
PENDING = f"KMSInvalidStateException: {arn} is pending deletion."
NOT_PENDING = f"KMSInvalidStateException: {arn} is not pending deletion."
STATES = ["Enabled", "Disabled", "PendingDeletion"]
KEY = {"KeyId": "{key}"}

# Operation, its members, and what it says in each of STATES.
TABLE = [
    ("CancelKeyDeletion", KEY, [NOT_PENDING, NOT_PENDING, OK]),
    ("CreateAlias", {"AliasName": "alias/new", "TargetKeyId": "{key}"}, [OK, OK, PENDING]),
    ("Decrypt", {"CiphertextBlob": "{blob}"}, [OK, DISABLED, PENDING]),
    ("DeleteAlias", {"AliasName": "alias/subject"}, [OK, OK, OK]),
    ("DescribeKey", KEY, [OK, OK, OK]),
    ("DisableKey", KEY, [OK, OK, PENDING]),
    ("DisableKeyRotation", KEY, [OK, DISABLED, PENDING]),
    ("EnableKey", KEY, [OK, OK, PENDING]),
    ("EnableKeyRotation", KEY, [OK, DISABLED, PENDING]),
    ("Encrypt", {**KEY, "Plaintext": b"text"}, [OK, DISABLED, PENDING]),
    ("GenerateDataKey", {**KEY, "NumberOfBytes": 64}, [OK, DISABLED, PENDING]),
    ("GenerateDataKeyWithoutPlaintext", {**KEY, "NumberOfBytes": 64}, [OK, DISABLED, PENDING]),
    ("GetKeyPolicy", KEY, [OK, OK, OK]),
    ("GetKeyRotationStatus", KEY, [OK, OK, OK]),
    ("ListAliases", KEY, [OK, OK, OK]),
    ("ListKeyPolicies", KEY, [OK, OK, OK]),
    ("ListKeyRotations", KEY, [OK, OK, OK]),
    ("ListResourceTags", KEY, [OK, OK, OK]),
    ("ReEncrypt", {"CiphertextBlob": "{blob}", "DestinationKeyId": "{other}"}, [OK, DISABLED, PENDING]),
    ("ReEncrypt", {"CiphertextBlob": "{others}", "DestinationKeyId": "{key}"}, [OK, DISABLED, PENDING]),
    ("RotateKeyOnDemand", KEY, [OK, DISABLED, PENDING]),
    ("ScheduleKeyDeletion", KEY, [OK, OK, PENDING]),
    ("TagResource", {**KEY, "Tags": [{"TagKey": "a", "TagValue": ""}]}, [OK, OK, PENDING]),
    ("UntagResource", {**KEY, "TagKeys": ["a"]}, [OK, OK, PENDING]),
    ("UpdateAlias", {"AliasName": "alias/other", "TargetKeyId": "{key}"}, [OK, OK, PENDING]),
    ("UpdateKeyDescription", {**KEY, "Description": "words"}, [OK, OK, PENDING]),
]
WITHOUT_KEY = ["CreateKey", "GenerateRandom", "ListKeys"]


def into(state, key):
    if state == "Disabled":
        kms.disable_key(KeyId=key)
    elif state == "PendingDeletion":
        kms.schedule_key_deletion(KeyId=key)


methods = {kms.meta.method_to_api_mapping[name]: getattr(kms, name) for name in kms.meta.method_to_api_mapping}
other = kms.create_key()["KeyMetadata"]["KeyId"]
others = kms.encrypt(KeyId=other, Plaintext=b"text")["CiphertextBlob"]
for (operation, members, expected), (state, outcome) in itertools.chain.from_iterable(
    itertools.product([row], zip(STATES, row[2])) for row in TABLE
):
    made = kms.create_key()["KeyMetadata"]
    key = made["KeyId"]
    names = {"{key}": key, "{other}": other, "{others}": others,
             "{blob}": kms.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]}
    kms.create_alias(AliasName="alias/subject", TargetKeyId=key)
    kms.create_alias(AliasName="alias/other", TargetKeyId=other)
    into(state, key)
    filled = {name: names.get(value, value) if isinstance(value, str) else value for name, value in members.items()}
    found = refusal(methods[operation], **filled)
    assert found == outcome.replace(arn, made["Arn"]), f"{operation} of a key that is {state}: {found}"
    for alias in kms.list_aliases()["Aliases"]:
        kms.delete_alias(AliasName=alias["AliasName"])

# Every operation that is served has its row.
rows = {row[0] for row in TABLE} | set(WITHOUT_KEY)
for operation, method in methods.items():
    if operation not in rows:
        found = refusal(method)
        assert found.startswith(("UnsupportedOperationException: ", "ValidationException: ")), f"{operation}: {found}"
equal(len(TABLE), 26)
