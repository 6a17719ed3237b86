#!/usr/bin/env node
/* SPDX-License-Identifier: Apache-2.0 */
/* How long the page takes in Chromium, from the navigation to the first message of a conversation that is shown, what
 * that costs of the page's main thread, and what it weighs: median, least and most of some visits. Nothing is asserted.
 *
 *   tests/bench/page/run.mjs [VISITS]      with CHATD_BUILD, and node_modules of tests/e2e (tests/e2e/run installs them)
 */

import os from "node:os";
import { launch } from "../../e2e/lib/browser.mjs";
import { startChatd } from "../../e2e/lib/harness.mjs";

const visits = Number(process.argv[2] ?? 7);
const MESSAGES = 60;

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/* In the page: the time at which a message is first in it and has been painted. */
function watchFirst() {
	const look = () => {
		if (document.querySelector("#messages .message")) {
			requestAnimationFrame(() => (window.firstMessage = performance.now()));
		} else {
			requestAnimationFrame(look);
		}
	};
	look();
}

async function visit(context, url, weigh) {
	const page = await context.newPage();
	const answers = [];
	const protocol = await context.newCDPSession(page);
	await protocol.send("Performance.enable", { timeDomain: "threadTicks" });
	page.on("response", (answer) => answers.push(answer));
	await page.goto(url);
	await page.waitForFunction(() => window.firstMessage);
	const shown = await page.evaluate(() => window.firstMessage);
	const { metrics } = await protocol.send("Performance.getMetrics");
	const [task, run] = ["TaskDuration", "ScriptDuration"].map((name) => 1000 * metrics.find((m) => m.name === name).value);
	let bytes = 0;
	let script = 0;
	for (const answer of weigh ? [...answers] : []) {
		const { responseBodySize } = await answer.request().sizes();
		bytes += responseBodySize;
		script += answer.url().endsWith(".js") ? responseBodySize : 0;
	}
	await page.close();
	return { shown, task, run, bytes, script };
}

async function someoneWho(browser, url, options = {}) {
	const context = await browser.newContext(options);
	await context.addInitScript(watchFirst);
	const page = await context.newPage();
	await page.goto(url);
	await page.fill("#welcome-name", "Bench");
	await page.click("#welcome-join");
	await page.waitForSelector('#connection[data-state="online"]', { state: "attached" });
	return { context, page };
}

function print(what, visits, of, unit) {
	const numbers = visits.map((visit) => Math.round(visit[of]));
	console.log(`${what.padEnd(64)} ${median(numbers)} (${Math.min(...numbers)}..${Math.max(...numbers)}) ${unit}`);
}

const server = await startChatd({ config: "chat.yaml", set: { "auth-anonymous.devices": 0 } });
const browser = await launch();
try {
	const writer = await someoneWho(browser, server.url);
	for (let i = 0; i < MESSAGES; i++) {
		await writer.page.fill("#composer-input", `message ${i}`);
		await writer.page.press("#composer-input", "Enter");
	}
	await writer.page.waitForFunction((n) => document.querySelectorAll('#messages .message[data-status="sent"]').length >= n, MESSAGES);
	const state = await writer.context.storageState();
	await writer.context.close();
	/* A browser that knows who one is, and nothing else. */
	const known = { ...state, origins: state.origins.map((o) => ({ ...o, localStorage: o.localStorage.filter((i) => i.name !== "chatd.snapshot") })) };
	const cold = [];
	for (let i = 0; i < visits; i++) {
		const context = await browser.newContext({ storageState: known, serviceWorkers: "block" });
		await context.addInitScript(watchFirst);
		cold.push(await visit(context, server.url, true));
		await context.close();
	}
	const context = await browser.newContext({ storageState: state });
	await context.addInitScript(watchFirst);
	await visit(context, server.url, false);
	const warm = [];
	for (let i = 0; i < visits; i++) {
		warm.push(await visit(context, server.url, false));
	}
	await context.close();
	print("first visit: script", cold, "script", "bytes, compressed");
	print("first visit: all that is fetched", cold, "bytes", "bytes, compressed");
	print("first visit, nothing kept: to the first message", cold, "shown", "ms");
	print("  CPU of the main thread until then", cold, "task", "ms");
	print("  of it in scripts", cold, "run", "ms");
	print("later visit, shell and messages kept: to the first message", warm, "shown", "ms");
	print("  CPU of the main thread until then", warm, "task", "ms");
	console.log(`load average at the end: ${os.loadavg().map((n) => n.toFixed(1)).join(", ")}; ${os.cpus().length} cores`);
} finally {
	await browser.close();
	await server.stop();
}
