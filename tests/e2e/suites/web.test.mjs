/* The page as files: what is served, how, and that the vendored scripts are the published ones. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { hasChatd, needs, REPO, startChatd } from "../lib/harness.mjs";
import { fetchAll } from "../lib/http.mjs";

const WWW = path.join(REPO, "plugins/web/www");
const CLIENT = path.join(REPO, "sdk/client-js");
const skip = needs(hasChatd);
const limit = { timeout: 120000 };
const served = { ...limit, skip };

async function files(folder) {
	const found = [];
	for (const entry of await readdir(path.join(WWW, folder), { withFileTypes: true })) {
		const name = path.posix.join(folder, entry.name);
		found.push(...(entry.isDirectory() ? await files(name) : [name]));
	}
	return found;
}

const scriptsOf = async (folder) => (await readdir(folder)).filter((name) => name.endsWith(".js"));

describe("the page's files", () => {
	test("vendored scripts are byte for byte those of the pinned npm packages, as VENDOR.md says", limit, async () => {
		const table = await readFile(path.join(WWW, "vendor/VENDOR.md"), "utf8");
		const rows = [...table.matchAll(/^\| `([^`]+)` \| `([^`]+)` \| ([\d.]+) \| `([^`]+)` \|.*`([0-9a-f]{64})` \|$/gm)];
		const scripts = (await files("vendor")).filter((f) => f.endsWith(".js"));
		assert.deepEqual(rows.map((r) => `vendor/${r[1]}`).sort(), scripts.sort());
		const { dependencies } = JSON.parse(await readFile(path.join(REPO, "tests/e2e/package.json"), "utf8"));
		for (const [, file, name, version, inside, sum] of rows) {
			const ours = await readFile(path.join(WWW, "vendor", file));
			const theirs = await readFile(path.join(REPO, "tests/e2e/node_modules", name, inside));
			assert.ok(ours.equals(theirs), file);
			assert.equal(dependencies[name], version, name);
			assert.equal(createHash("sha256").update(ours).digest("hex"), sum, file);
			assert.ok((await readFile(path.join(WWW, "vendor", path.dirname(file), "LICENSE"))).length > 500);
		}
	});

	test("nothing that a strict policy refuses, and nothing from elsewhere", limit, async () => {
		const html = await readFile(path.join(WWW, "index.html"), "utf8");
		assert.doesNotMatch(html, /\sstyle=|\son[a-z]+=|<style|<script(?![^>]*\ssrc=)|javascript:|https?:\/\//i);
		const library = (await scriptsOf(CLIENT)).map((name) => path.join(CLIENT, name));
		for (const file of (await files("js")).concat(await files("css")).map((name) => path.join(WWW, name)).concat(library)) {
			const text = await readFile(file, "utf8");
			assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|@import|url\(/, file);
		}
	});
});

describe("the page as served", () => {
	let server;
	before(async () => (server = skip ? null : await startChatd({ config: "chat.yaml" })));
	after(() => server?.stop());

	test("every file, with its type, policy and ETag; 304 when it is known", served, async () => {
		const types = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
		const library = (await scriptsOf(CLIENT)).map((name) => `client/${name}`);
		assert.ok(library.includes("client/index.js"));
		/* Our modules are served as the build has joined them. */
		const shell = (await fetchAll(`${server.url}/sw-shell.js`)).text;
		const joined = shell.match(/"b-[0-9a-f]{16}\/js\/[^"]+"/g).map((name) => name.slice(1, -1));
		assert.ok(joined.some((name) => name.endsWith("/js/main.js")) && joined.length > 5, joined.join());
		const others = (await files(".")).filter((name) => !name.startsWith("js/"));
		for (const file of ["", ...library, ...joined, ...others]) {
			const extension = file === "" ? "html" : file.split(".").pop();
			if (!types[extension]) {
				continue;
			}
			const url = `${server.url}/${file}`;
			const answer = await fetchAll(url);
			assert.equal(answer.status, 200, file);
			assert.ok(answer.headers["content-type"].startsWith(types[extension]), `${file}: ${answer.headers["content-type"]}`);
			assert.equal(answer.headers["x-content-type-options"], "nosniff", file);
			assert.ok(answer.headers.etag, file);
			const known = await fetchAll(url, { headers: { "If-None-Match": answer.headers.etag } });
			assert.deepEqual([known.status, known.text], [304, ""], file);
			if (extension === "html") {
				const policy = answer.headers["content-security-policy"];
				assert.match(policy, /default-src '(self|none)'/);
				assert.match(policy, /script-src 'self'/);
				assert.match(policy, /frame-ancestors 'none'/);
				assert.doesNotMatch(policy, /unsafe/);
			}
		}
	});

	test("paths that lead out of the folder, or nowhere, are 404 or 400", served, async () => {
		for (const evil of ["/../meson.build", "/%2e%2e/meson.build", "/js/..%2f..%2fmeson.build", "/js/%00main.js", "/no-such-file", "/client/README.md", "/client/package.json", "/js/", "/.hidden"]) {
			const answer = await raw(server.http, evil);
			assert.match(answer, /^HTTP\/1\.1 (400|403|404) /, evil);
			assert.doesNotMatch(answer, /shared_module|project\(/, evil);
		}
	});
});

/* A GET whose path no client library tidies up. */
async function raw(address, target) {
	const net = await import("node:net");
	const [host, port] = address.split(":");
	return new Promise((resolve, reject) => {
		const socket = net.connect({ host, port: Number(port) });
		let text = "";
		socket.setEncoding("utf8");
		socket.on("data", (chunk) => (text += chunk));
		socket.on("end", () => resolve(text));
		socket.on("error", reject);
		socket.write(`GET ${target} HTTP/1.1\r\nHost: ${address}\r\nConnection: close\r\n\r\n`);
	});
}
