/* The stock SockJS client through a balancer that sends each request to the next node.  By tests/cluster/astray.py, which
 * sets ASTRAY_URL; ASTRAY_MESSAGES: how many go each way; ASTRAY_ONLY: one transport alone. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { overSockJs, SockJS, StompUser, transports } from "../e2e/lib/stomp.mjs";

const url = process.env.ASTRAY_URL;
const many = Number(process.env.ASTRAY_MESSAGES ?? 300);
const limit = { timeout: 60000 };

const only = process.env.ASTRAY_ONLY;

for (const transport of only ? [only] : transports) {
	test(`${transport}: ${many} messages in order, large ones, and a clean end`, limit, async () => {
		const user = await StompUser.connect({ factory: overSockJs(url, transport) });
		const inbox = await user.subscribe(`/topic/astray-${transport}`);
		const publish = (body) => user.publish(`/topic/astray-${transport}`, body);
		for (let i = 0; i < many; i++) {
			publish(String(i));
		}
		assert.deepEqual((await inbox.take(many)).map((m) => Number(m.body)), Array.from({ length: many }, (_, i) => i));
		/* One by one: each waits for a poll, or for the next request of a stream. */
		for (const body of ["Grüße 🌍 \u2028 \"quoted\"", "0123456789".repeat(5 * 1024), "x"]) {
			publish(body);
			assert.equal((await inbox.next()).body, body);
		}
		await user.leave();
	});
}

test("the client chooses by itself, and two hear each other", { ...limit, skip: Boolean(only) }, async () => {
	const any = () => new SockJS(`${url}/ws-chat`);
	const [ann, bob] = [await StompUser.connect({ factory: any }), await StompUser.connect({ factory: overSockJs(url, "xhr-polling") })];
	const [atAnn, atBob] = [await ann.subscribe("/topic/astray-both"), await bob.subscribe("/topic/astray-both")];
	/* Another node hears of a subscription a moment later. */
	await new Promise((resolve) => setTimeout(resolve, 1000));
	ann.publish("/topic/astray-both", "1");
	assert.deepEqual([(await atAnn.next()).body, (await atBob.next()).body], ["1", "1"]);
	bob.publish("/topic/astray-both", "2");
	assert.deepEqual([(await atAnn.next()).body, (await atBob.next()).body], ["2", "2"]);
	await ann.leave();
	await bob.leave();
});
