/* Tokens, each way that a stock client can pass one: auth-jwt beside auth-anonymous and auth-static. The tokens are made
 * here, by Node's crypto. */

import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";
import { guest } from "../lib/chat.mjs";
import { hasChatd, needs, putPlugins, REPO, startChatd } from "../lib/harness.mjs";
import { fetchAll } from "../lib/http.mjs";
import { SockJS, StompUser, transports } from "../lib/stomp.mjs";

const skip = needs(hasChatd);
const limit = { timeout: 180000, skip };
const SECRET = "this-secret-is-shared-with-the-test-and-long-enough-for-hs384";

const b64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const seconds = () => Math.floor(Date.now() / 1000);

/* Ours: of ann unless said otherwise. */
function token(claims = {}, header = {}, secret = SECRET) {
	const all = { iss: "chatd", aud: "chatd", sub: "ann", type: "access", iat: seconds(), exp: seconds() + 600, ...claims };
	const input = `${b64({ alg: "HS384", kid: "k1", typ: "JWT", ...header })}.${b64(all)}`;
	return `${input}.${createHmac("sha384", secret).update(input).digest("base64url")}`;
}

/* Somebody else's login service: keys at a URL, and how often they were fetched. */
class Issuer {
	fetched = 0;
	#keys = new Map();
	#server = http.createServer((req, res) => {
		this.fetched++;
		const keys = [...this.#keys].map(([kid, k]) => ({ ...k.publicKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" }));
		res.end(JSON.stringify({ keys }));
	});

	async open() {
		this.#server.listen(0, "127.0.0.1");
		await once(this.#server, "listening");
		this.url = `http://127.0.0.1:${this.#server.address().port}/jwks`;
	}

	add(kid) {
		this.#keys.set(kid, generateKeyPairSync("rsa", { modulusLength: 2048 }));
	}

	token(kid, claims = {}) {
		const all = { iss: "https://login.example", aud: "chat", sub: "eva@example.org", name: "Eva", exp: seconds() + 600, ...claims };
		const input = `${b64({ alg: "RS256", kid })}.${b64(all)}`;
		return `${input}.${sign("sha256", Buffer.from(input), this.#keys.get(kid).privateKey).toString("base64url")}`;
	}

	close() {
		this.#server.closeAllConnections?.();
		this.#server.close();
	}
}

