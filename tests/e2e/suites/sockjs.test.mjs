/* STOMP through SockJS: the stock client with each transport forced in turn, and plain HTTP for what it has no use for
 * in Node. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createRequire } from "node:module";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { fetchAll, open } from "../lib/http.mjs";
import { Inbox } from "../lib/inbox.mjs";
import { frame } from "../lib/raw.mjs";
import { overSockJs, SockJS, StompUser, transports } from "../lib/stomp.mjs";

const require = createRequire(import.meta.url);
const { Stomp } = require("stompjs/lib/stomp.js");

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };
let sessions = 0;

describe("SockJS", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "broker.yaml" })));
	after(() => server?.stop());

	const session = () => `${server.url}/ws-chat/${String(100 + (sessions % 900))}/e2e${String(++sessions).padStart(5, "0")}`;
	const connectFrame = JSON.stringify([frame("CONNECT", { "accept-version": "1.2", host: "x" }).toString()]);

	for (const transport of transports) {
		test(`${transport}: connects, echoes, takes odd characters, disconnects`, limit, async () => {
			const user = await StompUser.connect({ factory: overSockJs(server.url, transport) });
			const inbox = await user.subscribe(`/topic/${transport}`);
			const text = "Grüße 🌍 \u0001 \u200c \u2028 \uffff \"quoted\" \\";
			user.publish(`/topic/${transport}`, text);
			assert.equal((await inbox.next()).body, text);
			await user.leave();
		});

		test(`${transport}: 500 messages in order, 100 KiB in one`, limit, async () => {
			const user = await StompUser.connect({ factory: overSockJs(server.url, transport) });
			const inbox = await user.subscribe(`/topic/order-${transport}`);
			for (let i = 0; i < 500; i++) {
				user.publish(`/topic/order-${transport}`, String(i));
			}
			assert.deepEqual((await inbox.take(500)).map((m) => Number(m.body)), Array.from({ length: 500 }, (_, i) => i));
			const large = "0123456789".repeat(5 * 1024);
			user.publish(`/topic/order-${transport}`, large);
			user.publish(`/topic/order-${transport}`, large);
			assert.equal((await inbox.next()).body, large);
			assert.equal((await inbox.next()).body, large);
			await user.leave();
		});

		test(`${transport}: an ERROR arrives before the close`, limit, async () => {
			const user = await StompUser.connect({ factory: overSockJs(server.url, transport) });
			user.client.subscribe("/topic/a", () => {}, { id: "same" });
			user.client.subscribe("/topic/b", () => {}, { id: "same" });
			assert.ok((await user.errors.next()).headers.message);
			await user.closed;
		});

		test(`${transport}: the old stompjs 2.3.3 as the reference page uses it`, limit, async () => {
			const old = await oldClient(server.url, transport);
			const inbox = new Inbox("the old client");
			old.subscribe("/topic/old", (message) => inbox.push(message));
			old.subscribe("/topic/old-errors", (message) => inbox.push(message));
			for (const body of ["one", '{"a":"ä €"}']) {
				old.send("/topic/old", {}, body);
				const message = await inbox.next();
				assert.equal(message.body, body);
				assert.equal(message.headers.subscription, "sub-0");
			}
			await new Promise((resolve) => old.disconnect(resolve));
		});
	}

	test("clients on different transports hear each other", limit, async () => {
		const users = [await StompUser.connect({ url: server.wsUrl })];
		for (const transport of transports) {
			users.push(await StompUser.connect({ factory: overSockJs(server.url, transport) }));
		}
		const inboxes = await Promise.all(users.map((u) => u.subscribe("/topic/mixed")));
		for (const [i, user] of users.entries()) {
			user.publish("/topic/mixed", `from ${i}`);
		}
		for (const inbox of inboxes) {
			const bodies = (await inbox.take(users.length)).map((m) => m.body);
			assert.deepEqual(bodies.sort(), users.map((_, i) => `from ${i}`));
		}
		await Promise.all(users.map((u) => u.leave()));
	});

	test("greeting, info, and what is not there", limit, async () => {
		for (const path of ["/ws-chat", "/ws-chat/"]) {
			const greeting = await fetchAll(server.url + path);
			assert.deepEqual([greeting.status, greeting.text], [200, "Welcome to SockJS!\n"], path);
			assert.match(greeting.headers["content-type"], /^text\/plain; ?charset=UTF-8$/i);
		}
		const [one, two] = [await fetchAll(`${server.url}/ws-chat/info?t=1`), await fetchAll(`${server.url}/ws-chat/info?t=2`)];
		assert.equal(one.headers["content-type"].replace(/; /, ";"), "application/json;charset=UTF-8");
		assert.equal(one.headers["cache-control"], "no-store, no-cache, no-transform, must-revalidate, max-age=0");
		assert.equal(one.headers["set-cookie"], undefined);
		const info = one.json;
		assert.deepEqual([info.websocket, info.cookie_needed, info.origins], [true, false, ["*:*"]]);
		assert.notEqual(info.entropy, two.json.entropy);
		for (const path of ["/ws-chat/a", "/ws-chat/a/a/", "/ws-chat//x/xhr", "/ws-chat/000//xhr", "/ws-chat/a./x/xhr", "/ws-chat/000/x/nothing"]) {
			assert.equal((await fetchAll(server.url + path, { method: "POST" })).status, 404, path);
		}
	});

	test("iframe: the page, its ETag, 304", limit, async () => {
		const page = await fetchAll(`${server.url}/ws-chat/iframe-1.6.1.html?t=1`);
		assert.equal(page.status, 200);
		assert.match(page.headers["content-type"], /^text\/html/);
		assert.match(page.text, /SockJS\.bootstrap_iframe\(\)/);
		assert.ok(page.headers.etag);
		const again = await fetchAll(`${server.url}/ws-chat/iframe-1.6.1.html`, { headers: { "If-None-Match": page.headers.etag } });
		assert.deepEqual([again.status, again.text], [304, ""]);
		assert.equal((await fetchAll(`${server.url}/ws-chat/iframe-/.html`)).status, 404);
	});

	test("eventsource carries STOMP", limit, async () => {
		const base = session();
		const stream = await open(`${base}/eventsource`);
		assert.equal(stream.status, 200);
		assert.equal(stream.headers["content-type"], "text/event-stream");
		await stream.until(/^\r\ndata: o\r\n\r\n$/);
		await sendTo(base, connectFrame);
		await stream.until(/^data: a\["CONNECTED\\nversion:1\.2\\n[^\r\n]*\\u0000"\]\r\n\r\n$/);
		stream.abort();
	});

	test("htmlfile carries STOMP and wants a sound callback", limit, async () => {
		const base = session();
		const stream = await open(`${base}/htmlfile?c=parent.cb`);
		assert.equal(stream.status, 200);
		const prelude = await stream.until(/<script>\np\("o"\);\n<\/script>\r\n$/);
		assert.ok(prelude.indexOf('p("o")') >= 1024, "the prelude is long enough for old browsers to begin");
		await sendTo(base, connectFrame);
		await stream.until(/p\("a\[\\"CONNECTED/);
		stream.abort();
		for (const query of ["", "?c=%20", "?c=a%3Cb"]) {
			assert.equal((await fetchAll(`${session()}/htmlfile${query}`)).status, 500, query);
		}
	});

	test("jsonp is not there unless it is switched on", limit, async () => {
		const base = session();
		assert.equal((await fetchAll(`${base}/jsonp?c=cb`)).status, 404);
		assert.equal((await fetchAll(`${base}/jsonp_send`, { method: "POST", body: "d=[]" })).status, 404);
	});

	test("xhr polling by hand: open, send, messages, a second poll, a closed session", limit, async () => {
		const base = session();
		const poll = () => open(`${base}/xhr`, { method: "POST" });
		assert.equal(await (await poll()).done, "o\n");
		await sendTo(base, connectFrame);
		const first = await poll();
		assert.match(first.headers["content-type"], /^application\/javascript; ?charset=UTF-8$/i);
		assert.match(await first.done, /^a\["CONNECTED\\n/);
		/* Of two at once it is the second one that is told, whichever that is. */
		const two = [0, 1].map(async () => (await poll()).done);
		const refused = 'c[2010,"Another connection still open"]\n';
		assert.equal(await Promise.race(two), refused);
		await sendTo(base, JSON.stringify([frame("DISCONNECT", { receipt: "bye" }).toString()]));
		assert.match((await Promise.all(two)).filter((text) => text !== refused).join(), /^a\["RECEIPT\\nreceipt-id:bye\\n/);
		assert.match(await (await poll()).done, /^c\[\d+,"[^"]*"\]\n$/);
	});

	test("xhr_send: unknown session, empty, broken and empty lists", limit, async () => {
		assert.equal((await fetchAll(`${session()}/xhr_send`, { method: "POST", body: "[]" })).status, 404);
		const base = session();
		await (await open(`${base}/xhr`, { method: "POST" })).done;
		for (const [body, status, text] of [
			["", 500, "Payload expected."],
			['["x', 500, "Broken JSON encoding."],
			["[]", 204, ""],
		]) {
			const answer = await fetchAll(`${base}/xhr_send`, { method: "POST", body });
			assert.deepEqual([answer.status, answer.text], [status, text]);
		}
	});

	test("several STOMP frames in one message, and one frame in several", limit, async () => {
		const socket = new SockJS(`${server.url}/ws-chat`, null, { transports: ["xhr-streaming"] });
		const inbox = new Inbox("SockJS");
		socket.onmessage = (event) => inbox.push(event.data);
		await new Promise((resolve) => (socket.onopen = resolve));
		socket.send("CONNECT\naccept-vers");
		socket.send("ion:1.2\nhost:x\n\n\0SUBSCRIBE\nid:1\ndestination:/topic/pieces\nreceipt:r\n\n\0");
		let all = "";
		while (!all.includes("receipt-id:r")) {
			all += await inbox.next();
		}
		assert.match(all, /^CONNECTED\n[^\0]*\0\n*RECEIPT\nreceipt-id:r\n\n\0/);
		socket.close();
	});
});

async function sendTo(base, body) {
	const answer = await fetchAll(`${base}/xhr_send`, { method: "POST", body, headers: { "Content-Type": "text/plain" } });
	assert.equal(answer.status, 204);
}

/* accept-version:1.1,1.0, heart-beat:10000,10000, no host, no login. */
function oldClient(url, transport) {
	Stomp.setInterval = (interval, work) => setInterval(work, interval);
	Stomp.clearInterval = (id) => clearInterval(id);
	const client = Stomp.over(new SockJS(`${url}/ws-chat`, null, { transports: [transport] }));
	client.debug = () => {};
	return new Promise((resolve, reject) => {
		client.connect({}, () => resolve(client), reject);
	});
}
