# SPDX-License-Identifier: Apache-2.0
"""The signature of an event between nodes, made anew from what plugins/route-rabbitmq/seal.h says."""
import hashlib
import hmac
import struct
import time


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def text(data):
    data = data if isinstance(data, bytes) else data.encode()
    return struct.pack(">Q", len(data)) + data


def sign(key, rkey, body, headers, mode=2, content_type="", message_id=""):
    """chatd-sig of a message with these headers."""
    key = key.encode()
    out = text(rkey) + text(content_type) + text(message_id) + struct.pack(">QQ", mode, len(headers))
    for name in sorted(headers, key=str.encode):
        v = headers[name]
        out += text(name) + (b"n" + struct.pack(">q", v) if isinstance(v, int) else b"t" + text(v))
    out += struct.pack(">Q", len(body)) + body
    key_id = mac(key, b"chatd cluster events 1: key id")[:4].hex()
    return key_id + mac(mac(key, b"chatd cluster events 1: key"), out).hex()


def signed(key, rkey, body, headers, when=None):
    """The headers, with the time and the signature."""
    headers = {**headers, "chatd-time": int((time.time() if when is None else when) * 1000)}
    return {**headers, "chatd-sig": sign(key, rkey, body, headers)}
