"""The demo's scenario, told by clients that others wrote. The aws CLI, boto3, the AWS Encryption SDK and aws-sdk-kms (as a
second daemon's KMS) hold the keys, nbdcopy reads and writes, and the daemons attach. Each line is something that was done and
held in this run.

usage: aws.py ENVOL [--json]    in the Python environment that scripts/demo makes
Exits 0 only if all of it held. Everything is in a temporary directory, which is removed.
"""

import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import time

import aws_encryption_sdk
import boto3
import botocore.config
import botocore.exceptions
import botocore.session

SIZE = 8 << 20
START_DEADLINE = 30
BIN = pathlib.Path(sys.executable).parent


class Story:
    """What was asked and what held, told while it happens."""

    def __init__(self, as_json):
        self.as_json, self.rows = as_json, []

    def say(self, who, what, held, why=""):
        self.rows.append({"by": who, "asked": what, "found": why, "held": bool(held)})
        if not self.as_json:
            print(f"  {'held' if held else 'DID NOT HOLD':<12}  {who:<27}  {what}", flush=True)
            if why:
                print(textwrap.indent(textwrap.fill(why, 76, break_on_hyphens=False), " " * 45))

    def end(self):
        held = sum(row["held"] for row in self.rows)
        if self.as_json:
            print(json.dumps(self.rows, indent=2))
        else:
            print(f"\n  {held} of {len(self.rows)} held")
        return 0 if held == len(self.rows) else 1


class Daemon:
    """`envol daemon`; with `--kms-listen`, its KMS is on AWS's wire."""

    def __init__(self, program, place, *options):
        self.program, self.place = program, place
        os.makedirs(place, exist_ok=True)
        self.environment = {**os.environ, "ENVOL_SOCKET": f"{place}/control.sock", "ENVOL_STATE_DIR": place}
        self.log = open(f"{place}/log", "wb")
        command = [program, "daemon", *options]
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_DEADLINE
        while self.run("status")[0] != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(pathlib.Path(place, "log").read_text(encoding="utf-8"))
            time.sleep(0.02)

    def run(self, *words):
        """The exit code, and the answer or the error."""
        done = subprocess.run([self.program, *words, "--json"], env=self.environment, capture_output=True, check=False)
        text = done.stdout if done.returncode == 0 else done.stderr
        return done.returncode, json.loads(text) if text.strip() else {}

    def must(self, *words):
        code, answer = self.run(*words)
        if code != 0:
            raise RuntimeError(f"envol {' '.join(words)}: {answer}")
        return answer

    def attach(self, name="db"):
        code, answer = self.run("attach", name)
        return code, answer.get("error", {}).get("message", "")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def credentials(daemon):
    """What any AWS client reads from its environment."""
    key = daemon.must("kms", "access-key", "create", "--user", "root")
    return {
        "AWS_ENDPOINT_URL_KMS": daemon.must("status")["kms_endpoints"][0],
        "AWS_ACCESS_KEY_ID": key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }


