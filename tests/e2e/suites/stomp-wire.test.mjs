/* What implementers of STOMP miss, sent byte by byte over TCP and WebSocket. */

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { frame, RawStomp } from "../lib/raw.mjs";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };

/* A client that sleeps, too, on a machine that does is late by itself: then once more. What is wrong is so each time. */
const inAQuietMoment = (work) => async () => {
	for (let left = 3; ; left--) {
		try {
			return await work();
		} catch (error) {
			if (left === 0) {
				throw error;
			}
		}
	}
};

describe("STOMP on the wire", () => {
	let server;
	const open = new Set();
	before(async () => (server = skip ? null : await startChatd({ config: "broker.yaml" })));
	after(async () => {
		for (const client of open) {
			client.end();
		}
		await server?.stop();
	});

	async function raw() {
		const client = await RawStomp.tcp(server.tcpPort);
		open.add(client);
		return client;
	}

	async function rawWs(protocols) {
		const client = await RawStomp.websocket(server.wsUrl, protocols);
		open.add(client);
		return client;
	}

	async function connected(version, headers) {
		const client = await raw();
		await client.connect(version, headers);
		return client;
	}

	/* ---- CONNECT ---- */

	test("CONNECT without host is accepted, and so is any host", limit, async () => {
		for (const host of [{}, { host: "127.0.0.1" }, { host: "/" }, { host: "no.such.host" }]) {
			const client = await raw();
			await client.send(frame("CONNECT", { "accept-version": "1.1,1.0", ...host }));
			assert.equal((await client.next("CONNECTED")).headers.version, "1.1");
		}
	});

	test("the highest common version is taken; no accept-version means 1.0", limit, async () => {
		for (const [offered, version] of [
			[undefined, "1.0"],
			["1.0", "1.0"],
			["1.0,1.1", "1.1"],
			["1.0,1.1,1.2", "1.2"],
			["1.2,1.1,1.0", "1.2"],
			["1.0,10.1", "1.0"],
			["1.1,9", "1.1"],
		]) {
			const client = await raw();
			await client.send(frame("CONNECT", offered ? { "accept-version": offered } : {}));
			assert.equal((await client.next("CONNECTED")).headers.version, version, offered);
		}
	});

	test("no common version: ERROR that names ours, then close", limit, async () => {
		const client = await raw();
		await client.send(frame("CONNECT", { "accept-version": "10.1,2.0" }));
		const error = await client.refused();
		assert.ok(error.headers.message);
		assert.deepEqual(error.headers.version.split(",").sort(), ["1.0", "1.1", "1.2"]);
	});

	test("STOMP is CONNECT by another name", limit, async () => {
		const client = await raw();
		await client.send(frame("STOMP", { "accept-version": "1.2", host: "x" }));
		assert.equal((await client.next("CONNECTED")).headers.version, "1.2");
	});

	test("CONNECT headers are not unescaped", limit, async () => {
		const client = await raw();
		await client.send(frame("CONNECT", { "accept-version": "1.2", host: "x", key: "\\value" }));
		await client.next("CONNECTED");
	});

	test("CONNECTED says version, session, server and heart-beat", limit, async () => {
		const client = await raw();
		const headers = await client.connect("1.2");
		for (const name of ["version", "session", "server", "heart-beat"]) {
			assert.ok(headers[name], name);
		}
		assert.equal(headers["content-length"], undefined);
	});

	test("a frame before CONNECT, and a second CONNECT, are refused", limit, async () => {
		const early = await raw();
		await early.send(frame("SEND", { destination: "/topic/x" }, "x"));
		await early.refused();
		const twice = await connected("1.2");
		await twice.send(frame("CONNECT", { "accept-version": "1.2", host: "x" }));
		await twice.refused();
	});

	test("unknown commands, and those of servers, are refused", limit, async () => {
		for (const command of ["FOO", "send", "MESSAGE", "CONNECTED", "RECEIPT", "ERROR"]) {
			const client = await connected("1.2");
			await client.send(frame(command, { destination: "/topic/x", receipt: "r7" }));
			const error = await client.refused();
			assert.ok(error.headers.message, command);
		}
	});

	/* ---- headers ---- */

	test("header escapes: undone and made again for each receiver's version", limit, async () => {
		const readers = {};
		for (const version of ["1.0", "1.1", "1.2"]) {
			readers[version] = await connected(version);
			await readers[version].subscribe("/topic/esc");
		}
		const sender = await connected("1.2");
		await sender.send(frame("SEND", { destination: "/topic/esc", key: "a\\cb\\\\c" }, "x"));
		const seen = {};
		for (const [version, reader] of Object.entries(readers)) {
			seen[version] = (await reader.next("MESSAGE")).headers.key;
		}
		assert.deepEqual(seen, { "1.0": "a:b\\c", "1.1": "a\\cb\\\\c", "1.2": "a\\cb\\\\c" });
	});

	test("1.0 knows no escapes: a colon and a backslash in a value are data", limit, async () => {
		const reader = await connected("1.2");
		await reader.subscribe("/topic/esc10");
		const sender = await connected("1.0");
		await sender.send(frame("SEND", { destination: "/topic/esc10", key: "a:b\\c" }, "x"));
		assert.equal((await reader.next("MESSAGE")).headers.key, "a\\cb\\\\c");
	});

	test("an undefined escape is an ERROR in 1.1 and 1.2; \\r is one in 1.1", limit, async () => {
		for (const [version, value] of [
			["1.1", "a\\tb"],
			["1.2", "a\\tb"],
			["1.2", "a\\"],
			["1.1", "a\\rb"],
		]) {
			const client = await connected(version);
			await client.send(frame("SEND", { destination: "/topic/x", key: value }, "x"));
			await client.refused();
		}
	});

	test("spaces around values are trimmed in 1.0 and kept in 1.1 and 1.2", limit, async () => {
		for (const [version, expected] of [
			["1.0", "bar"],
			["1.1", " bar "],
			["1.2", " bar "],
		]) {
			const client = await connected(version);
			await client.subscribe("/topic/trim");
			await client.send(frame("SEND", { destination: "/topic/trim", foo: " bar " }, "x"));
			assert.equal((await client.next("MESSAGE")).headers.foo, expected, version);
		}
	});

	test("the first of repeated headers counts and alone is passed on", limit, async () => {
		const client = await connected("1.2");
		await client.subscribe("/topic/rep");
		await client.send(frame("SEND", [["destination", "/topic/rep"], ["foo", "1"], ["foo", "2"], ["destination", "/topic/other"]], "x"));
		const message = await client.next("MESSAGE");
		assert.deepEqual(message.pairs.filter(([name]) => name === "foo"), [["foo", "1"]]);
		assert.equal(message.headers.destination, "/topic/rep");
	});

	test("client-set message-id and subscription are replaced, other headers pass", limit, async () => {
		const client = await connected("1.2");
		await client.subscribe("/topic/own");
		await client.send(frame("SEND", { destination: "/topic/own", "message-id": "mine", subscription: "fake", redelivered: "true", "content-type": "text/x-own", priority: "4", own: "yes" }, "x"));
		const { headers } = await client.next("MESSAGE");
		assert.notEqual(headers["message-id"], "mine");
		assert.equal(headers.subscription, "s0");
		assert.notEqual(headers.redelivered, "true");
		assert.deepEqual([headers["content-type"], headers.priority, headers.own], ["text/x-own", "4", "yes"]);
		assert.equal(headers.receipt, undefined);
	});

	test("a header without colon, and an empty name, are refused", limit, async () => {
		for (const line of ["nocolon", ":novalue"]) {
			const client = await connected("1.2");
			await client.send(`SEND\ndestination:/topic/x\n${line}\n\nx\0`);
			await client.refused();
		}
	});

	test("SEND without a destination is refused, with the receipt's id", limit, async () => {
		const client = await connected("1.2");
		await client.send(frame("SEND", { receipt: "r:1".replace(":", "\\c") }, "x"));
		const error = await client.refused();
		assert.equal(error.headers["receipt-id"], "r\\c1");
		assert.equal(Number(error.headers["content-length"]), error.body.length);
	});

	/* ---- framing ---- */

	test("CRLF line ends in 1.2, also after the NUL", limit, async () => {
		const client = await raw();
		await client.send("CONNECT\r\naccept-version:1.2\r\nhost:x\r\n\r\n\0\r\n");
		await client.next("CONNECTED");
		await client.send("SUBSCRIBE\r\nid:s0\r\ndestination:/topic/crlf\r\nreceipt:a\r\n\r\n\0\r\n\r\n");
		assert.equal((await client.next("RECEIPT")).headers["receipt-id"], "a");
		await client.send("SEND\r\ndestination:/topic/crlf\r\n\r\nline\r\n\0\r\n");
		assert.equal((await client.next("MESSAGE")).text, "line\r\n");
	});

	test("line ends before, between and after frames are heart-beats", limit, async () => {
		const client = await raw();
		await client.send("\n\n\r\n");
		await client.connect("1.2");
		await client.subscribe("/topic/lf");
		await client.send(Buffer.concat([Buffer.from("\n\n"), frame("SEND", { destination: "/topic/lf" }, "a"), Buffer.from("\n\n\n"), frame("SEND", { destination: "/topic/lf" }, "b"), Buffer.from("\n")]));
		assert.equal((await client.next("MESSAGE")).text, "a");
		assert.equal((await client.next("MESSAGE")).text, "b");
	});

	test("content-length counts bytes and lets the body hold NULs", limit, async () => {
		const client = await connected("1.2");
		await client.subscribe("/topic/nul");
		for (const [length, body] of [
			["5", "a\0b\0c"],
			["5 ", "a\0b\0c"],
			["6", "äöü"],
			["0", ""],
		]) {
			await client.send(frame("SEND", { destination: "/topic/nul", "content-length": length }, body));
			const message = await client.next("MESSAGE");
			assert.equal(message.text, body);
			assert.equal(message.headers["content-length"], String(Buffer.byteLength(body)));
		}
	});

	test("a content-length that is no number, twice different, or too short is refused", limit, async () => {
		for (const lengths of [["abc"], ["-1"], ["1e1"], ["3", "4"], ["2"]]) {
			const client = await connected("1.2");
			await client.send(frame("SEND", [["destination", "/topic/x"], ...lengths.map((l) => ["content-length", l])], "abc"));
			await client.refused();
		}
	});

	test("a body on SUBSCRIBE is refused", limit, async () => {
		const client = await connected("1.2");
		await client.send(frame("SUBSCRIBE", { id: "1", destination: "/topic/x" }, "body"));
		await client.refused();
	});

	test("frames cut at every byte, in pieces of 1, 7 and 191 bytes", limit, async () => {
		for (const size of [1, 7, 191]) {
			const client = await connected("1.2");
			await client.subscribe("/topic/cut");
			const bytes = Buffer.concat([frame("SEND", { destination: "/topic/cut", "content-length": 7 }, "x\0yäz\n"), frame("SEND", { destination: "/topic/cut", k: "a\\cb" }, "second")]);
			for (let i = 0; i < bytes.length; i += size) {
				await client.send(bytes.subarray(i, i + size));
				await sleep(1);
			}
			assert.equal((await client.next("MESSAGE")).text, "x\0yäz\n");
			assert.equal((await client.next("MESSAGE")).text, "second");
		}
	});

	test("a thousand frames in one chunk are answered in order", limit, async () => {
		const client = await connected("1.2");
		await client.subscribe("/topic/many");
		const many = Array.from({ length: 1000 }, (_, i) => frame("SEND", { destination: "/topic/many", receipt: `r${i}` }, `m${i}`));
		await client.send(Buffer.concat(many));
		const got = await client.frames.take(2000, 30000);
		const only = (command) => got.filter((f) => f.command === command);
		assert.deepEqual(only("MESSAGE").map((f) => f.text), many.map((_, i) => `m${i}`));
		assert.deepEqual(only("RECEIPT").map((f) => f.headers["receipt-id"]), many.map((_, i) => `r${i}`));
	});

	/* ---- heart-beats ---- */

	test("heart-beat 0,1000: one LF a second, not faster", limit, inAQuietMoment(async () => {
		const client = await connected("1.2", { "heart-beat": "0,1000" });
		client.beats.length = 0;
		await sleep(4300);
		const beats = client.beats;
		assert.ok(beats.length >= 3 && beats.length <= 5, `${beats.length} beats in 4.3 s`);
		for (let i = 1; i < beats.length; i++) {
			assert.ok(beats[i] - beats[i - 1] >= 800, `${beats[i] - beats[i - 1]} ms between two`);
		}
	}));

	test("heart-beat 1000,0: a silent client is dropped, one that beats stays", limit, inAQuietMoment(async () => {
		const start = Date.now();
		const quiet = await connected("1.2", { "heart-beat": "1000,0" });
		const lively = await connected("1.2", { "heart-beat": "1000,0" });
		let dropped = false;
		lively.closed.then(() => (dropped = true));
		const beat = setInterval(() => lively.send("\n"), 800);
		await quiet.closed;
		const after = Date.now() - start;
		await sleep(2500);
		clearInterval(beat);
		assert.ok(after > 1000 && after < 20000, `dropped after ${after} ms`);
		assert.ok(!dropped);
		await lively.settle();
	}));

	test("a malformed heart-beat is an ERROR that says so", limit, async () => {
		for (const value of ["0", "T,0", "100,10,50", "-1,5", ""]) {
			const client = await raw();
			await client.send(frame("CONNECT", { "accept-version": "1.2", host: "x", "heart-beat": value }));
			const error = await client.refused();
			assert.match(`${error.headers.message} ${error.text}`, /heart-?beat/i, value);
		}
	});

	/* ---- subscriptions and receipts ---- */

	test("1.1 and 1.2 need a subscription id, 1.0 does not and unsubscribes by destination", limit, async () => {
		for (const version of ["1.1", "1.2"]) {
			const client = await connected(version);
			await client.send(frame("SUBSCRIBE", { destination: "/topic/x" }));
			await client.refused();
		}
		const old = await connected("1.0");
		await old.send(frame("SUBSCRIBE", { destination: "/topic/old", receipt: "a" }));
		await old.next("RECEIPT");
		await old.send(frame("SEND", { destination: "/topic/old" }, "x"));
		await old.next("MESSAGE");
		await old.send(frame("UNSUBSCRIBE", { destination: "/topic/old", receipt: "b" }));
		await old.next("RECEIPT");
		await old.send(frame("SEND", { destination: "/topic/old" }, "y"));
		assert.deepEqual(await old.settle(), []);
	});

	test("a receipt for every frame, in the order of the frames", limit, async () => {
		const client = await connected("1.2");
		await client.send(
			Buffer.concat([
				frame("SUBSCRIBE", { id: "1", destination: "/topic/rc", receipt: "r1" }),
				frame("BEGIN", { transaction: "t", receipt: "r2" }),
				frame("SEND", { destination: "/topic/rc", transaction: "t", receipt: "r3" }, "x"),
				frame("COMMIT", { transaction: "t", receipt: "r4" }),
				frame("BEGIN", { transaction: "u", receipt: "r5" }),
				frame("ABORT", { transaction: "u", receipt: "r6" }),
				frame("UNSUBSCRIBE", { id: "1", receipt: "r7" }),
				frame("DISCONNECT", { receipt: "r8" }),
			]),
		);
		const receipts = [];
		while (receipts.length < 8) {
			const got = await client.frames.next();
			if (got.command === "RECEIPT") {
				receipts.push(got.headers["receipt-id"]);
				assert.equal(got.headers["content-length"], undefined);
			} else {
				assert.equal(got.command, "MESSAGE");
			}
		}
		assert.deepEqual(receipts, ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"]);
		await client.closed;
	});

	test("UNSUBSCRIBE leaves the other subscriptions", limit, async () => {
		const client = await connected("1.2");
		await client.subscribe("/topic/keep", { id: "keep" });
		await client.subscribe("/topic/keep", { id: "drop" });
		await client.send(frame("UNSUBSCRIBE", { id: "drop", receipt: "gone" }));
		await client.next("RECEIPT");
		await client.send(frame("SEND", { destination: "/topic/keep" }, "x"));
		assert.equal((await client.next("MESSAGE")).headers.subscription, "keep");
		assert.deepEqual(await client.settle(), []);
	});

	/* ---- transactions ---- */

	test("COMMIT, ABORT and SEND with an unknown transaction are ERRORs", limit, async () => {
		for (const bad of [
			frame("COMMIT", { transaction: "none" }),
			frame("ABORT", { transaction: "none" }),
			frame("SEND", { destination: "/topic/x", transaction: "none" }, "x"),
			Buffer.concat([frame("BEGIN", { transaction: "t" }), frame("BEGIN", { transaction: "t" })]),
			frame("BEGIN", {}),
		]) {
			const client = await connected("1.2");
			await client.send(bad);
			await client.refused();
		}
	});

	test("a transaction dies with its connection", limit, async () => {
		const reader = await connected("1.2");
		await reader.subscribe("/topic/txgone");
		const sender = await connected("1.2");
		await sender.send(Buffer.concat([frame("BEGIN", { transaction: "t" }), frame("SEND", { destination: "/topic/txgone", transaction: "t" }, "x"), frame("DISCONNECT", { receipt: "bye" })]));
		await sender.next("RECEIPT");
		await sender.closed;
		assert.deepEqual(await reader.settle(), []);
	});

	/* ---- acks on work queues ---- */

	test("a work queue gives each message to one subscriber, and keeps what nobody takes", limit, async () => {
		const sender = await connected("1.2");
		for (let i = 0; i < 4; i++) {
			await sender.send(frame("SEND", { destination: "/queue/keep", receipt: `k${i}` }, `early${i}`));
			await sender.next("RECEIPT");
		}
		const [a, b] = [await connected("1.2"), await connected("1.2")];
		await a.send(frame("SUBSCRIBE", { id: "s0", destination: "/queue/keep" }));
		for (let i = 0; i < 4; i++) {
			assert.equal((await a.next("MESSAGE")).text, `early${i}`);
		}
		await b.subscribe("/queue/keep");
		for (let i = 0; i < 10; i++) {
			await sender.send(frame("SEND", { destination: "/queue/keep" }, `j${i}`));
		}
		await sender.settle();
		const got = [];
		for (const end = Date.now() + 60000; got.length < 10 && Date.now() < end; ) {
			got.push(...[...(await a.settle()), ...(await b.settle())].map((f) => f.text));
		}
		assert.deepEqual(got.sort(), Array.from({ length: 10 }, (_, i) => `j${i}`).sort());
	});

	test("client-individual: NACK and a lost connection redeliver, ACK does not", limit, async () => {
		const [queue, sender] = ["/queue/redeliver", await connected("1.2")];
		const first = await connected("1.2");
		await first.subscribe(queue, { ack: "client-individual" });
		for (const body of ["a", "b", "c"]) {
			await sender.send(frame("SEND", { destination: queue }, body));
		}
		const got = await first.frames.take(3);
		assert.deepEqual(got.map((f) => f.text), ["a", "b", "c"]);
		assert.ok(got.every((f) => f.headers.ack));
		await first.send(frame("ACK", { id: got[1].headers.ack, receipt: "acked" }));
		await first.next("RECEIPT");
		first.end();
		const second = await connected("1.2");
		await second.send(frame("SUBSCRIBE", { id: "s0", destination: queue, ack: "client-individual" }));
		const again = await second.frames.take(2);
		assert.deepEqual(again.map((f) => f.text).sort(), ["a", "c"]);
		await second.send(frame("NACK", { id: again[0].headers.ack }));
		assert.equal((await second.next("MESSAGE")).text, again[0].text);
	});

	test("client: an ACK takes everything before it too", limit, async () => {
		const [queue, sender] = ["/queue/cumulative", await connected("1.2")];
		const first = await connected("1.2");
		await first.subscribe(queue, { ack: "client" });
		for (const body of ["a", "b", "c"]) {
			await sender.send(frame("SEND", { destination: queue }, body));
		}
		const got = await first.frames.take(3);
		await first.send(frame("ACK", { id: got[1].headers.ack, receipt: "acked" }));
		await first.next("RECEIPT");
		first.end();
		const second = await connected("1.2");
		await second.send(frame("SUBSCRIBE", { id: "s0", destination: queue }));
		assert.equal((await second.next("MESSAGE")).text, "c");
		await sleep(100);
		assert.equal(second.frames.size, 0);
	});

	test("acks by the headers of each version; auto subscriptions carry none", limit, async () => {
		for (const [version, named] of [
			["1.0", (h) => ({ "message-id": h["message-id"] })],
			["1.1", (h) => ({ "message-id": h["message-id"], subscription: h.subscription })],
			["1.2", (h) => ({ id: h.ack })],
		]) {
			const client = await connected(version);
			const queue = `/queue/ack-${version}`;
			await client.subscribe(queue, { ack: "client" });
			await client.send(frame("SEND", { destination: queue }, "x"));
			const { headers } = await client.next("MESSAGE");
			await client.send(frame("ACK", { ...named(headers), receipt: "ok" }));
			assert.equal((await client.next("RECEIPT")).headers["receipt-id"], "ok", version);
			client.end();
		}
		const auto = await connected("1.2");
		await auto.subscribe("/topic/auto");
		await auto.send(frame("SEND", { destination: "/topic/auto" }, "x"));
		assert.equal((await auto.next("MESSAGE")).headers.ack, undefined);
	});

	test("ACK of nothing, and an unknown ack mode, are ERRORs", limit, async () => {
		for (const bad of [frame("ACK", { id: "none" }), frame("ACK", {}), frame("NACK", { id: "none" }), frame("SUBSCRIBE", { id: "1", destination: "/topic/x", ack: "foo" })]) {
			const client = await connected("1.2");
			await client.send(bad);
			await client.refused();
		}
	});

	/* ---- WebSocket ---- */

	test("the subprotocol is one of those offered, the highest of ours, or none", limit, async () => {
		for (const [offered, answer] of [
			["v10.stomp, v11.stomp, v12.stomp", "v12.stomp"],
			["v11.stomp,v10.stomp", "v11.stomp"],
			["v10.stomp", "v10.stomp"],
			["mqtt, v11.stomp", "v11.stomp"],
			["mqtt", undefined],
			[undefined, undefined],
		]) {
			assert.equal(await subprotocol(server.http, offered), answer, offered);
		}
	});

	test("text frames carry UTF-8, binary frames what is not; both are taken", limit, async () => {
		const client = await rawWs(["v12.stomp"]);
		await client.send(frame("CONNECT", { "accept-version": "1.2", host: "x" })); /* binary */
		await client.next("CONNECTED");
		await client.send("SUBSCRIBE\nid:s0\ndestination:/topic/kind\nreceipt:r\n\n\0"); /* text */
		await client.next("RECEIPT");
		client.kinds.length = 0;
		await client.send(frame("SEND", { destination: "/topic/kind" }, "grün"));
		await client.next("MESSAGE");
		await client.send(frame("SEND", { destination: "/topic/kind", "content-length": 3 }, Buffer.from([0xff, 0xfe, 0])));
		const message = await client.next("MESSAGE");
		assert.deepEqual(client.kinds, [false, true]);
		assert.deepEqual([...message.body], [0xff, 0xfe, 0]);
	});

	test("DISCONNECT closes a WebSocket with 1000, an ERROR with another code", limit, async () => {
		for (const receipt of [{}, { receipt: "bye" }]) {
			const client = await rawWs();
			await client.connect("1.2");
			await client.send(frame("DISCONNECT", receipt));
			assert.equal((await client.closed).code, 1000);
		}
		const bad = await rawWs();
		await bad.connect("1.2");
		await bad.send(frame("FOO"));
		assert.equal((await bad.refused()).close.code, 1002);
	});

	test("ten thousand messages and an immediate close lose none", limit, () => flood(server));
});

/* Needs a server whose max_queue holds all of it: elsewhere a reader that falls 512 KiB behind is let go. */
async function flood(server, login = {}) {
	const [reader, sender] = [await RawStomp.tcp(server.tcpPort), await RawStomp.tcp(server.tcpPort)];
	await reader.connect("1.2", login);
	await reader.subscribe("/topic/flood");
	await sender.connect("1.2", login);
	const all = Array.from({ length: 10000 }, (_, i) => i);
	await sender.send(Buffer.concat(all.map((i) => frame("SEND", { destination: "/topic/flood" }, String(i)))));
	sender.socket.end();
	const got = await reader.frames.take(all.length, 50000);
	assert.deepEqual(got.map((f) => Number(f.text)), all);
	reader.end();
}

describe("STOMP logins and sizes", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "conformance.yaml" })));
	after(() => server?.stop());

	test("a wrong login gets an ERROR, then the close; a right one gets in", limit, async () => {
		for (const passcode of ["wrong", ""]) {
			const bad = await RawStomp.tcp(server.tcpPort);
			await bad.send(frame("CONNECT", { "accept-version": "1.2", host: "x", login: "guest", passcode }));
			const error = await bad.refused();
			assert.ok(error.headers.message);
			assert.ok(!/\bat .*:\d+/.test(error.text), "no stack trace");
		}
		for (const [login, passcode] of [
			["guest", "guest"],
			["system", "manager"],
		]) {
			const good = await RawStomp.tcp(server.tcpPort);
			assert.equal((await good.connect("1.2", { login, passcode }))["user-name"], login);
			good.end();
		}
	});

	test("15 MiB reach two subscribers whole", limit, async () => {
		const login = { login: "guest", passcode: "guest" };
		const readers = [];
		for (let i = 0; i < 2; i++) {
			const reader = await RawStomp.tcp(server.tcpPort);
			await reader.connect("1.2", login);
			await reader.subscribe("/topic/huge");
			readers.push(reader);
		}
		const body = Buffer.alloc(15 * 1024 * 1024, "0123456789");
		const sender = await RawStomp.tcp(server.tcpPort);
		await sender.connect("1.2", login);
		await sender.send(frame("SEND", { destination: "/topic/huge", "content-length": body.length }, body));
		for (const reader of readers) {
			assert.ok(body.equals((await reader.next("MESSAGE", 40000)).body));
		}
		for (const client of [...readers, sender]) {
			client.end();
		}
	});

	test("ten thousand messages and an immediate close lose none", limit, () =>
		flood(server, { login: "guest", passcode: "guest" }));

	test("a frame over the limit is told apart from a broken one", limit, async () => {
		const client = await RawStomp.tcp(server.tcpPort);
		await client.connect("1.2", { login: "guest", passcode: "guest" });
		await client.send(`SEND\ndestination:/topic/x\ncontent-length:${64 * 1024 * 1024}\n\n`);
		const error = await client.refused();
		assert.match(`${error.headers.message} ${error.text}`, /large|limit|exceed/i);
	});
});

/* The subprotocol that the server answers with, by a handshake that does not judge it. */
function subprotocol(address, offered) {
	const headers = {
		Connection: "Upgrade",
		Upgrade: "websocket",
		"Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	};
	if (offered) {
		headers["Sec-WebSocket-Protocol"] = offered;
	}
	return new Promise((resolve, reject) => {
		const request = http.get(`http://${address}/ws-chat`, { headers });
		request.on("upgrade", (response, socket) => {
			socket.destroy();
			resolve(response.headers["sec-websocket-protocol"]);
		});
		request.on("response", (response) => reject(new Error(`answered ${response.statusCode}`)));
		request.on("error", reject);
	});
}
