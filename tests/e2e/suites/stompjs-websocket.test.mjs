/* The stock @stomp/stompjs over plain WebSocket, against chatd as a broker. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { Inbox } from "../lib/inbox.mjs";
import { StompUser } from "../lib/stomp.mjs";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };

describe("stompjs over WebSocket", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "broker.yaml" })));
	after(() => server?.stop());

	const connect = (options) => StompUser.connect({ url: server.wsUrl, ...options });

	for (const version of ["1.0", "1.1", "1.2"]) {
		test(`STOMP ${version}: connects, subscribes, echoes, disconnects with 1000`, limit, async () => {
			const user = await connect({ version });
			assert.equal(user.connected.version, version);
			assert.ok(user.connected.session, "CONNECTED carries session");
			assert.match(user.connected.server, /chatd/i);
			const inbox = await user.subscribe(`/topic/echo-${version}`);
			user.publish(`/topic/echo-${version}`, "Grüße, 世界 🌍", { "x-custom": "kept" });
			const message = await inbox.next();
			assert.equal(message.body, "Grüße, 世界 🌍");
			assert.equal(message.headers.destination, `/topic/echo-${version}`);
			assert.equal(message.headers["x-custom"], "kept");
			assert.ok(message.headers["message-id"]);
			assert.equal(message.headers.subscription, inbox.sub.id);
			assert.equal((await user.leave()).code, 1000);
		});
	}

	test("every subscriber gets a message once, in the order sent, with the same message-id", limit, async () => {
		const users = await Promise.all(Array.from({ length: 8 }, () => connect()));
		const inboxes = await Promise.all(users.map((u) => u.subscribe("/topic/fan")));
		for (let i = 0; i < 50; i++) {
			users[0].publish("/topic/fan", String(i));
		}
		const got = await Promise.all(inboxes.map((inbox) => inbox.take(50)));
		for (const messages of got) {
			assert.deepEqual(messages.map((m) => m.body), Array.from({ length: 50 }, (_, i) => String(i)));
			assert.deepEqual(messages.map((m) => m.headers["message-id"]), got[0].map((m) => m.headers["message-id"]));
		}
		await sleep(100);
		assert.deepEqual(inboxes.map((i) => i.size), Array(8).fill(0));
		await Promise.all(users.map((u) => u.leave()));
	});

	test("two subscriptions of one session each get the message", limit, async () => {
		const user = await connect();
		const [a, b] = [await user.subscribe("/topic/two"), await user.subscribe("/topic/two")];
		user.publish("/topic/two", "x");
		const [one, two] = [await a.next(), await b.next()];
		assert.notEqual(one.headers.subscription, two.headers.subscription);
		await user.leave();
	});

	test("after the receipt of an UNSUBSCRIBE nothing more arrives", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/topic/gone");
		const done = user.receipt("unsub");
		inbox.sub.unsubscribe({ receipt: "unsub" });
		await done;
		await user.send("/topic/gone", 1);
		await sleep(100);
		assert.equal(inbox.size, 0);
		await user.leave();
	});

	test("a transaction shows nothing before COMMIT and everything after, without the transaction header", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/topic/tx");
		const tx = user.client.begin();
		user.publish("/topic/tx", "one", { transaction: tx.id });
		user.publish("/topic/tx", "two", { transaction: tx.id });
		user.publish("/topic/tx", "outside");
		assert.equal((await inbox.next()).body, "outside");
		assert.equal(inbox.size, 0);
		tx.commit();
		const got = await inbox.take(2);
		assert.deepEqual(got.map((m) => m.body), ["one", "two"]);
		assert.ok(got.every((m) => m.headers.transaction === undefined));
		await user.leave();
	});

	test("an aborted transaction shows nothing", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/topic/abort");
		const tx = user.client.begin();
		user.publish("/topic/abort", "never", { transaction: tx.id });
		tx.abort();
		user.publish("/topic/abort", "after");
		assert.equal((await inbox.next()).body, "after");
		await user.leave();
	});

	/* stompjs escapes in 1.2 alone, and undoes its own escapes in the wrong order for a backslash before a "c". */
	test("headers with colons, backslashes and line ends come back as they went", limit, async () => {
		const user = await connect({ version: "1.2" });
		const inbox = await user.subscribe("/topic/escape");
		const value = "a:b\\x\nd\re";
		user.publish("/topic/escape", "x", { tricky: value });
		assert.equal((await inbox.next()).headers.tricky, value);
		await user.leave();
	});

	test("a binary body comes back byte by byte", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/topic/binary");
		const bytes = Uint8Array.from({ length: 512 }, (_, i) => i & 255);
		user.client.publish({
			destination: "/topic/binary",
			binaryBody: bytes,
			headers: { "content-type": "application/octet-stream" },
		});
		const message = await inbox.next();
		assert.deepEqual(Buffer.from(message.binaryBody), Buffer.from(bytes));
		assert.equal(message.headers["content-length"], "512");
		await user.leave();
	});

	test("splitLargeFrames: a frame in pieces of 17 bytes is put together", limit, async () => {
		const user = await connect({ client: { splitLargeFrames: true, maxWebSocketChunkSize: 17 } });
		const inbox = await user.subscribe("/topic/split");
		const text = "ö".repeat(1000);
		user.publish("/topic/split", text);
		assert.equal((await inbox.next()).body, text);
		await user.leave();
	});

	test("an empty body, and one that ends in line ends", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/topic/odd");
		for (const body of ["", "\n", "x\n\n"]) {
			user.publish("/topic/odd", body);
			const message = await inbox.next();
			assert.equal(message.body, body);
			assert.equal(message.headers["content-length"], String(Buffer.byteLength(body)));
		}
		await user.leave();
	});

	test("heart-beats keep an otherwise silent connection up", limit, async () => {
		const beats = new Inbox("heart-beats");
		const user = await connect({ beats: [1000, 1000], client: { onHeartbeatReceived: () => beats.push(1) } });
		await beats.take(3);
		assert.ok(user.client.connected);
		await user.leave();
	});

	test("a SUBSCRIBE with an id in use is an ERROR and then a close", limit, async () => {
		const user = await connect();
		user.client.subscribe("/topic/a", () => {}, { id: "same" });
		user.client.subscribe("/topic/b", () => {}, { id: "same", receipt: "second" });
		const error = await user.errors.next();
		assert.ok(error.headers.message);
		assert.equal(error.headers["receipt-id"], "second");
		assert.ok((await user.closed).code >= 1000);
	});

	test("client acks: MESSAGE carries ack, ACK is taken, a wrong one is an ERROR", limit, async () => {
		const user = await connect();
		const inbox = await user.subscribe("/queue/acks", { ack: "client-individual" });
		user.publish("/queue/acks", "job");
		const message = await inbox.next();
		assert.ok(message.headers.ack);
		const done = user.receipt("acked");
		message.ack({ receipt: "acked" });
		await done;
		user.client.ack("no-such", inbox.sub.id);
		assert.ok((await user.errors.next()).headers.message);
	});

	test("1,023 KiB of text and of bytes", limit, async () => {
		const big = await startChatd({ config: "conformance.yaml" });
		try {
			const user = await StompUser.connect({ url: big.wsUrl, headers: { login: "guest", passcode: "guest" } });
			const inbox = await user.subscribe("/topic/big");
			const text = "0123456789abcde\n".repeat(1023 * 64);
			user.publish("/topic/big", text);
			assert.equal((await inbox.next()).body, text);
			const bytes = randomBytes(1023 * 1024);
			user.client.publish({ destination: "/topic/big", binaryBody: bytes });
			assert.ok(bytes.equals(Buffer.from((await inbox.next()).binaryBody)));
			await user.leave();
		} finally {
			await big.stop();
		}
	});

	test("50 connections come and go at once", limit, async () => {
		const users = await Promise.all(Array.from({ length: 50 }, () => connect()));
		assert.equal(new Set(users.map((u) => u.connected.session)).size, 50);
		const codes = await Promise.all(users.map((u) => u.leave()));
		assert.ok(codes.every((c) => c.code === 1000));
	});
});
