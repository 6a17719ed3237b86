/* SPDX-License-Identifier: Apache-2.0 */
/* A server that speaks S3, npm's s3rver, in a process of its own; in front of it a proxy on an origin of its own, which keeps
 * what was asked and can go away. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const PROGRAM = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../node_modules/.bin/s3rver");
const START_MS = 60000;

async function freePort() {
	const server = net.createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address();
	server.close();
	await once(server, "close");
	return port;
}

/* What pages of other origins may do there. */
const rules = (methods, headers) =>
	`<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>${methods.map((m) => `<AllowedMethod>${m}</AllowedMethod>`).join("")}` +
	`${headers.map((h) => `<AllowedHeader>${h}</AllowedHeader>`).join("")}</CORSRule></CORSConfiguration>`;

export async function startS3() {
	const s3 = new S3();
	await s3.start();
	return s3;
}

class S3 {
	#child;
	#port;
	#proxy;
	#address = 0; /* the proxy's port, which stays */
	#sockets = new Set();

	dir; /* where its objects lie */
	seen = []; /* {method, path, headers} */

	get url() {
		return `http://127.0.0.1:${this.#proxy.address().port}`;
	}

	/* What chatd's plugin upload needs to know of it. */
	get options() {
		const own = { backend: "s3", s3_endpoint: this.url, s3_bucket: "chat", s3_key: "S3RVER", s3_secret: "S3RVER" };
		return Object.fromEntries(Object.entries(own).map(([key, value]) => [`upload.${key}`, value]));
	}

	async start() {
		this.dir = await mkdtemp(path.join(os.tmpdir(), "chatd-e2e-s3-"));
		this.#port = await freePort();
		const cors = path.join(this.dir, "cors.xml");
		await writeFile(cors, rules(["GET", "PUT"], ["x-of-a-test", "content-type"]));
		const where = ["-d", path.join(this.dir, "data"), "-a", "127.0.0.1", "-p", String(this.#port)];
		this.#child = spawn(process.execPath, [PROGRAM, ...where, "-s", "--no-vhost-buckets", "--configure-bucket", "chat", cors], { stdio: "ignore" });
		for (const end = Date.now() + START_MS; !(await this.#answers()); await sleep(50)) {
			if (Date.now() > end || this.#child.exitCode !== null) {
				throw new Error("s3rver does not start");
			}
		}
		this.#proxy = http.createServer((request, response) => this.#pass(request, response));
		this.#proxy.on("connection", (socket) => {
			this.#sockets.add(socket);
			socket.on("close", () => this.#sockets.delete(socket));
		});
		await this.back();
	}

	#answers() {
		return new Promise((resolve) => {
			const socket = net.connect(this.#port, "127.0.0.1", () => resolve(true) || socket.destroy());
			socket.on("error", () => resolve(false));
		});
	}

	#pass(request, response) {
		const { method, url, headers } = request;
		this.seen.push({ method, path: url, headers });
		const onward = http.request({ port: this.#port, host: "127.0.0.1", method, path: url, headers }, (answer) => {
			response.writeHead(answer.statusCode, answer.headers);
			answer.pipe(response);
		});
		onward.on("error", () => response.destroy());
		response.on("close", () => onward.destroy());
		request.pipe(onward);
	}

	/* Nobody listens there. */
	async away() {
		this.#address = this.#proxy.address().port;
		const closed = once(this.#proxy, "close");
		this.#proxy.close();
		this.#sockets.forEach((socket) => socket.destroy());
		await closed;
	}

	async back() {
		this.#proxy.listen(this.#address, "127.0.0.1");
		await once(this.#proxy, "listening");
	}

	async stop() {
		if (this.#proxy?.listening) {
			await this.away();
		}
		if (this.#child?.exitCode === null) {
			const closed = once(this.#child, "close");
			this.#child.kill();
			await closed;
		}
		await rm(this.dir, { recursive: true, force: true });
	}
}
