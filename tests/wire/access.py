"""Who may use which key: identities, key policies, conditions, grants and sessions, as clients of AWS meet them."""

import json
import os
import subprocess

import boto3
import botocore.config
import botocore.exceptions

from wire import client, envol, equal, refusal

ACCOUNT, OTHER = "000000000000", "111122223333"
USER = f"arn:aws:iam::{ACCOUNT}:user/"
DENIED = "AccessDeniedException: "


def allow(action, resource="*", **condition):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [{**statement, "Condition": condition} if condition else statement]}


def put(accounts):
    """Replaces the identities."""
    words = [os.environ["ENVOL"], "iam", "put", "-", "--json"]
    document = json.dumps({"accounts": accounts})
    done = subprocess.run(words, input=document.encode(), capture_output=True, check=False)
    return done.returncode, done.stderr.decode()


def of_user(name, region="us-east-1"):
    made = envol("kms", "access-key", "create", "--user", name)
    return client(region, key=(made["access_key_id"], made["secret_access_key"])), made


def sts(key):
    config = botocore.config.Config(parameter_validation=False, retries={"max_attempts": 0})
    return boto3.client("sts", region_name="us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL_KMS"], config=config,
                        aws_access_key_id=key["access_key_id"], aws_secret_access_key=key["secret_access_key"],
                        aws_session_token=key.get("token"))


def outcome(call, **members):
    """`ok`, or the exception's name, of a call to STS or the KMS."""
    try:
        call(**members)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return "ok"


root = client()
made = root.create_key(Tags=[{"TagKey": "Env", "TagValue": "Dev"}])["KeyMetadata"]
key, arn = made["KeyId"], made["Arn"]
alice, alice_key = of_user("alice")
bob, bob_key = of_user("bob")
carol, carol_key = of_user(f"arn:aws:iam::{OTHER}:user/carol")
default = root.get_key_policy(KeyId=key)["Policy"]
plain = {"KeyId": arn, "Plaintext": b"x"}


def statement(effect, principal, action="kms:*", **condition):
    made = {"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*"}
    return {**made, "Condition": condition} if condition else made


def policy(*statements):
    own = [statement("Allow", f"arn:aws:iam::{ACCOUNT}:root")]
    return json.dumps({"Version": "2012-10-17", "Statement": [*own, *statements]})


# --- nobody has a right without a policy; with one, those that it gives
none = "because no identity-based policy allows the kms:Encrypt action"
equal(refusal(alice.encrypt, **plain), f"{DENIED}User: {USER}alice is not authorized to perform: kms:Encrypt on resource: {arn} {none}")
users = {"alice": {"policies": {"own": allow(["kms:Encrypt", "kms:Decrypt"], arn)}}, "bob": {"groups": ["readers"]}}
groups = {"readers": {"policies": {"look": allow(["kms:DescribeKey", "kms:List*"])}}}
equal(put({ACCOUNT: {"users": users, "groups": groups}}), (0, ""))
blob = alice.encrypt(**plain)["CiphertextBlob"]
equal(alice.decrypt(CiphertextBlob=blob)["Plaintext"], b"x")
equal(refusal(alice.describe_key, KeyId=arn).split(":")[0], "AccessDeniedException")
equal(bob.describe_key(KeyId=arn)["KeyMetadata"]["Arn"], arn)
equal(len(bob.list_keys()["Keys"]), 1)
equal(refusal(bob.decrypt, CiphertextBlob=blob), f"{DENIED}The ciphertext refers to a customer master key that does not exist, "
      "does not exist in this region, or you are not allowed to access.")
names = [row["arn"] for row in envol("iam", "list")]
equal(names, [f"{USER}alice", f"{USER}bob"])
equal(envol("iam", "show")["accounts"][ACCOUNT]["groups"], groups)
for broken, text in [({ACCOUNT: {"users": {"alice": {"groups": ["none"]}}}}, "which is not there"),
                     ({ACCOUNT: {"users": {"alice": {"policies": {"p": {"Statement": []}}}}}}, "lacks the element Statement")]:
    code, told = put(broken)
    equal((code, text in told), (2, True))
