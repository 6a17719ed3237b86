# SPDX-License-Identifier: Apache-2.0
"""What the nodes of rabbit_e2e.py declare at the broker, and what somebody else has declared in another way."""
import re
import time

from plain import wait_until

TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


@test
def declared_queues_last_and_end_and_are_bounded(w):
    """G-BRK-7: what a node misses waits for it, and a node that is retired leaves nothing for ever."""
    text = w.rabbit.erlang("{ok, Q} = rabbit_amqqueue:lookup({resource, <<\"/\">>, queue, <<\"chat.queue.n1\">>}), [{_, D}, "
                           "{_, A}, {_, L}] = rabbit_amqqueue:info(Q, [durable, auto_delete, arguments]), [{durable, D}, {gone, A}] "
                           "++ [{binary_to_atom(K), case V of <<_/binary>> -> binary_to_atom(V); _ -> V end} || {K, _, V} <- L].")
    same(dict(re.findall(r"\{'?([\w-]+)'?, *'?([\w-]+)'?\}", text)),
         {"durable": "true", "gone": "false", "x-expires": "600000", "x-max-length-bytes": str(64 << 20), "x-overflow": "drop-head"})
    text = w.rabbit.erlang("{ok, X} = rabbit_exchange:lookup({resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}), "
                           "rabbit_exchange:info(X, [type, durable, auto_delete]).")
    same(re.findall(r"\{(\w+),\s*(\w+)\}", text), [("type", "topic"), ("durable", "true"), ("auto_delete", "false")])


@test
def declared_in_another_way_it_is_named_and_tried_at_leisure(w):
    """G-BRK-4: PRECONDITION_FAILED is said once, is no reason for a hot loop, and heals when its cause has gone."""
    exchange = "{resource, <<\"odd\">>, exchange, <<\"chat.exchange\">>}"
    w.rabbit.erlang('rabbit_vhost:add(<<"odd">>, <<"test">>), rabbit_auth_backend_internal:set_permissions(<<"guest">>, '
                    '<<"odd">>, <<".*">>, <<".*">>, <<".*">>, <<"test">>), rabbit_exchange:declare(%s, fanout, true, false, '
                    'false, [], <<"test">>).' % exchange)
    before = w.rabbit.text().count("precondition_failed")
    n = w.node(vhost="odd")
    time.sleep(6)
    said = re.findall(r"ERROR.*the broker refuses the connection to (\w+) \(.*PRECONDITION_FAILED.*declared chat.exchange", n.text())
    same(sorted(said), ["consume", "publish"], "once a minute")
    same(n.readyz(), {"status": "UP", "broker": "DOWN"})
    tries = w.rabbit.text().count("precondition_failed") - before
    print("# %d refusals in 6 s" % tries)
    assert 4 <= tries <= 40, "%d refusals in 6 s" % tries
    x = n.client()
    x.subscribe("/topic/odd")
    assert "message-id" in x.send("/topic/odd", b"here")
    same(x.on("/topic/odd").body, b"here")
    w.rabbit.erlang('rabbit_exchange:delete(%s, false, <<"test">>).' % exchange)
    n.wait_up(1, 60)
    x.close()
    w.drop(n)
    w.rabbit.erlang('rabbit_vhost:delete(<<"odd">>, <<"test">>).')
