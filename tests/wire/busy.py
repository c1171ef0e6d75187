"""Calls the KMS from several threads until it is gone; prints operation and request id of each call that is answered."""

import threading

import botocore.exceptions

from wire import client

key = client().create_key()["KeyMetadata"]["KeyId"]
lock = threading.Lock()


def call():
    kms = client()
    try:
        while True:
            for operation, method, members in [
                ("Encrypt", kms.encrypt, {"KeyId": key, "Plaintext": b"text"}),
                ("DescribeKey", kms.describe_key, {"KeyId": key}),
                ("DisableKey", kms.disable_key, {"KeyId": key}),
                ("EnableKey", kms.enable_key, {"KeyId": key}),
            ]:
                try:
                    answer = method(**members)
                except botocore.exceptions.ClientError as error:
                    answer = error.response
                with lock:
                    print(operation, answer["ResponseMetadata"]["RequestId"], flush=True)
    except botocore.exceptions.BotoCoreError:
        pass


threads = [threading.Thread(target=call) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
