/* SPDX-License-Identifier: Apache-2.0 */
/* Files that browsers get from the S3 server itself (presigned), in a page whose policy nobody has written by hand. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { comesTrue, hasChromium, launch, person } from "../lib/browser.mjs";
import { api, CHEAP_HASHES, member } from "../lib/chat.mjs";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { png, wav } from "../lib/media.mjs";
import { startS3 } from "../lib/s3.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 180000, skip };

const file = (name, mimeType, buffer) => ({ name, mimeType, buffer });

describe("files at an S3 server, presigned", () => {
	let s3;
	let server;
	let browser;
	let ann;
	let account;

	before(async () => {
		if (skip) {
			return;
		}
		s3 = await startS3();
		const presigned = { "upload.presigned": true, "upload.presigned_uploads": true };
		server = await startChatd({ set: { ...CHEAP_HASHES, "auth-anonymous.devices": 0, ...s3.options, ...presigned } });
		account = await member(server, "Ann Arbor");
		browser = await launch();
		ann = await person(browser, server);
		await ann.logIn(account);
		await ann.write(account.userId);
	});
	after(async () => {
		try {
			/* What the browser says of an answer that the page shows to people. */
			ann?.quiet(/status of 503/);
		} finally {
			await browser?.close();
			await server?.stop();
			await s3?.stop();
		}
	});

	const shows = (selector) => ann.page.waitForFunction((s) => document.querySelector(s)?.naturalWidth > 0, selector);
	/* Requests for bytes of files that came from the page. */
	const fetched = () => s3.seen.filter(({ path, headers }) => path.includes("X-Amz-Signature") && /Chrome/.test(headers["user-agent"]));

	async function send(...files) {
		await ann.page.setInputFiles("#attach-input", files);
		await ann.page.waitForFunction((n) => document.querySelectorAll("#tray [data-state=ready]").length === n, files.length);
		await ann.page.press("#composer-input", "Enter");
	}

	test("the policy names the S3 server, where it is needed and nowhere else", limit, async () => {
		const policy = (await fetch(server.url)).headers.get("content-security-policy");
		const has = policy.split("; ").filter((part) => part.includes(s3.url));
		assert.deepEqual(has.map((part) => part.split(" ")[0]), ["img-src", "media-src", "connect-src"]);
		const { status, headers } = await fetch(server.url, { headers: { "If-None-Match": (await fetch(server.url)).headers.get("etag") } });
		assert.deepEqual([status, headers.get("content-security-policy")], [304, policy]);
	});

	test("a picture, a sound and a paper", limit, async () => {
		await send(file("red.png", "image/png", png(1200, 800, [255, 0, 0])), file("tone.wav", "audio/wav", wav(1)), file("notes.txt", "text/plain", Buffer.from("hello\n")));
		await shows(".file-picture img");
		await ann.page.waitForFunction(() => document.querySelector(".file-audio")?.duration > 0.9);
		assert.ok(fetched().length > 0, "the sound came from the S3 server");
		const saved = ann.page.waitForEvent("download");
		await ann.page.locator(".file-row", { hasText: "notes.txt" }).click();
		const download = await saved;
		assert.equal(download.suggestedFilename(), "notes.txt");
		let text = "";
		for await (const piece of await download.createReadStream()) {
			text += piece;
		}
		assert.equal(text, "hello\n");
		const opened = ann.context.waitForEvent("page");
		await ann.page.locator(".file-picture").click();
		const other = await opened;
		await other.waitForFunction(() => document.images[0]?.naturalWidth === 1200);
		assert.ok(other.url().startsWith(`${s3.url}/chat/objects/`), other.url());
		await other.close();
		assert.ok(fetched().every(({ headers }) => !headers.authorization), "no credentials of ours");
	});

	/* As a client of its own would: with its token, and once with a header that the S3 server is asked about first. */
	test("fetch() follows the redirect, and takes no token along", limit, async () => {
		const url = await ann.page.locator(".file-row", { hasText: "notes.txt" }).getAttribute("data-act");
		const get = (more) =>
			ann.page.evaluate(
				async ([path, headers]) => {
					/* Two addresses that are signed within one second are the same, and what came from there is kept. */
					const answer = await fetch(path, { headers, cache: "no-store" });
					return [answer.status, answer.redirected, await answer.text()];
				},
				[`/api/files/${url.slice("file-".length)}`, { Authorization: `Bearer ${account.accessToken}`, ...more }],
			);
		s3.seen.length = 0;
		assert.deepEqual(await get({}), [200, true, "hello\n"]);
		assert.deepEqual(fetched().map((r) => [r.method, r.headers.authorization, r.headers.origin]), [["GET", undefined, server.url]]);
		s3.seen.length = 0;
		assert.deepEqual(await get({ "X-Of-A-Test": "1" }), [200, true, "hello\n"]);
		const [asked, got] = fetched();
		assert.deepEqual([asked.method, asked.headers["access-control-request-headers"]], ["OPTIONS", "x-of-a-test"]);
		assert.deepEqual([got.method, got.headers["x-of-a-test"], got.headers.authorization], ["GET", "1", undefined]);
	});

	test("what is put there straight from the page", limit, async () => {
		const file = await ann.page.evaluate(async (token) => {
			const data = new TextEncoder().encode("straight there\n");
			const ask = (path, body) => fetch(path, { method: "POST", headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" }, body: JSON.stringify(body) });
			const wish = await (await ask("/api/files/direct", { name: "straight.txt", size: data.length })).json();
			const put = await fetch(wish.url, { method: wish.method, body: data });
			return [put.status, await (await ask(wish.complete, {})).json()];
		}, account.accessToken);
		assert.equal(file[0], 200);
		assert.deepEqual([file[1].name, file[1].size, file[1].contentType], ["straight.txt", 15, "text/plain"]);
	});

	test("when it is away the page says so, and when it is back it goes on", limit, async () => {
		const row = ann.page.locator(".file-row", { hasText: "notes.txt" });
		const path = `/api/files/${(await row.getAttribute("data-act")).slice("file-".length)}`;
		await s3.away();
		/* Whoever has answered a moment ago is taken to be there. */
		await comesTrue(async () => (await api(server, account, "GET", path)).status === 503, "the server knows");
		const told = ann.glimpse("#toasts .toast", "cannot get at this file right now");
		await row.click();
		await told;
		assert.equal(ann.page.url().split("#")[0], `${server.url}/`);
		await ann.page.reload();
		await ann.online();
		await ann.page.locator(".file-player", { hasText: "cannot get at this file right now" }).waitFor();
		await ann.page.setInputFiles("#attach-input", [file("late.txt", "text/plain", Buffer.from("late\n"))]);
		await ann.page.locator("#tray [data-state=busy]").waitFor();
		await s3.back();
		await ann.page.locator("#tray [data-state=ready]").waitFor();
		const saved = ann.page.waitForEvent("download");
		await row.click();
		await saved;
	});
});
