/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures and sounds that are made here. */

import { crc32, deflateSync } from "node:zlib";

function chunk(kind, data) {
	const out = Buffer.alloc(12 + data.length);
	out.writeUInt32BE(data.length);
	out.write(kind, 4, "latin1");
	data.copy(out, 8);
	out.writeUInt32BE(crc(out.subarray(4, 8 + data.length)), 8 + data.length);
	return out;
}

function crc(data) {
	if (crc32) {
		return crc32(data);
	}
	let c = ~0;
	for (const byte of data) {
		c ^= byte;
		for (let i = 0; i < 8; i++) {
			c = (c >>> 1) ^ (0xedb88320 & -(c & 1));
		}
	}
	return ~c >>> 0;
}

/* One colour; `tail` bytes behind the picture. */
export function png(width, height, rgb, tail = 0) {
	const head = Buffer.alloc(13);
	head.writeUInt32BE(width);
	head.writeUInt32BE(height, 4);
	head.set([8, 2, 0, 0, 0], 8);
	const row = Buffer.concat([Buffer.from([0]), Buffer.alloc(width * 3, Buffer.from(rgb))]);
	const rows = deflateSync(Buffer.concat(Array(height).fill(row)));
	const parts = [Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))];
	return Buffer.concat([...parts, Buffer.alloc(tail, 7)]);
}

export function wav(seconds) {
	const head = Buffer.from("RIFF....WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data....", "latin1");
	head.writeUInt32LE(36 + 8000 * seconds, 4);
	head.writeUInt32LE(8000 * seconds, 40);
	return Buffer.concat([head, Buffer.alloc(8000 * seconds, 128)]);
}
