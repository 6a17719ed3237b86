/* Files through stock clients: tus-js-client for resumable uploads, fetch with FormData, and STOMP for the message. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import * as tus from "tus-js-client";
import { hasChatd, needs, startChatd } from "../lib/harness.mjs";
import { startS3 } from "../lib/s3.mjs";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };
const token = (name) => `token-of-${name}-long-enough`;
const PLUGINS = `  auth-static:
    users:
      - { login: alice, passcode: alice, name: Alice, token: ${token("alice")} }
      - { login: bob, passcode: bob, name: Bob, token: ${token("bob")} }
  upload: { types: [text/plain, application/pdf] }
`;

/* The files below a folder in which these bytes are. */
async function filesWith(dir, bytes) {
	const found = [];
	for (const entry of await readdir(dir, { withFileTypes: true })) {
		const at = path.join(dir, entry.name);
		if (entry.isDirectory()) {
			found.push(...(await filesWith(at, bytes)));
		} else if (entry.isFile() && (await readFile(at)).includes(bytes)) {
			found.push(at);
		}
	}
	return found;
}

/* As they are, in one file that grows; encrypted, each request's bytes in a piece of its own until all are there; such
 * pieces at an S3 server. */
for (const how of ["as they are", "encrypted", "at an S3 server"]) {
	describe(`upload, ${how}`, () => suite(how === "encrypted", how === "at an S3 server"));
}

function suite(encrypted, elsewhere) {
	let server;
	let dir;
	let s3;
	before(async () => {
		if (skip) {
			return;
		}
		dir = await mkdtemp(path.join(os.tmpdir(), "chatd-upload-"));
		const keys = path.join(dir, "keys");
		await writeFile(keys, `one ${randomBytes(32).toString("hex")}\n`, { mode: 0o600 });
		s3 = elsewhere ? await startS3() : null;
		const set = { "server.data_dir": dir, ...s3?.options };
		server = await startChatd({ plugins: PLUGINS + (encrypted ? `  encrypt: { keys: "file:${keys}" }\n` : ""), set });
	});
	after(async () => {
		await server?.stop();
		await s3?.stop();
		if (dir) {
			await rm(dir, { recursive: true, force: true });
		}
	});

	const as = (name) => ({ Authorization: `Bearer ${token(name)}` });
	const content = (size) => Buffer.concat([Buffer.from("%PDF-1.7\n"), randomBytes(size)]);

	function upload(data, options, until = Infinity) {
		return new Promise((resolve, reject) => {
			const up = new tus.Upload(data, {
				endpoint: `${server.url}/api/files/tus`,
				headers: as("alice"),
				retryDelays: [50, 100, 200, 400],
				metadata: { filename: "보고서.pdf", filetype: "application/pdf" },
				onError: reject,
				onSuccess: () => resolve(up),
				onProgress: (sent) => {
					if (sent >= until) {
						up.abort().then(() => resolve(up), reject);
					}
				},
				...options,
			});
			up.start();
		});
	}

	async function bytes(url, name = "alice") {
		const r = await fetch(url.replace("/tus/", "/"), { headers: as(name) });
		assert.equal(r.status, 200);
		return { r, data: Buffer.from(await r.arrayBuffer()) };
	}

	test("tus-js-client uploads in chunks", limit, async () => {
		const data = content(3 * 1024 * 1024);
		const up = await upload(data, { chunkSize: 700000 });
		const { r, data: got } = await bytes(up.url);
		assert.ok(got.equals(data));
		assert.match(r.headers.get("content-disposition"), /filename\*=UTF-8''%EB%B3%B4%EA%B3%A0%EC%84%9C\.pdf$/);
	});

	test("tus-js-client goes on after it was broken off, and the server killed", limit, async () => {
		const data = content(6 * 1024 * 1024);
		const first = await upload(data, { chunkSize: 512 * 1024 }, 2 * 1024 * 1024);
		const offset = async () => Number((await fetch(first.url, { method: "HEAD", headers: { ...as("alice"), "Tus-Resumable": "1.0.0" } })).headers.get("upload-offset"));
		const before = await offset();
		assert.ok(before > 0 && before < data.length, `${before} bytes are there`);
		const lies = async (where) => (await filesWith(where, data.subarray(1000, 1100))).length > 0;
		assert.equal(await lies(dir), !encrypted && !elsewhere, "readable where they lie");
		assert.equal(elsewhere && (await lies(s3.dir)), elsewhere, "at the S3 server");
		await server.restart(async () => {}, { hard: true });
		const there = await offset(); /* what was on its way when it was broken off may have come in after the first question */
		assert.ok(there >= before && there < data.length, `${there} bytes are there, ${before} were`);
		let began = null;
		const again = await upload(data, { uploadUrl: first.url, chunkSize: 900000, onChunkComplete: (size, sent) => (began ??= sent - size) });
		assert.equal(again.url, first.url);
		assert.equal(began, there, "what was there is not sent again");
		assert.ok((await bytes(again.url)).data.equals(data));
	});

	test("tus-js-client is told why it may not", limit, async () => {
		await assert.rejects(upload(Buffer.from("<!doctype html><html><script>1</script>"), { retryDelays: null }), /415.*TYPE_NOT_ALLOWED/s);
		await assert.rejects(upload(content(100), { headers: {}, retryDelays: null }), /401/);
		const up = await upload(content(100), {}, 1);
		await tus.Upload.terminate(up.url, { headers: as("alice") }).catch(() => {});
	});

	test("fetch with FormData", limit, async () => {
		const data = content(1024 * 1024), form = new FormData();
		form.append("note", "not wanted");
		form.append("file", new Blob([data], { type: "image/png" }), 'a "b".pdf');
		const r = await fetch(`${server.url}/api/files`, { method: "POST", headers: as("alice"), body: form });
		assert.equal(r.status, 201);
		const file = await r.json();
		assert.deepEqual([file.name, file.size, file.contentType], ['a "b".pdf', data.length, "application/pdf"]);
		assert.ok((await bytes(server.url + file.url)).data.equals(data));
		assert.equal((await fetch(server.url + file.url, { headers: as("bob") })).status, 404);
	});
}
