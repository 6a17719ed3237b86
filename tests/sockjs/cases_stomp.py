# SPDX-License-Identifier: Apache-2.0
"""STOMP over every transport."""
import json
import re
import uuid

import kit
from kit import (CONNECT, Client, case, equal, frame, jsonp, websocket)
from wire import Closed, WebSocket

# ---- STOMP ------------------------------------------------------------------

@case
def stomp_over_every_transport():
    names = ("websocket", "xhr", "xhr_streaming", "eventsource", "htmlfile", "jsonp")
    for name in names:
        for other in names:
            topic = f"/topic/{uuid.uuid4()}"
            a, b = Client(name), Client(other)
            a.send(frame("SUBSCRIBE", id="s", destination=topic, receipt="r"))
            assert "receipt-id:r" in a.next()
            b.send(frame("SEND", "hello \u20ac \u2028 </script>\n", destination=topic))
            message = a.next()
            assert message.startswith("MESSAGE\n"), message
            assert message.endswith("\n\nhello \u20ac \u2028 </script>\n\0"), message
            a.close()
            b.close()


@case
def stomp_frames_may_be_split_and_joined():
    for name in ("websocket", "xhr_streaming"):
        a = Client(name)
        topic = f"/topic/{uuid.uuid4()}"
        text = frame("SUBSCRIBE", id="s", destination=topic, receipt="r")
        a.send(text[:3], text[3:20])
        a.send(text[20:])
        assert "receipt-id:r" in a.next()
        a.send("".join(frame("SEND", str(i), destination=topic) for i in range(50)))
        equal([a.next().split("\n\n")[1] for _ in range(50)], [f"{i}\0" for i in range(50)])
        a.send("\n", "", *["\n"] * 3)
        a.send()
        a.send(frame("SEND", "end", destination=topic))
        assert a.next().endswith("end\0")
        a.close()


@case
def stomp_sends_arrive_in_order_and_receipted():
    for name in ("xhr_streaming", "xhr", "websocket"):
        a = Client(name)
        topic = f"/topic/{uuid.uuid4()}"
        a.send(frame("SUBSCRIBE", id="s", destination=topic))
        texts = [frame("SEND", str(i), destination=topic, receipt=i) for i in range(200)]
        for at in range(0, 200, 40):
            a.send(*texts[at:at + 40])
        bodies, receipts = [], []
        while len(bodies) + len(receipts) < 400:
            f = a.next()
            if f.startswith("RECEIPT"):
                receipts.append(re.search(r"receipt-id:(\d+)", f).group(1))
            else:
                bodies.append(f.split("\n\n")[1][:-1])
        equal(bodies, [str(i) for i in range(200)])
        equal(receipts, bodies)
        a.close()


@case
def stomp_error_comes_before_the_close():
    for name in ("xhr", "xhr_streaming", "eventsource", "websocket"):
        a = Client(name, connect=None)
        a.send(frame("CONNECT", accept_version="1.2", login="guest", passcode="wrong"))
        assert a.next().startswith("ERROR\n")
        text = a.receive()
        assert text.startswith("c[1008,") or text.startswith("c[1002,"), text
        a.close()


@case
def stomp_disconnect_closes_normally():
    for name in ("xhr", "xhr_streaming", "websocket"):
        a = Client(name)
        a.send(frame("DISCONNECT", receipt="bye"))
        assert "receipt-id:bye" in a.next()
        assert a.receive().startswith("c[1000,")
        a.close()


@case
def stomp_binary_goes_as_text():
    a = Client("xhr_streaming")
    topic = f"/topic/{uuid.uuid4()}"
    a.send(frame("SUBSCRIBE", id="s", destination=topic, receipt="r"))
    a.next()
    ws = WebSocket(kit.address, "/ws-chat", {"Sec-WebSocket-Protocol": "v12.stomp"})
    ws.send(CONNECT)
    assert ws.recv().startswith("CONNECTED\n")
    head = f"SEND\ndestination:{topic}\ncontent-length:3\n\n".encode()
    ws.send(head + b"\xff\x00x\0")
    assert a.next().endswith("\n\n\ufffd\0x\0")
    ws.close()
    a.close()


@case
def raw_websocket_given_sockjs_frames_is_an_error():
    ws = WebSocket(kit.address, "/ws-chat/websocket")
    ws.send(json.dumps([CONNECT]))
    try:
        assert ws.recv().startswith("ERROR\n")
        ws.recv()
        assert False, "it goes on"
    except Closed as end:
        equal(end.code, 1002)
    ws.close()