alice.encrypt(**plain)

# --- key policies: naming, denying, and the way back
equal(refusal(root.put_key_policy, KeyId=key, Policy="my policy").split(":")[0], "MalformedPolicyDocumentException")
locked = json.dumps({"Version": "2012-10-17", "Statement": [statement("Allow", f"{USER}bob")]})
equal(refusal(root.put_key_policy, KeyId=key, Policy=locked),
      "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future.")
equal(refusal(root.create_key, Policy=locked).split(":")[0], "MalformedPolicyDocumentException")
overly = policy(statement("Allow", f"{USER}bob", **{"ForAllValues:StringEquals": {"kms:EncryptionContext:a": "b"}}))
assert "OverlyPermissiveCondition" in refusal(root.put_key_policy, KeyId=key, Policy=overly)
equal(refusal(root.put_key_policy, KeyId=key, Policy=default, PolicyName="other"), "NotFoundException: No such policy exists")
root.put_key_policy(KeyId=key, Policy=policy(statement("Deny", f"{USER}alice", "kms:Decrypt")))
equal(refusal(alice.decrypt, CiphertextBlob=blob, KeyId=arn), f"{DENIED}User: {USER}alice is not authorized to perform: "
      "kms:Decrypt on this resource because the resource does not exist in this Region, no resource-based policies allow "
      "access, or a resource-based policy explicitly denies access")
root.put_key_policy(KeyId=key, Policy=policy(statement("Allow", f"{USER}bob", "kms:Decrypt")))
equal(bob.decrypt(CiphertextBlob=blob)["Plaintext"], b"x")
root.put_key_policy(KeyId=key, Policy=locked, BypassPolicyLockoutSafetyCheck=True)
for call, members in [(root.describe_key, {"KeyId": key}), (root.put_key_policy, {"KeyId": key, "Policy": default}),
                      (alice.encrypt, plain)]:
    equal(refusal(call, **members).split(":")[0], "AccessDeniedException")
bob.put_key_policy(KeyId=arn, Policy=default, BypassPolicyLockoutSafetyCheck=True)
root.describe_key(KeyId=key)

