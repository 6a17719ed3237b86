/* SPDX-License-Identifier: Apache-2.0 */
/* The page as an application: what the first load weighs, how it is kept, that it opens without a network and can be
 * installed. */

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { hasChromium, person, withBrowser } from "../lib/browser.mjs";
import { hasChatd, needs } from "../lib/harness.mjs";

const skip = needs(hasChatd, hasChromium);
const limit = { timeout: 240000, skip };
const SCRIPT_AT_MOST = 65_000;
const ALL_SCRIPT_AT_MOST = 100_000;
const FIRST_LOAD_AT_MOST = 160_000;

/* The answer as it was sent: {status, headers, body}. */
async function ask(url, headers = {}) {
	const request = http.get(url, { headers, agent: false });
	const [answer] = await once(request, "response");
	const parts = await answer.toArray();
	return { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) };
}

describe("the page as an application", () => {
	let server;
	let browser;
	withBrowser(skip, { "auth-anonymous.devices": 0 }, (s, b) => {
		server = s;
		browser = b;
	});

	test("what the first load brings is compressed, lasts, and weighs little", limit, async () => {
		const answers = [];
		const ann = await person(browser, server, {
			locale: "ko-KR",
			prepare: (page) => page.on("response", (answer) => answers.push(answer)),
		});
		try {
			await ann.join("Ann");
			const seen = new Map();
			for (const answer of [...answers]) {
				const url = new URL(answer.url());
				if (url.pathname.startsWith("/api/") || url.protocol.startsWith("ws")) {
					continue;
				}
				assert.ok(!seen.has(url.pathname) || url.pathname.endsWith(".svg"), `${url.pathname} is asked for once`);
				const { responseBodySize } = await answer.request().sizes();
				seen.set(url.pathname, { size: responseBodySize, headers: await answer.allHeaders() });
			}
			let script = 0;
			let all = 0;
			for (const [name, { size, headers }] of seen) {
				all += size;
				script += name.endsWith(".js") ? size : 0;
				if (/\.(js|css|json)$|^\/$/.test(name) && size > 1000) {
					assert.equal(headers["content-encoding"], "gzip", name);
				}
				if (/\.(js|css|json)$/.test(name)) {
					assert.match(headers["cache-control"], /max-age=31536000, immutable/, name);
				}
			}
			assert.equal(seen.get("/").headers["cache-control"], "no-cache");
			assert.ok(seen.size > 10, `${seen.size} files`);
			assert.ok(script < SCRIPT_AT_MOST, `${script} bytes of script, compressed`);
			assert.ok(all < FIRST_LOAD_AT_MOST, `${all} bytes`);
			console.log(`first load: ${script} bytes of script, ${all} in all, ${seen.size} files`);
			ann.quiet();
		} finally {
			await ann.close();
		}
	});

	test("all there is of it is small: whatever is used, but for libsodium", limit, async () => {
		const text = (name) => fetch(`${server.url}/${name}`).then((answer) => answer.text());
		const [, shell] = (await text("sw-shell.js")).match(/^self\.SHELL = (.*);$/m);
		const files = [...JSON.parse(shell).files, "sw.js", "sw-push.js", "sw-shell.js"].filter((name) => name.endsWith(".js"));
		assert.ok(files.some((name) => /sockjs/.test(name)) && files.some((name) => /e2ee/.test(name)), files.join());
		let script = 0;
		for (const name of files) {
			script += (await ask(`${server.url}/${name}`, { "Accept-Encoding": "gzip" })).body.length;
		}
		assert.ok(script < ALL_SCRIPT_AT_MOST, `${script} bytes of script, compressed`);
		console.log(`all: ${script} bytes of script in ${files.length} files`);
	});

	test("a server that does not have a script yet is asked again", limit, async () => {
		const ann = await person(browser, server);
		try {
			let refused = 0;
			await ann.page.route(/\/js\/chunk-/, (route) => (refused++ ? route.continue() : route.fulfill({ status: 404, body: "" })));
			await ann.page.reload();
			await ann.join("Ann");
			assert.ok(refused > 1, "what was refused is asked for again");
			assert.equal(await ann.page.evaluate(() => sessionStorage.length), 0, "and counted anew the next time");
		} finally {
			await ann.close();
		}
	});

	test("compressed only for those who take it, each form with its own tag", limit, async () => {
		const page = await (await fetch(`${server.url}/`)).text();
		const [, main] = page.match(/src="(b-[0-9a-f]{16}\/js\/main\.js)"/);
		const plain = await ask(`${server.url}/${main}`, { "Accept-Encoding": "gzip;q=0" });
		const small = await ask(`${server.url}/${main}`, { "Accept-Encoding": "br, gzip" });
		assert.equal(plain.headers["content-encoding"], undefined);
		assert.equal(small.headers["content-encoding"], "gzip");
		assert.notEqual(plain.headers.etag, small.headers.etag);
		assert.equal(small.headers.vary, "Accept-Encoding");
		assert.equal(gunzipSync(small.body).toString(), plain.body.toString());
		const known = await ask(`${server.url}/${main}`, { "Accept-Encoding": "gzip", "If-None-Match": small.headers.etag });
		assert.equal(known.status, 304);
		/* A page of another build than the server's is given what is here, but must not keep it. */
		const other = await ask(`${server.url}/${main.replace(/b-[0-9a-f]+/, "b-0123456789abcdef")}`);
		assert.deepEqual([other.status, other.headers["cache-control"]], [200, "no-cache"]);
		assert.equal((await ask(`${server.url}/sw.js`)).headers["cache-control"], "no-cache");
	});

	test("opens without a network, with what was said lately, and sends later what is written now", limit, async () => {
		const ann = await person(browser, server, { serviceWorkers: "allow" });
		try {
			await ann.join("Ann");
			await ann.say("said before the tunnel");
			await ann.sees("said before the tunnel");
			await ann.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
			await ann.page.waitForFunction(() => localStorage.getItem("chatd.snapshot")?.includes("before the tunnel"));
			await ann.context.setOffline(true);
			await ann.page.reload();
			await ann.page.locator("#connection-text", { hasText: /offline|Trying again/ }).waitFor();
			await ann.sees("said before the tunnel", ".mine");
			assert.equal(await ann.page.textContent("#me-name"), "Ann");
			await ann.say("written in the tunnel");
			await ann.sees("written in the tunnel", '[data-status="pending"]');
			await ann.context.setOffline(false);
			await ann.online();
			await ann.sees("written in the tunnel", '[data-status="sent"]');
			await ann.sees("said before the tunnel");
			ann.quiet();
		} finally {
			await ann.close();
		}
	});

	test("who is forgotten here leaves nothing of what was said", limit, async () => {
		const ann = await person(browser, server);
		try {
			await ann.join("Ann");
			await ann.say("between us");
			await ann.page.waitForFunction(() => localStorage.getItem("chatd.snapshot")?.includes("between us"));
			await ann.page.click("#sign-out");
			await ann.page.click("#confirm-yes");
			await ann.page.waitForSelector("#welcome:not([hidden])");
			assert.equal(await ann.page.evaluate(() => JSON.stringify(localStorage).includes("between us")), false);
			ann.quiet();
		} finally {
			await ann.close();
		}
	});

	test("can be installed: a manifest with icons that are there, and a worker that answers", limit, async () => {
		const ann = await person(browser, server, { serviceWorkers: "allow" });
		try {
			const address = await ann.page.getAttribute("link[rel=manifest]", "href");
			const answer = await ask(`${server.url}/${address}`);
			assert.equal(answer.headers["content-type"], "application/manifest+json");
			const manifest = JSON.parse(answer.body);
			assert.equal(manifest.display, "standalone");
			assert.ok(manifest.name && manifest.start_url);
			for (const { src, sizes, type } of manifest.icons) {
				const icon = await ask(`${server.url}/${src}`);
				assert.deepEqual([icon.status, icon.headers["content-type"]], [200, type], src);
				if (type === "image/png") {
					const [width, height] = [icon.body.readUInt32BE(16), icon.body.readUInt32BE(20)];
					assert.equal(`${width}x${height}`, sizes, src);
				}
			}
			const has = (size, purpose) => manifest.icons.some((i) => i.sizes === size && (i.purpose ?? "any") === purpose);
			assert.ok(has("192x192", "any") && has("512x512", "any") && has("512x512", "maskable"));
			/* What Chromium itself finds missing. */
			const protocol = await ann.context.newCDPSession(ann.page);
			await ann.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
			const { errors } = await protocol.send("Page.getAppManifest");
			assert.deepEqual(errors, []);
			const { installabilityErrors } = await protocol.send("Page.getInstallabilityErrors");
			assert.deepEqual(installabilityErrors.filter((e) => e.errorId !== "in-incognito"), []);
			ann.quiet();
		} finally {
			await ann.close();
		}
	});
});
