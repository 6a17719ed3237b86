/* Guests and accounts of a chat.yaml server, as a front end has them. */

import { fetchAll } from "./http.mjs";
import { StompUser } from "./stomp.mjs";

/* A guest account: {userId, deviceToken, accessToken, …}; `token` finds an old one again. */
export async function guest(server, token) {
	const answer = await fetchAll(`${server.url}/api/auth/anonymous`, {
		method: "POST",
		headers: { "Content-Type": "application/json", ...(token ? { "device-token": token } : {}) },
		body: "{}",
	});
	if (answer.status !== 200) {
		throw new Error(`anonymous login answered ${answer.status}: ${answer.text}`);
	}
	return answer.json;
}

/* Passwords are hashed at once and cheaply, where their cost is not what is tested. */
export const CHEAP_HASHES = {
	"auth-password.hash_threads": 0,
	"auth-password.argon2_memory": "256 KiB",
	"auth-password.argon2_passes": 1,
};

/* An account with a password, logged in to: {email, password, userId, accessToken, refreshToken, …}. */
export async function member(server, name) {
	const email = `${name.toLowerCase().replace(/[^a-z]/g, "")}@example.org`;
	const password = `a long word for ${name}`;
	const made = await api(server, null, "POST", "/api/auth/register", { email, password, nickname: name });
	if (made.status !== 201) {
		throw new Error(`registering ${name} answered ${made.status}: ${made.text}`);
	}
	return { email, password, ...(await login(server, { email, password })) };
}

export async function login(server, { email, password }, device = "a test") {
	const answer = await api(server, null, "POST", "/api/auth/authenticate", { email, password, device });
	if (answer.status !== 200) {
		throw new Error(`logging in answered ${answer.status}: ${answer.text}`);
	}
	return answer.json;
}

export function api(server, account, method, path, body) {
	return fetchAll(`${server.url}${path}`, {
		method,
		headers: {
			...(account ? { Authorization: `Bearer ${account.accessToken}` } : {}),
			...(body === undefined ? {} : { "Content-Type": "application/json" }),
		},
		body: body === undefined ? undefined : JSON.stringify(body),
	});
}

/* One device of a guest, subscribed to everything of its own. `options`: as StompUser.connect. */
export async function device(server, account, options = {}) {
	const user = await StompUser.connect({
		url: server.wsUrl,
		headers: account ? { "device-token": account.deviceToken } : {},
		...options,
	});
	user.soft = await user.events("/user/queue/errors");
	user.messages = await user.events("/user/queue/messages");
	user.typing = await user.events("/user/queue/typing");
	user.read = await user.events("/user/queue/read");
	return user;
}

/* Joins a room and follows its topic. */
export async function enter(user, roomId) {
	await user.send("/app/chat.join", { roomId });
	return user.events(`/topic/room/${roomId}`);
}