def aws(*words):
    done = subprocess.run([BIN / "aws", "kms", *words, "--output", "json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"aws kms {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout or "{}")


def exception_of(call, *args, **named):
    try:
        call(*args, **named)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    except Exception as error:  # the Encryption SDK wraps what the KMS said
        return f"{type(error).__name__}: {error}"
    return "no exception"


class Volume:
    """An attached volume, by nbdcopy."""

    def __init__(self, place, name="db"):
        self.place, self.uri = place, f"nbd+unix:///{name}?socket={place}/nbd.sock"

    def write(self, content):
        pathlib.Path(self.place, "in").write_bytes(content)
        subprocess.run(["nbdcopy", f"{self.place}/in", self.uri], check=True)

    def read(self):
        subprocess.run(["nbdcopy", self.uri, f"{self.place}/out"], check=True)
        return pathlib.Path(self.place, "out").read_bytes()


def volume_story(story, daemon, kms, volume):
    key = aws("create-key", "--description", "volumes of the demo")["KeyMetadata"]
    aws("create-alias", "--alias-name", "alias/demo", "--target-key-id", key["KeyId"])
    story.say("aws kms create-key", "a key, and an alias for it", key["KeyState"] == "Enabled")
    daemon.must("volume", "create", "db", "--size", str(SIZE), "--key", "alias/demo")
    story.say("envol attach", "a volume under that key is attached", daemon.attach()[0] == 0)
    content = os.urandom(SIZE)
    volume.write(content)
    story.say("nbdcopy", f"{SIZE >> 20} MiB are written and read back", volume.read() == content)
    aws("disable-key", "--key-id", key["KeyId"])
    story.say("aws kms disable-key", "the attached volume goes on", volume.read() == content)
    daemon.must("detach", "db")
    code, message = daemon.attach()
    story.say("envol attach", "the next attach is refused, and says why", code == 5 and "is disabled" in message, message)
    kms.enable_key(KeyId=key["KeyId"])
    again = daemon.attach()[0] == 0 and volume.read() == content
    story.say("boto3 enable_key", "it attaches again, and every byte is there", again)
    daemon.must("detach", "db")
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    code, message = daemon.attach()
    doomed = code == 5 and "pending deletion" in message
    story.say("boto3 schedule_key_deletion", "an attach is refused, and says why", doomed, message)
    aws("cancel-key-deletion", "--key-id", key["KeyId"])
    aws("enable-key", "--key-id", key["KeyId"])
    story.say("aws kms cancel-key-deletion", "it attaches again", daemon.attach()[0] == 0 and volume.read() == content)
    return key


def encryption_sdk_story(story, kms, key):
    client = aws_encryption_sdk.EncryptionSDKClient()
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(
        key_ids=[key["Arn"]], botocore_session=botocore.session.get_session()
    )
    text = os.urandom(100_000)
    sealed, _ = client.encrypt(source=text, key_provider=provider, encryption_context={"purpose": "demo"})
    opened, header = client.decrypt(source=sealed, key_provider=provider)
    held = opened == text and header.encryption_context["purpose"] == "demo"
    story.say("AWS Encryption SDK", "a message is encrypted under the key and decrypted", held)
    kms.disable_key(KeyId=key["KeyId"])
    said = exception_of(client.decrypt, source=sealed, key_provider=provider)
    story.say("AWS Encryption SDK", "not while the key is disabled", said != "no exception", said.split(":")[0])
    code = exception_of(kms.generate_data_key, KeyId=key["KeyId"], KeySpec="AES_256")
    story.say("boto3", "which has the exception's name", code == "DisabledException", code)
    kms.enable_key(KeyId=key["KeyId"])


def sdk_story(story, program, place, kms, key):
    """A second daemon, whose `aws` kind of KMS is the first one's endpoint, through aws-sdk-kms."""
    os.makedirs(place)
    far = pathlib.Path(place, "credentials")
    far.touch(mode=0o600)
    secrets = [f"{name.lower()} = {os.environ[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    far.write_text("\n".join(["[default]", *secrets, ""]), encoding="utf-8")
    told = {"kind": "aws", "region": "us-east-1", "endpoint": os.environ["AWS_ENDPOINT_URL_KMS"], "credentials_file": str(far)}
    config = pathlib.Path(place, "envol.toml")
    config.write_text("\n".join(["[kms.far]", *(f'{name} = "{value}"' for name, value in told.items()), ""]), encoding="utf-8")
    daemon = Daemon(program, place, "--config", str(config))
    try:
        daemon.must("volume", "create", "far", "--size", str(SIZE), "--kms", "far", "--key", key["Arn"])
        content = os.urandom(SIZE)
        attached = daemon.attach("far")[0] == 0
        volume = Volume(place, "far")
        volume.write(content)
        story.say("aws-sdk-kms (Rust)", "a second daemon attaches a volume under that key", attached)
        kms.disable_key(KeyId=key["KeyId"])
        story.say("boto3 disable_key", "its volume goes on, too", volume.read() == content)
        daemon.must("detach", "far")
        code, message = daemon.attach("far")
        refused = code == 5 and "is disabled" in message
        story.say("aws-sdk-kms (Rust)", "its next attach is refused, and says why", refused, message)
        kms.enable_key(KeyId=key["KeyId"])
        again = daemon.attach("far")[0] == 0 and volume.read() == content
        story.say("boto3 enable_key", "it attaches again, and every byte is there", again)
    finally:
        daemon.stop()


def audit_story(story, daemon):
    events = daemon.must("audit", "list")
    agents = " ".join(str(event.get("userAgent")) for event in events)
    known = [name for name in ("aws-cli", "Boto3", "AwsEncryptionSdkPython", "aws-sdk-rust") if name in agents]
    story.say("envol audit list", "every client is found by its user agent", len(known) == 4, ", ".join(known))
    refused = [event for event in events if event.get("errorCode") == "DisabledException"]
    text = json.dumps(refused)
    story.say("envol audit list", "the refused attach is there, with its volume", "vol-" in text, f"{len(refused)} refusals")


def main():
    # The Encryption SDK logs each refusal with a traceback; what it says is in the rows.
    logging.disable()
    story = Story("--json" in sys.argv)
    with tempfile.TemporaryDirectory(prefix="envol-demo-") as place:
        program = os.path.abspath(sys.argv[1])
        daemon = Daemon(program, place, "--kms-listen", "127.0.0.1:0")
        try:
            os.environ.update(credentials(daemon))
            kms = boto3.client("kms", config=botocore.config.Config(retries={"total_max_attempts": 1}))
            key = volume_story(story, daemon, kms, Volume(place))
            encryption_sdk_story(story, kms, key)
            sdk_story(story, program, os.path.join(place, "second"), kms, key)
            audit_story(story, daemon)
        finally:
            daemon.stop()
    return story.end()


if __name__ == "__main__":
    sys.exit(main())
