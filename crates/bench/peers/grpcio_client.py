"""Calls bench.Echo at a steady rate through gRPC's C core, until standard input ends.

Arguments: addresses (comma-separated), calls a second, seconds that a call may take, service config (JSON).
Says "ready" when one call was answered; at the end one JSON object: "micros", how long each answered call took, and
"failed", how many said what.
"""

import collections
import json
import sys
import threading
import time

import grpc

addresses, rate, patience, config = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
config["loadBalancingConfig"] = [{"round_robin": {}}]
options = [
    ("grpc.service_config", json.dumps(config)),
    ("grpc.enable_retries", 1),
    # Without it, several addresses in one target are refused as an authority.
    ("grpc.default_authority", "echo"),
    # As Sinew's defaults: a dead peer is noticed within 3 s, and one that is back within 1 s.
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
channel = grpc.insecure_channel("ipv4:" + addresses, options=options)
say = channel.unary_unary("/bench.Echo/Say")
# A protobuf message with 100 bytes as its first field.
message = b"\x0a\x64" + bytes([7] * 100)

say(message, timeout=10, wait_for_ready=True)
print("ready", flush=True)

over = threading.Event()


def wait_for_end():
    sys.stdin.buffer.read()
    over.set()


threading.Thread(target=wait_for_end, daemon=True).start()

# Appended to by the thread on which calls end; counted afterwards.
ended = collections.deque()


def send():
    sent = time.monotonic()

    def note(call):
        code = call.code()
        if code == grpc.StatusCode.OK:
            ended.append(int((time.monotonic() - sent) * 1e6))
        else:
            ended.append(f"{code.name}: {call.details()}")

    say.future(message, timeout=patience).add_done_callback(note)


start, count = time.monotonic(), 0
while not over.is_set():
    due = int((time.monotonic() - start) * rate)
    while count < due:
        send()
        count += 1
    time.sleep(0.001)

limit = time.monotonic() + patience + 5
while len(ended) < count and time.monotonic() < limit:
    time.sleep(0.01)

failed = collections.Counter(what for what in ended if isinstance(what, str))
if len(ended) < count:
    failed["no end"] = count - len(ended)
json.dump({"micros": [what for what in ended if isinstance(what, int)], "failed": failed}, sys.stdout)
