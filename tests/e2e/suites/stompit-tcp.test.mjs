/* stompit over plain TCP, against chatd as a broker. */

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { Inbox } from "../lib/inbox.mjs";
import { StompUser } from "../lib/stomp.mjs";

const require = createRequire(import.meta.url);
const stompit = require("stompit");

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };

function connect(server, headers = {}) {
	return new Promise((resolve, reject) => {
		const options = { host: "127.0.0.1", port: server.tcpPort, connectHeaders: { host: "/", "heart-beat": "5000,5000", ...headers } };
		stompit.connect(options, (error, client) => {
			if (error) {
				reject(error);
				return;
			}
			client.on("error", () => {});
			resolve(client);
		});
	});
}

/* {body: Buffer, headers, message}, in order */
function subscribe(client, headers) {
	const inbox = new Inbox(headers.destination);
	client.subscribe(headers, (error, message) => {
		if (error) {
			return; /* the connection's end */
		}
		const chunks = [];
		message.on("data", (chunk) => chunks.push(chunk));
		message.on("end", () => inbox.push({ body: Buffer.concat(chunks), headers: message.headers, message }));
	});
	return inbox;
}

function send(client, headers, body) {
	return new Promise((resolve) => {
		const frame = client.send(headers, { onReceipt: resolve });
		frame.end(body);
	});
}

const leave = (client) => new Promise((resolve, reject) => client.disconnect((error) => (error ? reject(error) : resolve())));

describe("stompit over TCP", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "broker.yaml" })));
	after(() => server?.stop());

	test("connects, echoes text and bytes, disconnects by receipt", limit, async () => {
		const client = await connect(server);
		const inbox = subscribe(client, { destination: "/topic/stompit", ack: "auto" });
		const binary = Buffer.from([0, 1, 2, 255, 0, 10]);
		for (const body of [Buffer.from("Grüße"), binary]) {
			await send(client, { destination: "/topic/stompit", "content-length": body.length, own: "a:b\nc" }, body);
			const got = await inbox.next();
			assert.ok(body.equals(got.body));
			assert.equal(got.headers.own, "a:b\nc");
		}
		await leave(client);
	});

	test("hears what a WebSocket client says, and is heard", limit, async () => {
		const [tcp, web] = [await connect(server), await StompUser.connect({ url: server.wsUrl })];
		const there = await web.subscribe("/topic/bridge");
		const here = subscribe(tcp, { destination: "/topic/bridge", ack: "auto" });
		await send(tcp, { destination: "/topic/bridge" }, "from tcp");
		assert.equal((await there.next()).body, "from tcp");
		assert.equal((await here.next()).body.toString(), "from tcp");
		web.publish("/topic/bridge", "from web");
		assert.equal((await here.next()).body.toString(), "from web");
		await leave(tcp);
		await web.leave();
	});

	test("client-individual acks and a nack on a work queue", limit, async () => {
		const client = await connect(server);
		const inbox = subscribe(client, { destination: "/queue/stompit", ack: "client-individual" });
		await send(client, { destination: "/queue/stompit" }, "job");
		const first = await inbox.next();
		client.nack(first.message);
		const again = await inbox.next();
		assert.equal(again.body.toString(), "job");
		client.ack(again.message);
		await leave(client);
	});

	test("a transaction", limit, async () => {
		const client = await connect(server);
		const inbox = subscribe(client, { destination: "/topic/stompit-tx", ack: "auto" });
		const transaction = client.begin();
		transaction.send({ destination: "/topic/stompit-tx" }).end("inside");
		await send(client, { destination: "/topic/stompit-tx" }, "outside");
		assert.equal((await inbox.next()).body.toString(), "outside");
		transaction.commit();
		assert.equal((await inbox.next()).body.toString(), "inside");
		await leave(client);
	});
});