describe("jwt", () => {
	let dir, issuer, server;

	const config = (more, secret) => `
  auth-anonymous: { devices: 0 }
  auth-static:
    users:
      - { login: ann, passcode: a-password-of-ann, token: a-static-token-of-ann }
      - { login: bob, passcode: a-password-of-bob }
  auth-refresh: {}
  auth-jwt:
    keys: [{ kid: k1, alg: HS384, key: "file:${secret}" }]
    jwks_min_refresh: 500ms
    issuers:
      - { issuer: "https://login.example", audience: chat, algorithms: [RS256], jwks_url: "${issuer.url}" }
${more}`;

	async function start(more = "", set = {}, secret = path.join(dir, "secret")) {
		const yaml = await readFile(path.join(REPO, "config/chat.yaml"), "utf8");
		const file = path.join(dir, `chat-${Math.random().toString(36).slice(2)}.yaml`);
		await writeFile(file, putPlugins(yaml, config(more, secret)));
		const started = await startChatd({ config: file, set });
		/* auth-static makes its accounts once the workers run */
		for (let i = 0; (await rest({ Authorization: `Bearer ${token()}` }, "", started)).status !== 200; i++) {
			assert.ok(i < 1200, "ann has no account");
			await sleep(50);
		}
		return started;
	}

	before(async () => {
		if (skip) return;
		dir = await mkdtemp(path.join(os.tmpdir(), "chatd-jwt-"));
		issuer = new Issuer();
		issuer.add("r1");
		await issuer.open();
		await writeFile(path.join(dir, "secret"), SECRET, { mode: 0o600 });
		server = await start();
	});
	after(async () => {
		await server?.stop();
		issuer?.close();
		if (dir) await rm(dir, { recursive: true });
	});

	const by = (headers, more = {}) => StompUser.connect({ url: server.wsUrl, headers, ...more });
	const overUrl = (base, transport, query) => () => new SockJS(`${base}/ws-chat?token=${query}`, null, { transports: [transport] });
	const webSocket = (base, query) => () => new WebSocket(`${base.wsUrl}?token=${query}`, ["v12.stomp"]);
	const rest = (headers, query = "", at = server) => fetchAll(`${at.url}/api/chat/rooms${query}`, { headers });

	async function ticket(jwt, base = server) {
		const answer = await fetchAll(`${base.url}/api/auth/ws-ticket`, { method: "POST", headers: { Authorization: `Bearer ${jwt}` } });
		assert.equal(answer.status, 200, answer.text);
		assert.equal(answer.json.expiresIn, 30);
		return answer.json.ticket;
	}

	/* ---- the ways in ---- */

	test("CONNECT with Authorization, and with passcode", limit, async () => {
		for (const headers of [{ Authorization: `Bearer ${token()}` }, { authorization: `bearer ${token()}` }, { passcode: token() }]) {
			const user = await by(headers);
			assert.equal(user.id, "ann");
			await user.leave();
		}
	});

	test("the request's own Authorization, alone and beside one of the frame", limit, async () => {
		const factory = (jwt) => () => new WebSocket(server.wsUrl, ["v12.stomp"], { headers: { Authorization: `Bearer ${jwt}` } });
		const alone = await StompUser.connect({ factory: factory(token()) });
		assert.equal(alone.id, "ann");
		await alone.leave();
		const both = await StompUser.connect({ factory: factory(token()), headers: { Authorization: `Bearer ${token({ jti: "2" })}` } });
		assert.equal(both.id, "ann");
		await both.leave();
		await assert.rejects(StompUser.connect({ factory: factory(token({ sub: "bob" })), headers: { Authorization: `Bearer ${token()}` } }), /conflicting/);
		await assert.rejects(StompUser.connect({ factory: factory(token({ type: "refresh" })), headers: { Authorization: `Bearer ${token()}` } }), /Access refused/);
	});

	test("a ticket in the URL of a WebSocket: once", limit, async () => {
		const one = await ticket(token());
		const user = await StompUser.connect({ factory: webSocket(server, one) });
		assert.equal(user.id, "ann");
		await assert.rejects(StompUser.connect({ factory: webSocket(server, one) }), /ERROR|1008/);
		await user.leave();
	});

	for (const transport of transports) {
		test(`a ticket in the URL of SockJS over ${transport}: one session, however many requests`, limit, async () => {
			const one = await ticket(token());
			const user = await StompUser.connect({ factory: overUrl(server.url, transport, one) });
			assert.equal(user.id, "ann");
			const inbox = await user.events("/user/queue/messages");
			for (let i = 0; i < 3; i++) {
				await user.send("/app/chat.send", { to: "ann", content: `${transport} ${i}` });
				assert.equal((await inbox.next()).content, `${transport} ${i}`);
			}
			await assert.rejects(StompUser.connect({ factory: overUrl(server.url, transport, one) }), /ERROR|1008|4001/);
			await user.leave();
		});
	}

	test("one ticket, twenty sessions at the same moment: one gets in", limit, async () => {
		const one = await ticket(token());
		const all = await Promise.allSettled(Array.from({ length: 20 }, () => StompUser.connect({ factory: webSocket(server, one) })));
		const open = all.filter((r) => r.status === "fulfilled");
		assert.equal(open.length, 1);
		await open[0].value.leave();
	});

	test("REST takes a bearer, of any plugin, and no token or ticket in the URL", limit, async () => {
		assert.equal((await rest({ Authorization: `Bearer ${token()}` })).status, 200);
		assert.equal((await rest({ Authorization: "Bearer a-static-token-of-ann" })).status, 200);
		assert.equal((await rest({ Authorization: `Bearer ${(await guest(server)).accessToken}` })).status, 200);
		for (const query of [token(), await ticket(token())]) {
			const answer = await rest({}, `?token=${query}`);
			assert.deepEqual([answer.status, answer.json.code], [401, "TOKEN_IN_URL"]);
		}
	});

	test("R05: a token in the URL is refused unless url_token is legacy, then stock Spring clients work", limit, async () => {
		await assert.rejects(StompUser.connect({ factory: webSocket(server, token()) }), /ticket/);
		const legacy = await start("    url_token: legacy");
		try {
			for (const factory of [webSocket(legacy, token()), ...transports.map((t) => overUrl(legacy.url, t, token()))]) {
				const user = await StompUser.connect({ factory });
				assert.equal(user.id, "ann");
				await user.send("/app/chat.send", { to: "ann", content: "x" });
				await user.leave();
			}
			await assert.rejects(StompUser.connect({ factory: webSocket(legacy, token({ type: "refresh" })) }), /ERROR|1008/);
		} finally {
			await legacy.stop();
		}
	});

	/* ---- bad ones ---- */

	test("R02, R03, H130 to H137: what is bad refuses everywhere, with one answer", limit, async () => {
		const good = token();
		const bad = {
			refresh: token({ type: "refresh" }),
			none: `${b64({ alg: "none" })}.${good.split(".")[1]}.`,
			"other key": token({}, {}, `${SECRET}!`),
			kid: token({}, { kid: "../../etc/passwd" }),
			jku: token({}, { jku: issuer.url }),
			crit: token({}, { crit: ["b64"], b64: false }),
			audience: token({ aud: "other" }),
			issuer: token({ iss: "https://evil.example" }),
			"exp float": token({ exp: seconds() + 600.5 }),
			"no exp": token({ exp: undefined }),
			nbf: token({ nbf: seconds() + 3600 }),
			"iat tomorrow": token({ iat: seconds() + 86400 }),
			nobody: token({ sub: "nobody-at-all" }),
			bent: good.slice(0, -4) + (good.endsWith("AAAA") ? "BBBB" : "AAAA"),
			padded: `${good}=`,
			cut: good.slice(0, -10),
		};
		const bodies = new Set();
		for (const [name, jwt] of Object.entries(bad)) {
			const answer = await rest({ Authorization: `Bearer ${jwt}` });
			assert.equal(answer.status, 401, name);
			assert.equal(answer.json.code, "INVALID_TOKEN", name);
			bodies.add(answer.json.detail);
			await assert.rejects(by({ Authorization: `Bearer ${jwt}` }), /Access refused/, name);
			await assert.rejects(by({ passcode: jwt }), /Access refused/, name);
		}
		assert.equal(bodies.size, 1);
	});

	test("an expired one says so", limit, async () => {
		const old = token({ exp: seconds() - 31 });
		assert.equal((await rest({ Authorization: `Bearer ${old}` })).json.code, "TOKEN_EXPIRED");
		await assert.rejects(by({ Authorization: `Bearer ${old}` }), /expired/);
		const leeway = await by({ Authorization: `Bearer ${token({ exp: seconds() - 10 })}` });
		await leeway.leave();
	});

	test("R01: a userId header chooses nobody", limit, async () => {
		const user = await by({ Authorization: `Bearer ${token()}`, userId: "bob", user: "bob" });
		assert.equal(user.id, "ann");
		await user.leave();
	});

	test("R06: a page of another origin gets neither a socket nor a ticket", limit, async () => {
		const headers = { Origin: "https://evil.example", Authorization: `Bearer ${token()}` };
		const answer = await fetchAll(`${server.url}/api/auth/ws-ticket`, { method: "POST", headers });
		assert.equal(answer.status, 403);
		const socket = new WebSocket(`${server.wsUrl}?token=${await ticket(token())}`, ["v12.stomp"], { headers: { Origin: "https://evil.example" } });
		const [refused] = await Promise.race([once(socket, "unexpected-response").then(([, res]) => [res.statusCode]), once(socket, "open").then(() => [101])]);
		assert.equal(refused, 403);
		socket.on("error", () => {});
		socket.terminate();
	});

	/* ---- foreign issuers ---- */

	test("a foreign token logs in; its sub maps to an id of ours, the same each time", limit, async () => {
		const ids = new Set();
		for (let i = 0; i < 2; i++) {
			const user = await by({ Authorization: `Bearer ${issuer.token("r1")}` });
			ids.add(user.id);
			await user.leave();
		}
		assert.equal(ids.size, 1);
		assert.match([...ids][0], /^u_[0-9a-f]{32}$/);
		assert.equal((await rest({ Authorization: `Bearer ${issuer.token("r1", { aud: "mail" })}` })).status, 401);
		/* who was here before is nobody's to claim */
		assert.equal((await rest({ Authorization: `Bearer ${issuer.token("r1", { sub: "ann" })}` })).status, 401);
	});

	test("a key that is new is fetched, once for all who come; unknown ones are asked for no more often than allowed", limit, async () => {
		await sleep(600);
		issuer.add("r2");
		const was = issuer.fetched;
		const many = await Promise.all(Array.from({ length: 8 }, () => rest({ Authorization: `Bearer ${issuer.token("r2")}` })));
		assert.deepEqual([...new Set(many.map((a) => a.status))], [200]);
		assert.equal(issuer.fetched, was + 1);
		const unknown = issuer.token("r1").replace(/^[^.]+/, b64({ alg: "RS256", kid: "r9" }));
		for (let i = 0; i < 20; i++) {
			assert.equal((await rest({ Authorization: `Bearer ${unknown}` })).status, 401);
		}
		assert.ok(issuer.fetched <= was + 20, `${issuer.fetched - was} fetches`);
	});

	/* ---- in-band refresh ---- */

	test("/app/auth.refresh: a newer token of the same user renews, of guests too; others are soft errors", limit, async () => {
		const user = await by({ Authorization: `Bearer ${token({ exp: seconds() + 300 })}` });
		const soft = await user.events("/user/queue/errors");
		const receipt = await user.send("/app/auth.refresh", { token: token({ exp: seconds() + 900 }) });
		assert.ok(Number(receipt.headers.expiresIn) > 900 && Number(receipt.headers.expiresIn) <= 930);
		assert.ok(Math.abs(Number(receipt.headers.expires) - Date.now() - 930000) < 30000);
		for (const [body, code] of [
			[{ token: token({ sub: "bob" }) }, "OTHER_USER"],
			[{ token: token({ type: "refresh" }) }, "INVALID_TOKEN"],
			[{ accessToken: token({ exp: seconds() - 60 }) }, "TOKEN_EXPIRED"],
			[{}, "VALIDATION"],
		]) {
			user.post("/app/auth.refresh", body);
			assert.equal((await soft.next()).code, code);
		}
		await user.send("/app/chat.send", { to: "ann", content: "still here" });
		await user.leave();
		const account = await guest(server);
		const anonymous = await by({ Authorization: `Bearer ${account.accessToken}` });
		const again = await anonymous.send("/app/auth.refresh", { accessToken: (await guest(server, account.deviceToken)).accessToken });
		assert.ok(Number(again.headers.expiresIn) > 3500);
		await anonymous.leave();
	});

	/* ---- one device of a guest ---- */

	test("a guest's second device takes over, and the first is told", limit, async () => {
		const strict = await start("", { "auth-anonymous.devices": 1 });
		try {
			const account = await guest(strict);
			const headers = { "device-token": account.deviceToken };
			const first = await StompUser.connect({ url: strict.wsUrl, headers });
			const soft = await first.events("/user/queue/errors");
			const second = await StompUser.connect({ url: strict.wsUrl, headers });
			assert.equal((await soft.next()).code, "TAKEN_OVER");
			assert.equal((await first.closed).code, 4409);
			assert.equal(second.id, account.userId);
			await second.leave();
		} finally {
			await strict.stop();
		}
	});

	/* ---- secrets ---- */

	test("no token, ticket or secret is in a log, at its most talkative", limit, async () => {
		const talking = await start("", { "server.log_level": "trace" });
		const [jwt, bent] = [token(), `${token().slice(0, -4)}AAAA`];
		const one = await ticket(jwt, talking);
		const user = await StompUser.connect({ factory: webSocket(talking, one) });
		await user.leave();
		const polling = await StompUser.connect({ factory: overUrl(talking.url, "xhr-polling", await ticket(jwt, talking)) });
		await polling.leave();
		for (const query of [jwt, bent, "some-secret-token"]) {
			await assert.rejects(StompUser.connect({ factory: webSocket(talking, query) }));
			await assert.rejects(StompUser.connect({ factory: overUrl(talking.url, "xhr-streaming", query) }));
			await fetchAll(`${talking.url}/api/chat/rooms?token=${query}`);
			await fetchAll(`${talking.url}/nowhere/%zz?token=${query}`);
			await fetchAll(`${talking.url}/api/auth/ws-ticket?token=${query}`);
		}
		await talking.stop();
		for (const secret of [jwt.split(".")[2], bent.split(".")[2], jwt.split(".")[1], one.slice(8), "some-secret-token", SECRET]) {
			assert.ok(!talking.log.includes(secret), `${secret} is in the log`);
		}
	});

	test("key files that others can read are refused; one is made when none is configured", limit, async () => {
		const open = path.join(dir, "open");
		await writeFile(open, SECRET);
		await chmod(open, 0o644);
		await assert.rejects(start("", {}, open), /open to others/);
		const data = await mkdtemp(path.join(dir, "data-"));
		const yaml = await readFile(path.join(REPO, "config/chat.yaml"), "utf8");
		const file = path.join(dir, "plain.yaml");
		await writeFile(file, yaml);
		const plain = { config: file, set: { "server.data_dir": data } };
		await (await startChatd(plain)).stop();
		assert.equal((await stat(path.join(data, "jwt.key"))).mode & 0o777, 0o600);
		const key = await readFile(path.join(data, "jwt.key"), "utf8");
		await (await startChatd(plain)).stop();
		assert.equal(await readFile(path.join(data, "jwt.key"), "utf8"), key);
		await chmod(path.join(data, "jwt.key"), 0o640);
		await assert.rejects(startChatd(plain), /open to others/);
	});
});
