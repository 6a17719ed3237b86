/* SPDX-License-Identifier: Apache-2.0 */
/* A bot that says in its rooms what is said to it there: "@echo hello".
 *
 *	curl -H "Authorization: Bearer $SERVER_KEY" -H "Content-Type: application/json" $URL/api/server/bots \
 *		-d '{"userId":"echo","nickname":"Echo","name":"echo bot","scopes":["publish","history","rooms"]}'
 *	BOT_KEY=ck_... URL=http://127.0.0.1:8080 node echo-bot.mjs
 *
 * Somebody brings it into a room; it listens to those that it is in when it starts. */

import { Client } from "@stomp/stompjs";
import WebSocket from "ws";
import { ChatClient } from "chatd-client";

const { URL: url = "http://127.0.0.1:8080", BOT_KEY: key, NAME: name = "echo" } = process.env;

const chat = new ChatClient({ url, login: { token: async () => key }, storage: null, Client, WebSocket });
await chat.connect();

const rooms = (await chat.rest("GET", "/api/chat/rooms")).rooms.filter((room) => room.joined);
for (const { id } of rooms) {
	const room = chat.room(id);
	room.on("message", (m) => {
		/* Never answers a program: two of them would go on for ever. */
		if (!m.bot && m.content?.startsWith(`@${name} `)) {
			room.send(m.content.slice(name.length + 2));
		}
	});
	await room.follow();
}
console.log(`${name} listens in ${rooms.length} rooms`);
