/* Starts and stops chatd for a test file. Every server is one that the test started itself, on ports that the kernel
 * chose, and is ended by its pid. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const REPO = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const BUILD = path.resolve(process.env.CHATD_BUILD ?? path.join(REPO, "build"));
/* Another engine behind chatd.http/1, such as http-lws. */
export const ENGINE = process.env.CHATD_HTTP_ENGINE ?? "";
export const WORKERS = process.env.CHATD_WORKERS ?? "1";

const START_MS = 60000;
const STOP_MS = 60000;
const LAST_LINES = 24; /* of what it said: a report shows so many */
const REPORT = /(ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error: )/;

const binary = path.join(BUILD, "bin", "chatd");

/* `skip` option for node:test: false, or the reason. In CI nothing is skipped: what is missing fails. */
export function needs(...things) {
	const missing = things.filter(([there]) => !there).map(([, what]) => `${what} is missing`);
	return missing.length > 0 && process.env.CI !== "true" ? missing.join(", ") : false;
}

export const hasChatd = [existsSync(binary), `${binary} (build first, or set CHATD_BUILD)`];

/* Options: config (a file of config/, default chat.yaml; or its path), plugins (YAML to put below its plugins), set
 * ({"key.path": value}), workers, limits (true: those of chat.yaml hold). Returns a running Server. */
/* A configuration with these plugins, in the place of others of the same names. */
export function putPlugins(text, block) {
	const names = [...block.matchAll(/^ {2}([a-z][a-z0-9-]*):/gm)].map((m) => `  ${m[1]}:`);
	let skip = false;
	const kept = text.split("\n").filter((line) => {
		if (/^ {2}\S/.test(line)) {
			skip = names.some((n) => line.startsWith(n));
		}
		return !skip;
	});
	return `${kept.join("\n")}\n${block}`;
}

export async function startChatd(options = {}) {
	const server = new Server(options);
	await server.start();
	return server;
}

class Server {
	#options;
	#child = null;
	#exited = null;
	#stderr = "";
	#dir = "";
	#exit = null;

	constructor(options) {
		this.#options = options;
	}

	/* host:port of the first HTTP listener */
	http = "";
	tcp = "";
	ready = null;

	get url() {
		return `http://${this.http}`;
	}

	get wsUrl() {
		return `ws://${this.http}/ws-chat`;
	}

	get log() {
		return this.#stderr;
	}

	/* Where its database is. */
	get dataDir() {
		return this.#dir;
	}

	get tcpPort() {
		return Number(this.tcp.split(":").pop());
	}

	async start() {
		this.#dir ||= await mkdtemp(path.join(os.tmpdir(), "chatd-e2e-"));
		const readyFile = path.join(this.#dir, "ready.json");
		await rm(readyFile, { force: true });
		const set = {
			"http.listen": this.http || "127.0.0.1:0",
			...(ENGINE && { "http.plugin": ENGINE }),
			"tcp.listen": this.tcp || "127.0.0.1:0",
			"server.data_dir": this.#dir,
			"server.drain_grace": "0s",
			"server.workers": this.#options.workers ?? WORKERS,
			...this.#options.set,
		};
		const args = ["-c", await this.#config(), "--ready-file", readyFile];
		for (const [key, value] of Object.entries(set)) {
			args.push("--set", `${key}=${value}`);
		}
		this.#stderr = "";
		this.#exit = null;
		this.#child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
		for (const stream of [this.#child.stdout, this.#child.stderr]) {
			stream.setEncoding("utf8");
			stream.on("data", (text) => (this.#stderr += text));
		}
		this.#exited = once(this.#child, "close").then(
			([code, signal]) => (this.#exit = { code, signal }),
			(error) => (this.#exit = { error: error.message }) /* it could not even be started */,
		);
		await this.#waitReady(readyFile);
	}

	async #config() {
		const shipped = path.resolve(REPO, "config", this.#options.config ?? "chat.yaml");
		let text = await readFile(shipped, "utf8");
		if (/^ {2}limit-rate:/m.test(text) && !this.#options.limits) {
			text = putPlugins(text, "  limit-rate: { enabled: false }\n");
		}
		text = putPlugins(text, this.#options.plugins ?? "");
		const own = path.join(this.#dir, "config.yaml");
		await writeFile(own, text);
		return own;
	}

	async #waitReady(readyFile) {
		const deadline = Date.now() + START_MS;
		while (Date.now() < deadline) {
			if (this.#exit) {
				throw new Error(`chatd ended at start (${JSON.stringify(this.#exit)}):\n${this.#stderr.split("\n").slice(-LAST_LINES).join("\n")}`);
			}
			const text = await readFile(readyFile, "utf8").catch(() => "");
			if (text.trim().endsWith("}")) {
				this.ready = JSON.parse(text);
				this.http = this.ready.http?.[0] ?? "";
				this.tcp = this.ready.tcp?.[0] ?? "";
				return;
			}
			await sleep(20);
		}
		this.kill();
		throw new Error(`chatd wrote no ready file within ${START_MS} ms:\n${this.#stderr}`);
	}

	kill() {
		this.#child?.kill("SIGKILL");
	}

	/* SIGTERM, and it must end well: exit 0, nothing from a sanitizer. */
	async #end() {
		if (this.#exit) {
			throw new Error(`chatd had ended by itself (${JSON.stringify(this.#exit)}):\n${this.#stderr.slice(-6000)}`);
		}
		this.#child.kill("SIGTERM");
		const timer = setTimeout(() => this.kill(), STOP_MS);
		await this.#exited;
		clearTimeout(timer);
		if (REPORT.test(this.#stderr)) {
			throw new Error(`a sanitizer reported:\n${this.#stderr.slice(-12000)}`);
		}
		if (this.#exit.code !== 0) {
			throw new Error(`chatd did not end with 0 on SIGTERM (${JSON.stringify(this.#exit)}):\n${this.#stderr.slice(-6000)}`);
		}
	}

	/* Same ports and data afterwards. `whileDown` runs between. `hard`: killed, as by a power cut. */
	async restart(whileDown = async () => {}, { hard = false } = {}) {
		if (hard) {
			this.kill();
			await this.#exited;
		} else {
			await this.#end();
		}
		await whileDown();
		await this.start();
	}

	async stop() {
		try {
			await this.#end();
		} finally {
			await rm(this.#dir, { recursive: true, force: true });
		}
	}
}