# --- conditions: aliases, tags, specs, the encryption context
users["alice"]["policies"] = {
    "finance": allow(["kms:GenerateDataKey", "kms:DescribeKey"], **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/finance"}}),
    "by-alias": allow("kms:Encrypt", **{"StringEquals": {"kms:RequestAlias": "alias/finance"}}),
    "prod": allow("kms:Decrypt", **{"StringEquals": {"aws:ResourceTag/Env": "Prod"}}),
    "tags": allow(["kms:TagResource"], **{"StringEquals": {"aws:RequestTag/Purpose": "Test"}}),
    "macs": allow("kms:CreateKey", **{"StringLike": {"kms:KeySpec": "HMAC_*"}}),
    "aliases": allow(["kms:CreateAlias", "kms:DeleteAlias"], f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/alice/*"),
    "context": allow("kms:GenerateDataKeyWithoutPlaintext", **{"StringEquals": {"kms:EncryptionContext:app": "web"}}),
}
equal(put({ACCOUNT: {"users": users, "groups": groups}})[0], 0)
data = {"NumberOfBytes": 32}
equal(outcome(alice.generate_data_key, KeyId=arn, **data), "AccessDeniedException")
root.create_alias(AliasName="alias/finance", TargetKeyId=key)
for name in [key, arn, "alias/finance"]:
    equal(outcome(alice.generate_data_key, KeyId=name, **data), "ok")
equal((outcome(alice.encrypt, KeyId="alias/finance", Plaintext=b"x"), outcome(alice.encrypt, **plain)),
      ("ok", "AccessDeniedException"))
other = root.create_key()["KeyMetadata"]["Arn"]
root.update_alias(AliasName="alias/finance", TargetKeyId=other)
equal([outcome(alice.generate_data_key, KeyId=name, **data) for name in [arn, other]], ["AccessDeniedException", "ok"])
equal(outcome(alice.decrypt, CiphertextBlob=blob, KeyId=arn), "AccessDeniedException")
root.tag_resource(KeyId=key, Tags=[{"TagKey": "Env", "TagValue": "Prod"}])
equal(outcome(alice.decrypt, CiphertextBlob=blob, KeyId=arn), "ok")
equal(outcome(alice.tag_resource, KeyId=arn, Tags=[{"TagKey": "Purpose", "TagValue": "Prod"}]), "AccessDeniedException")
equal(outcome(alice.tag_resource, KeyId=arn, Tags=[{"TagKey": "Purpose", "TagValue": "Test"}]), "ok")
equal(outcome(alice.create_key), "AccessDeniedException")
equal(outcome(alice.create_key, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"), "ok")
tagged = {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC", "Tags": [{"TagKey": "Purpose", "TagValue": "Prod"}]}
equal(outcome(alice.create_key, **tagged), "AccessDeniedException")
# An alias is not enough: the key is asked as well.
equal(outcome(alice.create_alias, AliasName="alias/alice/a", TargetKeyId=arn), "AccessDeniedException")
root.put_key_policy(KeyId=key, Policy=policy(statement("Allow", f"{USER}alice", ["kms:CreateAlias", "kms:DeleteAlias"])))
equal(outcome(alice.create_alias, AliasName="alias/bob/a", TargetKeyId=arn), "AccessDeniedException")
equal(outcome(alice.create_alias, AliasName="alias/alice/a", TargetKeyId=arn), "ok")
equal(outcome(alice.delete_alias, AliasName="alias/alice/a"), "ok")
for context, expected in [({"app": "web"}, "ok"), ({"APP": "web"}, "ok"), ({}, "AccessDeniedException"),
                          ({"app": "web", "APP": "web"}, "AccessDeniedException")]:
    found = outcome(alice.generate_data_key_without_plaintext, KeyId=arn, EncryptionContext=context, **data)
    equal((context, found), (context, expected))

# --- grants
root.put_key_policy(KeyId=key, Policy=default)
users["alice"]["policies"] = {}
equal(put({ACCOUNT: {"users": users, "groups": groups}})[0], 0)
equal(outcome(alice.encrypt, **plain), "AccessDeniedException")
grant = root.create_grant(KeyId=key, GranteePrincipal=f"{USER}alice", Operations=["Encrypt", "CreateGrant", "RetireGrant"],
                          Constraints={"EncryptionContextSubset": {"app": "web"}})
web = {"EncryptionContext": {"app": "web", "more": "1"}}
equal((outcome(alice.encrypt, **plain, **web), outcome(alice.encrypt, **plain)), ("ok", "AccessDeniedException"))
equal(outcome(alice.decrypt, CiphertextBlob=blob, KeyId=arn), "AccessDeniedException")
# A grant from a grant gives no more than that one.
to_bob = {"KeyId": arn, "GranteePrincipal": f"{USER}bob"}
stricter = {"Constraints": {"EncryptionContextEquals": {"app": "web", "more": "1"}}}
for members, expected in [({"Operations": ["Decrypt"], **stricter}, "AccessDeniedException"),
                          ({"Operations": ["Encrypt"]}, "AccessDeniedException"),
                          ({"Operations": ["Encrypt"], "Constraints": {"EncryptionContextSubset": {"app": "x"}}}, "AccessDeniedException"),
                          ({"Operations": ["Encrypt"], **stricter}, "ok")]:
    equal((members, outcome(alice.create_grant, **to_bob, **members)), (members, expected))
equal((outcome(bob.encrypt, **plain, **web), outcome(bob.encrypt, **plain)), ("ok", "AccessDeniedException"))
for members, expected in [
    ({"GranteePrincipal": "nobody", "Operations": ["Encrypt"]}, "InvalidArnException"),
    ({"GranteePrincipal": f"{USER}bob", "Operations": ["Sign"]}, "ValidationError"),
    ({"GranteePrincipal": f"{USER}bob", "Operations": []}, "ValidationError"),
    ({"GranteePrincipal": f"{USER}bob", "Operations": ["Encrypt"], "Constraints": {"EncryptionContextSubset": {"a": "b" * 385}}},
     "ValidationException"),
    ({"GranteePrincipal": f"{USER}bob", "Operations": ["Encrypt"], "DryRun": True}, "DryRunOperationException"),
    ({"GranteePrincipal": f"{OTHER}:aws:ec2-infrastructure:i-0123", "Operations": ["Decrypt"]}, "ok"),
]:
    equal((members, outcome(root.create_grant, KeyId=key, **members)), (members, expected))
equal(outcome(alice.encrypt, **plain, **web, GrantTokens=["none"]), "InvalidGrantTokenException")
alice.encrypt(**plain, **web, GrantTokens=[grant["GrantToken"]])
equal(refusal(root.revoke_grant, KeyId=key, GrantId="0" * 64).split(":")[0], "NotFoundException")
equal(outcome(bob.retire_grant, GrantToken=grant["GrantToken"]), "AccessDeniedException")
equal(outcome(alice.retire_grant, KeyId=key, GrantId=grant["GrantId"]), "InvalidArnException")
root.put_key_policy(KeyId=key, Policy=policy(statement("Deny", f"{USER}alice", "kms:RetireGrant")))
equal(outcome(alice.retire_grant, GrantToken=grant["GrantToken"]), "AccessDeniedException")
root.put_key_policy(KeyId=key, Policy=default)
equal(outcome(alice.retire_grant, KeyId=arn, GrantId=grant["GrantId"]), "ok")
equal(outcome(alice.encrypt, **plain, **web), "AccessDeniedException")
pages = list(root.get_paginator("list_grants").paginate(KeyId=key, PaginationConfig={"PageSize": 1}))
equal([len(page["Grants"]) for page in pages], [1, 1])
equal(len(root.list_grants(KeyId=key, GranteePrincipal=f"{USER}bob")["Grants"]), 1)
for entry in root.list_grants(KeyId=key)["Grants"]:
    root.revoke_grant(KeyId=key, GrantId=entry["GrantId"])
equal(outcome(bob.encrypt, **plain, **web), "AccessDeniedException")
equal(outcome(root.list_grants, KeyId=key, GrantId="zz"), "InvalidGrantIdException")

# Conditions on a grant are about the constraint that it will have, not about whatever the request holds.
giving = allow("kms:CreateGrant", arn, StringEquals={"kms:EncryptionContext:app": "web"})
equal(put({ACCOUNT: {"users": {"alice": {"policies": {"own": giving}}}}})[0], 0)
to_self = {"KeyId": arn, "GranteePrincipal": f"{USER}alice", "Operations": ["Decrypt"]}
for constraints, expected in [({"EncryptionContextSubset": {"app": "web"}}, "ok"), ({"EncryptionContextSubset": {}}, "AccessDeniedException"),
                              ({}, "AccessDeniedException")]:
    equal((constraints, outcome(alice.create_grant, **to_self, Constraints=constraints)), (constraints, expected))
typed = allow("kms:CreateGrant", arn, Null={"kms:GrantConstraintType": "false"})
equal(put({ACCOUNT: {"users": {"alice": {"policies": {"own": typed}}}}})[0], 0)
equal(outcome(alice.create_grant, **to_self, Constraints={"EncryptionContextSubset": {}}), "AccessDeniedException")
# A principal is told by its ARN, however it is spelled.
abroad = {"Effect": "Deny", "Action": "kms:CreateGrant", "Resource": "*",
          "Condition": {"StringLike": {"kms:GranteePrincipal": f"arn:aws:iam::{OTHER}:*"}}}
own = {"Statement": [*allow("kms:CreateGrant", arn)["Statement"], abroad]}
equal(put({ACCOUNT: {"users": {"alice": {"policies": {"own": own}}}}})[0], 0)
for grantee, expected in [(OTHER, "AccessDeniedException"), (f"arn:aws:iam::{OTHER}:root", "AccessDeniedException"), (f"{USER}bob", "ok")]:
    equal((grantee, outcome(alice.create_grant, **{**to_self, "GranteePrincipal": grantee})), (grantee, expected))
# What a request leaves out is what AWS takes for it.
slow = {"Effect": "Deny", "Action": "kms:EnableKeyRotation", "Resource": "*", "Condition": {"NumericGreaterThan": {"kms:RotationPeriodInDays": "180"}}}
symmetric = allow("kms:GenerateDataKey", arn, StringEquals={"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
own = {"Statement": [*allow("kms:EnableKeyRotation", arn)["Statement"], slow, *symmetric["Statement"]]}
equal(put({ACCOUNT: {"users": {"alice": {"policies": {"own": own}}}}})[0], 0)
equal(outcome(alice.enable_key_rotation, KeyId=key), "AccessDeniedException")
equal(outcome(alice.enable_key_rotation, KeyId=key, RotationPeriodInDays=180), "ok")
root.disable_key_rotation(KeyId=key)
equal(outcome(alice.generate_data_key, KeyId=key, KeySpec="AES_256"), "ok")
for entry in root.list_grants(KeyId=key)["Grants"]:
    root.revoke_grant(KeyId=key, GrantId=entry["GrantId"])
equal(put({})[0], 0)

# --- another account: by ARN, and where both sides allow
accounts = {ACCOUNT: {"users": users, "groups": groups}, OTHER: {"users": {"carol": {"policies": {"all": allow("kms:*")}}}}}
equal(put(accounts)[0], 0)
equal(outcome(carol.encrypt, **plain), "AccessDeniedException")
root.put_key_policy(KeyId=key, Policy=policy(statement("Allow", OTHER, ["kms:Encrypt", "kms:DisableKey"])))
equal(outcome(carol.encrypt, **plain), "ok")
equal(refusal(carol.encrypt, KeyId=key, Plaintext=b"x"), f"NotFoundException: Key 'arn:aws:kms:us-east-1:{OTHER}:key/{key}' does not exist")
for call, members in [(carol.disable_key, {"KeyId": arn}), (carol.list_keys, {}), (carol.create_key, {})]:
    equal(outcome(call, **members), "AccessDeniedException")
accounts[OTHER]["users"]["carol"]["policies"] = {}
equal(put(accounts)[0], 0)
equal(outcome(carol.encrypt, **plain), "AccessDeniedException")
root.create_grant(KeyId=key, GranteePrincipal=f"arn:aws:iam::{OTHER}:user/carol", Operations=["Encrypt"])
equal(outcome(carol.encrypt, **plain), "ok")

# --- sessions of roles
equal(sts(alice_key).get_caller_identity()["Arn"], f"{USER}alice")
root_key = {"access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
identity = sts(root_key).get_caller_identity()
equal((identity["Arn"], identity["Account"], identity["UserId"]), (f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, ACCOUNT))
role = f"arn:aws:iam::{ACCOUNT}:role/app"
trust = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": f"{USER}alice"}, "Action": "sts:AssumeRole"}}
app = {"trust": trust, "policies": {"use": allow(["kms:Encrypt", "kms:Decrypt"])}, "tags": {"team": "red"}}
accounts[ACCOUNT]["roles"] = {"app": app}
equal(put(accounts)[0], 0)
asked = {"RoleArn": role, "RoleSessionName": "one"}
equal(outcome(sts(bob_key).assume_role, **asked), "AccessDenied")
equal(outcome(sts(root_key).assume_role, **asked), "AccessDenied")
equal(outcome(sts(alice_key).assume_role, **{**asked, "RoleArn": role + "x"}), "AccessDenied")
for members, expected in [({"DurationSeconds": 899}, "ValidationError"), ({"DurationSeconds": 3601}, "ValidationError"),
                          ({"RoleSessionName": "x"}, "ValidationError"), ({"Policy": "{}"}, "MalformedPolicyDocument"),
                          ({"SourceIdentity": "x"}, "ValidationError")]:
    equal((members, outcome(sts(alice_key).assume_role, **{**asked, **members})), (members, expected))


def session(by, **members):
    answer = sts(by).assume_role(**{**asked, **members})
    given = answer["Credentials"]
    own = {"access_key_id": given["AccessKeyId"], "secret_access_key": given["SecretAccessKey"], "token": given["SessionToken"]}
    kms = boto3.client("kms", region_name="us-east-1", aws_access_key_id=own["access_key_id"],
                       aws_secret_access_key=own["secret_access_key"], aws_session_token=own["token"])
    return kms, own, answer["AssumedRoleUser"]


kms, own, who = session(alice_key)
equal((who["Arn"], who["AssumedRoleId"]), (f"arn:aws:sts::{ACCOUNT}:assumed-role/app/one", "app:one"))
equal(sts(own).get_caller_identity()["Arn"], who["Arn"])
equal((outcome(kms.encrypt, **plain), outcome(kms.describe_key, KeyId=arn)), ("ok", "AccessDeniedException"))
limited, _, _ = session(alice_key, Policy=json.dumps(allow("kms:Decrypt")), DurationSeconds=900)
equal(refusal(limited.encrypt, **plain), f"{DENIED}User: {who['Arn']} is not authorized to perform: kms:Encrypt on resource: "
      f"{arn} because no session policy allows the kms:Encrypt action")
equal(outcome(limited.decrypt, CiphertextBlob=blob, KeyId=arn), "ok")
stranger = {**own, "token": own["token"][:-4] + "AAAA"}
equal(outcome(sts(stranger).get_caller_identity), "InvalidClientTokenId")
equal(outcome(sts({**own, "token": None}).get_caller_identity), "InvalidClientTokenId")
equal(outcome(sts({**alice_key, "secret_access_key": "x" * 40}).get_caller_identity), "SignatureDoesNotMatch")
# A role by its account's own policies, and a grant to the role.
accounts[ACCOUNT]["roles"]["app"] = {"trust": {"Statement": {**trust["Statement"], "Principal": {"AWS": ACCOUNT}}}}
accounts[ACCOUNT]["users"]["bob"]["policies"] = {"assume": allow("sts:AssumeRole", role)}
equal(put(accounts)[0], 0)
equal((outcome(sts(alice_key).assume_role, **asked), outcome(sts(bob_key).assume_role, **asked)), ("AccessDenied", "ok"))
equal(outcome(kms.encrypt, **plain), "AccessDeniedException")
root.create_grant(KeyId=key, GranteePrincipal=role, Operations=["Encrypt"])
equal(outcome(kms.encrypt, **plain), "ok")
# A role that is gone has no sessions.
accounts[ACCOUNT]["roles"] = {}
equal(put(accounts)[0], 0)
equal(outcome(kms.encrypt, **plain), "UnrecognizedClientException")

# --- what the log has of it
lines = [record for record in envol("audit", "list", "--limit", "1000")]
by_name = {}
for record in lines:
    by_name.setdefault(record["eventName"], []).append(record)
assumed = [record for record in by_name["AssumeRole"] if "errorCode" not in record][-1]
equal((assumed["eventSource"], assumed["requestParameters"]["roleArn"]), ("sts.amazonaws.com", role))
equal(assumed["responseElements"]["assumedRoleUser"]["assumedRoleId"], "app:one")
text = json.dumps(lines)
assert own["token"] not in text and own["secret_access_key"] not in text and grant["GrantToken"] not in text
made_grant = [record for record in by_name["CreateGrant"] if "errorCode" not in record][-1]
equal(made_grant["responseElements"]["grantId"], root.list_grants(KeyId=key, GranteePrincipal=role)["Grants"][0]["GrantId"])
equal(made_grant["requestParameters"]["granteePrincipal"], role)
foreign = [record for record in by_name["Encrypt"] if record["userIdentity"]["arn"].endswith("user/carol")][0]
equal(foreign["userIdentity"]["accountId"], OTHER)
assert {"PutKeyPolicy", "RetireGrant", "RevokeGrant", "PutIdentities", "GetCallerIdentity"} <= set(by_name), by_name.keys()
